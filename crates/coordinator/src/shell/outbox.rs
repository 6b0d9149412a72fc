//! Results on their way to the mutation log. A row was written with the result; it goes when the log has it. A repeat
//! changes nothing there, so a crash in between costs nothing.

use api::{
    maintner::{AppendBuildResultsRequest, mutation_service_client::MutationServiceClient},
    maintpb::BuildResult,
};
use runtime::SharedClock;
use store::{Batch, Database, ReadError, Row};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use types::Timestamp;

use super::Hub;

/// How many results go in one call.
const BATCH: i64 = 500;
/// How long to wait before a log that cannot be reached is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Sends results.
pub(crate) struct Outbox {
    pub(crate) database: Database,
    pub(crate) maintnerd: MutationServiceClient<rpc::Channel>,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
}

impl Outbox {
    /// Sends what is there, then whatever comes.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut failing = false;
        loop {
            let pause = match self.send().await {
                Ok(0) => {
                    tokio::select! {
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
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends one batch; says how many results it had.
    async fn send(&self) -> anyhow::Result<usize> {
        let rows = self
            .database
            .read(
                "SELECT o.build, o.attempt, b.builder, b.repository, b.commit_hash, b.outcome, b.reason, b.started, \
                 b.ended, b.is_try FROM outbox o JOIN builds b ON b.number = o.build ORDER BY o.build LIMIT $1",
                vec![BATCH.into()],
            )
            .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let results = rows.iter().map(result).collect::<Result<Vec<_>, _>>()?;
        let mut done = Batch::new();
        for result in &results {
            done.push(
                "DELETE FROM outbox WHERE build = $1 AND attempt = $2",
                vec![result.build.into(), result.attempt.into()],
            );
        }
        self.maintnerd
            .clone()
            .append_build_results(rpc::request(AppendBuildResultsRequest { results }))
            .await?;
        self.database.write(done).await?;
        Ok(rows.len())
    }
}

fn result(row: &Row) -> Result<BuildResult, ReadError> {
    let time = |at: Option<Timestamp>| at.map(rpc::timestamp);
    Ok(BuildResult {
        build: row.number("build")?,
        attempt: row.number("attempt")?,
        builder: row.text("builder")?.to_owned(),
        repository: row.text("repository")?.to_owned(),
        commit: row.text("commit_hash")?.to_owned(),
        outcome: row.opt_text("outcome")?.unwrap_or_default().to_owned(),
        reason: row.text("reason")?.to_owned(),
        started: time(row.opt_time("started")?),
        ended: time(row.opt_time("ended")?),
        is_try: row.flag("is_try")?,
    })
}
