//! Results on their way to the mutation log. A row was written with the result; it goes when the log has it. A repeat
//! changes nothing there, so a crash in between costs nothing.

use std::sync::Arc;

use runtime::SharedClock;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use types::{AttemptId, BuildNumber};

use super::Hub;
use crate::{
    core::Mutation,
    ports::{MutationLog, Records},
};

/// How many results go in one call.
const BATCH: usize = 500;
/// How long to wait before a log that cannot be reached is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Sends results.
pub(crate) struct Outbox {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) mutations: Arc<dyn MutationLog>,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
    pub(crate) mutation: Option<Mutation>,
}

impl Outbox {
    /// Sends what is there, then whatever comes.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut failing = false;
        loop {
            let pause = match self.send().await {
                Ok(0) => {
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return Ok(()),
                        () = self.hub.results() => continue,
                    }
                }
                Ok(_) => {
                    if failing {
                        self.hub.solved("outbox");
                        failing = false;
                    }
                    continue;
                }
                Err(error) => {
                    if !failing {
                        warn!("results wait for the mutation log: {error:#}");
                        let text = format!("results wait for the mutation log: {error:#}");
                        self.hub.problem("outbox", text, "see that maintnerd runs", self.clock.now());
                        failing = true;
                    }
                    AGAIN
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends one batch; says how many results it had.
    async fn send(&self) -> anyhow::Result<usize> {
        let results = self.records.outbox(BATCH).await?;
        if results.is_empty() {
            return Ok(0);
        }
        let id = |build: u64, attempt: u32| AttemptId { build: BuildNumber(build), attempt };
        let sent: Vec<AttemptId> = results.iter().map(|result| id(result.build, result.attempt)).collect();
        if Mutation::OutboxFirst.is(self.mutation) {
            self.records.delivered(&sent).await?;
        }
        self.mutations.append(results).await?;
        self.records.delivered(&sent).await?;
        Ok(sent.len())
    }
}
