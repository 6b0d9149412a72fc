//! Keeps one mirror like its origin.
//!
//! An origin on this machine is followed in two steps. First its refs are read in its folder and told to the watchers as
//! soon as their commits can be read there: that takes a few milliseconds. Its objects are copied into the mirror a
//! moment later, once for many changes. Any other origin is fetched first, when it is tickled or time has come.

use std::{sync::Arc, time::Duration};

use runtime::clock::SharedClock;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Origin, Timings,
    fetch::Fetcher,
    follow::Follower,
    git::GitError,
    hub::Hub,
    mirror::{ASKED_REFS, TRY_REFS},
    push,
    repository::{Repository, Wanted},
};

/// How often processes that nobody uses are looked for.
const LOOK_FOR_IDLE: Duration = Duration::from_secs(15);

/// Keeps one repository.
pub(crate) struct Keeper {
    repository: Arc<Repository>,
    fetcher: Arc<Fetcher>,
    clock: SharedClock,
    timings: Timings,
}

impl Keeper {
    /// Of one repository.
    pub(crate) fn new(
        repository: Arc<Repository>,
        hub: Arc<Hub>,
        clock: SharedClock,
        timings: Timings,
    ) -> Self {
        let fetcher = Arc::new(Fetcher::new(repository.clone(), hub, clock.clone()));
        Self { repository, fetcher, clock, timings }
    }

    /// Tells what the mirror holds from an earlier run, so that a watcher who comes early does not see its refs gone.
    pub(crate) async fn load(&self) {
        let name = &self.repository.name;
        self.repository.mirror.remove_locks();
        let loaded = async {
            self.repository.mirror.make().await?;
            self.fetcher.publish_mirror().await
        };
        if let Err(error) = loaded.await {
            warn!(repo.name = %name, "the mirror of `{name}` cannot be read and may be made anew: {error}");
        }
    }

    /// Until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let follow = async {
            match &self.repository.config.origin {
                Origin::Local(_) => Follower::new(self.fetcher.clone(), self.timings.clone()).run().await,
                Origin::Remote(_) => std::future::pending().await,
            }
        };
        let pushes = self.repository.config.push_to.iter().map(|to| {
            let changes = self.fetcher.changes.subscribe();
            push::run(self.repository.clone(), to.clone(), changes, self.timings.clone(), cancel.clone())
        });
        let pushes = futures_util::future::join_all(pushes);
        let all =
            async { tokio::join!(follow, self.fetch_again_and_again(), self.tidy_now_and_then(), pushes) };
        Box::pin(cancel.run_until_cancelled(all)).await;
    }

    /// Fetches when there is something new; an origin elsewhere is also asked now and then.
    async fn fetch_again_and_again(&self) {
        let is_local = matches!(self.repository.config.origin, Origin::Local(_));
        let mut pause = self.timings.first_retry;
        let mut next = if is_local { far_away() } else { Instant::now() };
        let mut failures = 0_u32;
        loop {
            tokio::select! {
                () = self.repository.stale.notified() => {
                    if is_local {
                        sleep(self.timings.settle).await;
                    } else if self.fetch_wanted(next).await {
                        continue;
                    }
                }
                () = sleep_until(next) => {}
            }
            let result = self.fetcher.fetch_and_tell().await;
            if let Err(error) = result {
                self.repository.failed(self.fetcher.describe(&error));
                failures += 1;
                if failures % 5 == 2 {
                    self.fetcher.mend().await;
                }
                next = Instant::now() + pause;
                pause = (pause * 2).min(self.timings.last_retry);
                continue;
            }
            failures = 0;
            pause = self.timings.first_retry;
            next = if is_local { far_away() } else { Instant::now() + self.repository.config.poll };
        }
    }

    /// Fetches only some refs, if no others are wanted and all will be fetched in time anyway. Answers whether it did.
    async fn fetch_wanted(&self, next: Instant) -> bool {
        let wanted = match self.repository.take_wanted() {
            Wanted::Refs(refs) if !refs.is_empty() && Instant::now() < next => refs,
            _ => return false,
        };
        match self.fetcher.fetch_refs_and_tell(&wanted).await {
            Ok(()) => true,
            Err(error) => {
                // One that is gone, for example: who fetches all sees it.
                let name = &self.repository.name;
                debug!(repo.name = %name, "some refs of `{name}` cannot be fetched by themselves: {error}");
                false
            }
        }
    }

    async fn tidy_now_and_then(&self) {
        let mut next_upkeep = Instant::now() + self.timings.upkeep;
        let mut seen = *self.fetcher.changes.borrow();
        loop {
            sleep(LOOK_FOR_IDLE.min(self.timings.idle).min(self.timings.upkeep)).await;
            self.repository.end_idle(self.timings.idle);
            if Instant::now() < next_upkeep {
                continue;
            }
            next_upkeep = Instant::now() + self.timings.upkeep;
            let mut done = self.prune().await;
            let changes = *self.fetcher.changes.borrow();
            if changes != seen {
                seen = changes;
                done = done.and(self.repository.mirror.tidy().await);
            }
            if let Err(error) = done {
                let name = &self.repository.name;
                warn!(repo.name = %name, "the mirror of `{name}` cannot be tidied: {error}");
            }
        }
    }

    /// Drops what was uploaded or asked for long ago.
    async fn prune(&self) -> Result<(), GitError> {
        if !self.repository.mirror.folder().join("HEAD").exists() {
            return Ok(());
        }
        let ours = self.repository.mirror.refs(&[TRY_REFS.to_owned(), ASKED_REFS.to_owned()]).await?;
        for kept in ours {
            let over = self.repository.kept.is_over(&kept.name, self.clock.now(), self.timings.keep_tries);
            let over = over.map_err(|source| GitError::Run { what: "update-ref".into(), source })?;
            if over {
                self.repository.mirror.delete_ref(&kept.name).await?;
                self.repository.kept.forget(&kept.name);
            }
        }
        Ok(())
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_hours(8760)
}
