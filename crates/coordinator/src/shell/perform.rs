//! What the core wants done: runs tasks, ends leases, answers, tells.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pages::view::LiveEvent;
use runtime::{SharedClock, Tasks};
use store::Blobs;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{BuildNumber, Fence, LeaseId, MachineName, Timestamp};

use super::{Handle, Hub, runner, session, snapshots};
use crate::{
    core::{Action, Arrival, Assignment, Connection, Event, Mutation, Preparation, State},
    ports::{Buildlet, Logs, Records},
    settings::Settings,
    view::cell,
};

/// Numbers that a farm has as they are, and a world of the simulator smaller, so that it meets them.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// How many bytes of snapshots are kept. The newest is kept whatever its size.
    pub snapshot_bytes: u64,
    /// Output is acknowledged when this much of it has become durable; the rest goes with the lease.
    pub acknowledge_bytes: u64,
    /// A bug that is put in on purpose.
    pub mutation: Option<Mutation>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { snapshot_bytes: 20 << 30, acknowledge_bytes: 4 << 20, mutation: None }
    }
}

/// Pauses between calls that end a lease and were lost.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How far back builds are begun again that failed on a machine which is in quarantine now.
const VICTIMS_SINCE: Duration = Duration::from_hours(6);

/// What every runner needs.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) handle: Handle,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) clock: SharedClock,
    pub(crate) hub: Hub,
    pub(crate) settings: Settings,
    pub(crate) tuning: Tuning,
    /// gitmirror's URL, without a slash at the end.
    pub(crate) gitmirror: Arc<str>,
    /// Our own, as machines reach it.
    pub(crate) url: Arc<str>,
}

/// The way to a machine.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) buildlet: Arc<dyn Buildlet>,
    /// Cancelled when the connection is gone.
    pub(super) closed: CancellationToken,
}

impl Line {
    /// Ends a lease. A call that was lost says nothing about the machine: it is asked again for as long as the connection
    /// stands, since a machine whose lease has not ended serves nobody.
    async fn end_lease(&self, lease: buildlet_client::Lease) -> Result<(), buildlet_client::Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.buildlet.end_lease(lease).await {
                Err(error) if error.is_connection_loss() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                ended => return ended,
            }
        }
    }
}

/// Performs actions. Never waits: what takes time is a job.
pub(crate) struct Performer {
    worker: Worker,
    tasks: Tasks,
    lines: BTreeMap<MachineName, Line>,
    running: BTreeMap<LeaseId, CancellationToken>,
    replies: BTreeMap<u64, oneshot::Sender<Vec<BuildNumber>>>,
}

impl Performer {
    pub(crate) fn new(worker: Worker, tasks: Tasks) -> Self {
        Self { worker, tasks, lines: BTreeMap::new(), running: BTreeMap::new(), replies: BTreeMap::new() }
    }

    pub(super) fn hub(&self) -> Hub {
        self.worker.hub.clone()
    }

    pub(super) fn expect(&mut self, token: u64, reply: oneshot::Sender<Vec<BuildNumber>>) {
        self.replies.insert(token, reply);
    }

    pub(super) fn link(&mut self, arrival: &Arrival, buildlet: Arc<dyn Buildlet>, closed: CancellationToken) {
        let line = Line { connection: arrival.connection, buildlet, closed };
        self.lines.insert(arrival.info.name.clone(), line);
        self.worker.hub.tell(|| LiveEvent::Farm);
    }

    pub(super) fn perform(&mut self, action: Action, state: &State) {
        match action {
            Action::Run(assignment) => self.run(*assignment),
            Action::Prepare(preparation) => self.prepare(*preparation),
            Action::SessionChanged(_) => self.worker.hub.session_changed(),
            Action::Speak => {
                self.worker.hub.speak();
                self.worker.hub.tell(|| LiveEvent::Farm);
            }
            Action::Stop(lease) => {
                self.stop(lease);
                self.worker.hub.tell(|| LiveEvent::Farm);
            }
            Action::EndLease { machine, connection, lease, fence } => {
                self.stop(lease);
                self.end_lease(machine, connection, (lease, fence));
            }
            Action::Reply { token, builds } => {
                if let Some(reply) = self.replies.remove(&token) {
                    // Whoever asked may have gone; the builds stay.
                    let _ = reply.send(builds);
                }
            }
            Action::SnapshotStored => self.job("room for snapshots", snapshots::make_room),
            Action::RemoveSnapshot(key) => {
                self.job("removal of a snapshot", |worker| snapshots::remove(worker, key));
            }
            Action::Quarantined(machine) => self.quarantined(machine, state),
            Action::Changed(number) => self.changed(number, state),
            Action::Ended(end) => {
                info!(build.id = %end.attempt.build, "build {} {}", end.attempt.build, end.outcome);
                self.worker.hub.result();
                let shown = || cell::ended(end.attempt.build, (end.outcome, end.flakes), &end.reason);
                self.worker.hub.tell(|| cell::live(&end.key, shown()));
            }
        }
    }

    /// Goes on with what the engine before may have left half done.
    pub(super) fn resume(&self, state: &State) {
        for machine in state.machines().filter(|machine| !machine.quarantine.is_empty()) {
            self.begin_victims_again(machine.info.name.clone());
        }
    }

    /// Says so to the log and to open pages, and has begun again what ended by the machine's fault.
    fn quarantined(&self, name: MachineName, state: &State) {
        let reason = state.machine(&name).map(|machine| machine.quarantine.clone()).unwrap_or_default();
        warn!(machine.name = %name, "machine {name} is in quarantine: {reason}");
        self.worker.hub.tell(|| LiveEvent::Farm);
        self.begin_victims_again(name);
    }

    /// Has begun again what a machine alone had fail. What was begun again already is no victim any more.
    fn begin_victims_again(&self, name: MachineName) {
        self.job("victims of a machine", |worker| async move {
            let now = worker.clock.now();
            let since = Timestamp(now.0 - VICTIMS_SINCE.as_micros() as i64);
            let told = format!("machine `{name}` is in quarantine, and nothing else ran what failed");
            match worker.records.victims(&name, since, &told).await {
                Ok(victims) => {
                    for victim in victims {
                        let _ = worker.handle.tell(Event::Retry(Box::new(victim))).await;
                    }
                }
                Err(error) => warn!(machine.name = %name, "victims of {name} cannot be looked up: {error}"),
            }
        });
    }

    fn job<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(Worker) -> F,
    ) {
        self.tasks.job(name, work(self.worker.clone()));
    }

    fn changed(&self, number: BuildNumber, state: &State) {
        let hub = &self.worker.hub;
        hub.change(number, state.build(number).is_none());
        hub.tell(|| LiveEvent::Build { number });
        if let Some(build) = state.build(number) {
            hub.tell(|| cell::live(&build.key, cell::active(state, build)));
        }
    }

    fn run(&mut self, assignment: Assignment) {
        self.stop(assignment.lease);
        let Some(line) = self.line(&assignment.machine, assignment.connection) else { return };
        let (lease, worker) = (assignment.lease, self.worker.clone());
        self.work(lease, runner::run(worker, line, assignment));
    }

    fn prepare(&mut self, preparation: Preparation) {
        self.stop(preparation.lease);
        let Some(line) = self.line(&preparation.machine, preparation.connection) else { return };
        let (lease, worker) = (preparation.lease, self.worker.clone());
        self.work(lease, session::prepare(worker, line, preparation));
    }

    /// The way to a machine. A connection that is gone is told of by its own event, which is on its way.
    fn line(&self, machine: &MachineName, connection: Connection) -> Option<Line> {
        self.lines.get(machine).filter(|line| line.connection == connection).cloned()
    }

    fn work(&mut self, lease: LeaseId, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = CancellationToken::new();
        self.running.insert(lease, stopped.clone());
        let shutdown = self.tasks.shutdown();
        self.tasks.job("task of a lease", async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                // The machine goes on without us; whoever starts next re-attaches.
                () = shutdown.cancelled() => {}
                () = Box::pin(work) => {}
            }
        });
    }

    fn stop(&mut self, lease: LeaseId) {
        if let Some(running) = self.running.remove(&lease) {
            running.cancel();
        }
    }

    fn end_lease(&mut self, machine: MachineName, connection: Connection, lease: (LeaseId, Fence)) {
        self.worker.hub.tell(|| LiveEvent::Farm);
        let Some(line) = self.line(&machine, connection) else { return };
        let handle = self.worker.handle.clone();
        self.tasks.job("end of a lease", async move {
            let lease = buildlet_client::Lease { id: lease.0, fence: lease.1 };
            let ended = tokio::select! {
                biased;
                // It will connect again and say what it holds.
                () = line.closed.cancelled() => return,
                ended = line.end_lease(lease) => ended,
            };
            let problem = match ended {
                Ok(()) => None,
                Err(error) => {
                    warn!(machine.name = %machine, "machine {machine} could not be cleaned: {error}");
                    Some(format!("it could not be cleaned: {error}"))
                }
            };
            let _ = handle.tell(Event::Cleaned { machine, fence: lease.fence, problem }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use buildlet_client::{Error, ExecEvent, ExecSpec, Fetched, Lease, Status};
    use bytes::Bytes;
    use futures_util::stream::BoxStream;
    use types::ExecId;

    use super::*;

    /// Loses the first calls.
    struct Lossy(AtomicU32);

    fn lost() -> Error {
        Error::Unavailable("lost".to_owned())
    }

    #[async_trait]
    impl Buildlet for Lossy {
        async fn status(&self) -> Result<Status, Error> {
            Err(lost())
        }

        async fn start_exec(&self, _: Lease, _: ExecId, _: &ExecSpec) -> Result<(), Error> {
            Err(lost())
        }

        async fn watch_exec(
            &self,
            _: ExecId,
            _: u64,
        ) -> Result<BoxStream<'static, Result<ExecEvent, Error>>, Error> {
            Err(lost())
        }

        async fn acknowledge(&self, _: ExecId, _: u64) -> Result<(), Error> {
            Err(lost())
        }

        async fn fetch_tree(&self, _: Lease, _: &str, _: &str) -> Result<Fetched, Error> {
            Err(lost())
        }

        async fn read_tree(
            &self,
            _: Lease,
            _: &[String],
        ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
            Err(lost())
        }

        async fn empty(&self, _: Lease) -> Result<(), Error> {
            Err(lost())
        }

        async fn end_lease(&self, _: Lease) -> Result<(), Error> {
            if self.0.fetch_sub(1, Ordering::Relaxed) > 1 { Err(lost()) } else { Ok(()) }
        }
    }

    // Found by the simulator: the machine stayed unfit until it connected again.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_lease_is_asked_for_again_when_the_call_was_lost() {
        let buildlet = Arc::new(Lossy(AtomicU32::new(4)));
        let line =
            Line { connection: Connection(1), buildlet: buildlet.clone(), closed: CancellationToken::new() };
        let lease = Lease { id: LeaseId(runtime::new_id()), fence: Fence(1) };
        assert_eq!(line.end_lease(lease).await, Ok(()));
        assert_eq!(buildlet.0.load(Ordering::Relaxed), 0);
    }
}
