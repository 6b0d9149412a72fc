//! `WatchBuilds`: builds as they are, then as they change, each at most twice a second; its end at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::coordinator::{Checkpoint, WatchBuildsResponse, watch_builds_response::Event};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};
use tonic::Status;
use types::BuildNumber;

use super::{build_service::Answers, convert, failed, stopping};
use crate::{
    shell::{Change, Hub},
    view::{ViewError, Viewer},
};

/// Between two deliveries of one build.
const APART: Duration = Duration::from_millis(500);
/// Between checkpoints while idle.
const IDLE: Duration = Duration::from_secs(15);

struct Watch {
    viewer: Viewer,
    changes: Receiver<Change>,
    /// Only these; all if empty.
    only: BTreeSet<BuildNumber>,
    /// What is to be delivered, and from when it may be.
    due: BTreeMap<BuildNumber, Instant>,
    /// When each was delivered, as far as that matters.
    delivered: BTreeMap<BuildNumber, Instant>,
    /// The checkpoint after the first state has been sent.
    started: bool,
    quiet_since: Instant,
}

/// Begins a watch.
pub(super) async fn watch(
    viewer: Viewer,
    hub: &Hub,
    only: BTreeSet<BuildNumber>,
) -> Result<Answers<WatchBuildsResponse>, Status> {
    // Listen first, look then: a change in between is delivered twice rather than never.
    let changes = hub.changes();
    let now = Instant::now();
    let first: Vec<BuildNumber> = if only.is_empty() {
        let look = |state: &crate::core::State| state.builds().map(|build| build.number).collect();
        viewer.handle.ask(look).await.map_err(stopping)?
    } else {
        for number in &only {
            viewer.full(*number, true).await.map_err(|error| failed(&error))?;
        }
        only.iter().copied().collect()
    };
    let due = first.into_iter().map(|number| (number, now)).collect();
    let watch =
        Watch { viewer, changes, only, due, delivered: BTreeMap::new(), started: false, quiet_since: now };
    Ok(Box::pin(futures_util::stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some(event)) => Some((Ok(WatchBuildsResponse { event: Some(event) }), Some(watch))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl Watch {
    async fn next(&mut self) -> Result<Option<Event>, Status> {
        loop {
            let now = Instant::now();
            if let Some(number) = self.due.iter().find(|(_, at)| **at <= now).map(|(number, _)| *number) {
                self.due.remove(&number);
                let viewed = if self.only.is_empty() {
                    self.viewer.brief(number).await
                } else {
                    self.viewer.full(number, true).await
                };
                match viewed {
                    Ok(full) => {
                        if full.active.is_some() {
                            self.delivered.insert(number, now);
                        } else {
                            self.delivered.remove(&number);
                        }
                        self.quiet_since = now;
                        return Ok(Some(Event::Build(convert::full(&full))));
                    }
                    Err(ViewError::UnknownBuild(_)) => continue,
                    Err(error) => return Err(failed(&error)),
                }
            }
            if !self.started || now.duration_since(self.quiet_since) >= IDLE {
                self.started = true;
                self.quiet_since = now;
                return Ok(Some(Event::Checkpoint(Checkpoint {})));
            }
            let wake = self.due.values().min().copied().unwrap_or(now + IDLE).min(self.quiet_since + IDLE);
            tokio::select! {
                changed = self.changes.recv() => match changed {
                    Ok(change) => self.note(change),
                    Err(RecvError::Lagged(_)) => self.look_again().await?,
                    Err(RecvError::Closed) => return Ok(None),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn note(&mut self, Change { number, ended }: Change) {
        if !self.only.is_empty() && !self.only.contains(&number) {
            return;
        }
        let now = Instant::now();
        let at = self.delivered.get(&number).map_or(now, |delivered| *delivered + APART);
        let due = self.due.entry(number).or_insert(at);
        if ended {
            *due = now;
        }
    }

    /// Changes were missed: all that may have changed is delivered again.
    async fn look_again(&mut self) -> Result<(), Status> {
        let look = |state: &crate::core::State| state.builds().map(|build| build.number).collect::<Vec<_>>();
        let active = self.viewer.handle.ask(look).await.map_err(stopping)?;
        let known: Vec<BuildNumber> = self.delivered.keys().chain(&self.only).copied().collect();
        for number in active.into_iter().chain(known) {
            self.note(Change { number, ended: false });
        }
        Ok(())
    }
}
