//! Supervised tasks: nothing dies unseen.
//!
//! A service that ends early, fails or panics fails the whole; so does a job that panics. The owner waits in
//! [`Tasks::finish`], which is also where the process drains when it is asked to stop.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// How long tasks that are dropped may take to reach their next await.
const DROP: Duration = Duration::from_secs(1);

/// The tasks of one server. Clones are the same set.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    /// Asks every task to end.
    shutdown: CancellationToken,
    /// Ends those that did not.
    abort: CancellationToken,
    /// Cancelled at the first failure.
    failed: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<anyhow::Error>,
    running: BTreeMap<&'static str, usize>,
}

/// How a task's future ended, if it was not aborted.
type Ended = Result<anyhow::Result<()>, Box<dyn Any + Send>>;

impl Tasks {
    /// No tasks yet. `shutdown` asks all of them to end.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            tracker: TaskTracker::new(),
            shutdown,
            abort: CancellationToken::new(),
            failed: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    /// The token that asks every task to end. [`Tasks::finish`] cancels it too.
    pub fn shutdown(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    /// Runs something that lives as long as the server: it may end well only after shutdown was asked for.
    pub fn service(&self, name: &'static str, f: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let tasks = self.clone();
        self.run(name, f, move |ended| match ended {
            Ok(Ok(())) if tasks.0.shutdown.is_cancelled() => {}
            Ok(Ok(())) => tasks.fail(anyhow!("`{name}` ended early")),
            Ok(Err(error)) => tasks.fail(error.context(format!("run `{name}`"))),
            Err(panic) => tasks.fail(anyhow!("`{name}` panicked: {}", text_of(panic.as_ref()))),
        });
    }

    /// Runs something short-lived. It handles its own errors; a panic fails the whole.
    pub fn job(&self, name: &'static str, f: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        self.run(name, f.map(Ok), move |ended| {
            if let Err(panic) = ended {
                tasks.fail(anyhow!("`{name}` panicked: {}", text_of(panic.as_ref())));
            }
        });
    }

    /// Drops every task where it is, as the end of the process would: none takes a further step. What the simulator
    /// does to a service that it kills.
    pub fn kill(&self) {
        self.0.abort.cancel();
    }

    /// Waits until shutdown is asked for or the first failure; then cancels the token and drains for up to `grace`.
    /// Tasks that are left are dropped at their next await, and named in the log. The first failure is the error.
    pub async fn finish(self, grace: Duration) -> anyhow::Result<()> {
        tokio::select! {
            () = self.0.shutdown.cancelled() => {}
            () = self.0.failed.cancelled() => {}
        }
        self.0.shutdown.cancel();
        self.0.tracker.close();
        if tokio::time::timeout(grace, self.0.tracker.wait()).await.is_err() {
            let left = self.running();
            tracing::warn!(tasks = %left, "dropped tasks that did not end within {grace:?}: {left}");
            self.0.abort.cancel();
            // One that blocks its thread has no next await: the process ends without it.
            let _ = tokio::time::timeout(DROP, self.0.tracker.wait()).await;
        }
        self.state().failure.take().map_or(Ok(()), Err)
    }

    fn run(
        &self,
        name: &'static str,
        f: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        end: impl FnOnce(Ended) + Send + 'static,
    ) {
        *self.state().running.entry(name).or_default() += 1;
        let tasks = self.clone();
        // In one place from the start: what wraps it would copy it, and some are kilobytes.
        let f = Box::pin(f);
        let task = async move {
            tokio::select! {
                // In this order, so that what is killed does not take one step more.
                biased;
                () = tasks.0.abort.cancelled() => {}
                ended = AssertUnwindSafe(f).catch_unwind() => end(ended),
            }
            tasks.ended(name);
        };
        self.0.tracker.spawn(task.in_current_span());
    }

    fn fail(&self, error: anyhow::Error) {
        let mut state = self.state();
        if state.failure.is_none() {
            tracing::error!("stopping: {error:#}");
            state.failure = Some(error);
        } else {
            tracing::error!("after the first failure: {error:#}");
        }
        self.0.failed.cancel();
    }

    fn ended(&self, name: &'static str) {
        let mut state = self.state();
        if let Some(count) = state.running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(name);
            }
        }
    }

    fn running(&self) -> String {
        let names = |(name, count): (&&str, &usize)| match count {
            1 => format!("`{name}`"),
            _ => format!("`{name}` ({count})"),
        };
        self.state().running.iter().map(names).collect::<Vec<_>>().join(", ")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn tasks() -> Tasks {
        Tasks::new(CancellationToken::new())
    }

    fn waiting(tasks: &Tasks) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let shutdown = tasks.shutdown();
        async move {
            shutdown.cancelled().await;
            Ok(())
        }
    }

    async fn failure(tasks: Tasks) -> String {
        format!("{:#}", tasks.finish(GRACE).await.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn services_that_end_after_shutdown_end_well() {
        let tasks = tasks();
        tasks.service("waits", waiting(&tasks));
        tasks.shutdown().cancel();
        tasks.finish(GRACE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_ends_early_fails_the_whole_and_stops_the_others() {
        let tasks = tasks();
        tasks.service("waits", waiting(&tasks));
        tasks.service("leaves", async { Ok(()) });
        assert_eq!(failure(tasks).await, "`leaves` ended early");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_is_the_error_and_the_first_one_counts() {
        let tasks = tasks();
        tasks.service("breaks", async { Err(anyhow!("disk is gone").context("write")) });
        let shutdown = tasks.shutdown();
        tasks.service("follows", async move {
            shutdown.cancelled().await;
            Err(anyhow!("because of the first"))
        });
        assert_eq!(failure(tasks).await, "run `breaks`: write: disk is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_fails_the_whole_also_in_a_job() {
        let service = tasks();
        service.service("service", async { panic!("at the {}", "disco") });
        assert_eq!(failure(service).await, "`service` panicked: at the disco");
        let job = tasks();
        job.job("job", async { panic!("now") });
        assert_eq!(failure(job).await, "`job` panicked: now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_may_end_at_any_time_and_is_drained() {
        let tasks = tasks();
        tasks.job("short", async {});
        let done = Arc::new(AtomicBool::new(false));
        let (flag, shutdown) = (done.clone(), tasks.shutdown());
        tasks.job("last words", async move {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE / 2).await;
            flag.store(true, Ordering::SeqCst);
        });
        tasks.shutdown().cancel();
        tasks.finish(GRACE).await.unwrap();
        assert!(done.load(Ordering::SeqCst), "finish did not wait for the job");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_within_the_grace_is_dropped() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let tasks = tasks();
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = Dropped(dropped.clone());
        tasks.job("deaf", async move {
            std::future::pending::<()>().await;
            drop(guard);
        });
        tasks.shutdown().cancel();
        let begin = tokio::time::Instant::now();
        tasks.finish(GRACE).await.unwrap();
        assert_eq!(begin.elapsed(), GRACE);
        assert!(dropped.load(Ordering::SeqCst), "the task still runs");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_are_over_leave_nothing_behind() {
        let tasks = tasks();
        for _ in 0..100 {
            tasks.job("short", async {});
        }
        while !tasks.0.tracker.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.running(), "");
    }
}
