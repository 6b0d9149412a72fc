//! The database behind its ports: slow, failing before and after the effect, and the place where a coordinator is
//! killed between two writes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use api::maintpb::BuildResult;
use async_trait::async_trait;
use coordinator::{
    core::{Restored, Retry, Row, SnapshotKey, Word},
    ports::{Found, KnownBuilds, Outcomes, Records, RecordsError, Refs, Unsaid, Words},
};
use types::{AttemptId, BuilderName, CommitHash, MachineName, RepositoryName, Timestamp};
use uuid::Uuid;

use crate::{
    context::{Context, lock},
    coordinator::Life,
    fault::Fault,
    judge::Invariant,
    tables::Tables,
};

/// The tables as one coordinator reaches them.
pub(crate) struct SimRecords {
    pub(crate) context: Arc<Context>,
    pub(crate) tables: Arc<Mutex<Tables>>,
    pub(crate) life: Arc<Life>,
}

fn failed(what: &str) -> RecordsError {
    RecordsError::Unavailable(Box::new(std::io::Error::other(what.to_owned())))
}

impl SimRecords {
    async fn disk(&self) {
        if self.context.strikes(Fault::SlowDisk, |weather| weather.slow_disk) {
            self.context.pause(500, 4000).await;
        } else if self.context.once_in(4) {
            self.context.pause(1, 8).await;
        }
        self.life.check().await;
    }

    async fn look<T>(&self, look: impl FnOnce(&Tables) -> T + Send) -> T {
        self.disk().await;
        look(&lock(&self.tables))
    }

    fn apply(&self, rows: &[Row]) {
        if let Err((invariant, what)) = lock(&self.tables).apply(rows) {
            self.context.judge.broken(invariant, what);
        }
    }
}

#[async_trait]
impl Records for SimRecords {
    async fn write(&self, rows: &[Row]) -> Result<(), RecordsError> {
        self.context.judge.call();
        self.disk().await;
        if self.context.strikes(Fault::KilledBeforeWrite, |weather| weather.kill_before_write) {
            self.life.kill().await;
        }
        if self.context.strikes(Fault::WriteFailed, |weather| weather.write_failed) {
            return Err(failed("nothing was written"));
        }
        self.apply(rows);
        if self.context.strikes(Fault::KilledAfterWrite, |weather| weather.kill_after_write) {
            self.life.kill().await;
        }
        if self.context.strikes(Fault::WriteFailedAfterEffect, |weather| weather.write_failed_after) {
            return Err(failed("the connection broke"));
        }
        Ok(())
    }

    async fn load(&self) -> Result<Restored, RecordsError> {
        Ok(self.look(Tables::restored).await)
    }

    async fn timings(&self, builder: &BuilderName) -> Result<BTreeMap<String, i64>, RecordsError> {
        Ok(self.look(|tables| tables.timings(builder)).await)
    }

    async fn snapshots(&self) -> Result<Vec<(SnapshotKey, u64)>, RecordsError> {
        Ok(self.look(Tables::snapshots).await)
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<BuildResult>, RecordsError> {
        let found = self.look(|tables| {
            let rows = tables.outbox.iter().take(limit);
            rows.filter_map(|id| Some(result(*id, tables.end_of(*id)?))).collect()
        });
        Ok(found.await)
    }

    async fn delivered(&self, results: &[AttemptId]) -> Result<(), RecordsError> {
        self.disk().await;
        if self.context.strikes(Fault::WriteFailed, |weather| weather.write_failed) {
            return Err(failed("nothing was written"));
        }
        let mut tables = lock(&self.tables);
        for result in results {
            tables.outbox.remove(result);
            if !self.context.judge.has_result(result.build) {
                let what = format!("the result of {result} left the outbox and is not in the log");
                self.context.judge.broken(Invariant::Once, what);
            }
        }
        Ok(())
    }

    async fn victims(
        &self,
        machine: &MachineName,
        since: Timestamp,
        reason: &str,
    ) -> Result<Vec<Retry>, RecordsError> {
        Ok(self.look(|tables| tables.victims(machine, since, reason)).await)
    }
}

#[async_trait]
impl Found for SimRecords {
    async fn position(&self) -> Result<(Option<String>, Refs), RecordsError> {
        Ok(self.look(Tables::position).await)
    }

    async fn known(&self, commit: CommitHash) -> Result<KnownBuilds, RecordsError> {
        Ok(self.look(|tables| tables.known(commit)).await)
    }
}

#[async_trait]
impl Words for SimRecords {
    async fn unsaid(&self, limit: usize) -> Result<Vec<Unsaid>, RecordsError> {
        Ok(self.look(|tables| tables.unsaid(limit)).await)
    }

    async fn said(&self, set: Uuid, word: Word, _: &str, _: Timestamp) -> Result<(), RecordsError> {
        self.disk().await;
        if self.context.strikes(Fault::WriteFailed, |weather| weather.write_failed) {
            return Err(failed("nothing was written"));
        }
        lock(&self.tables).said(set, word);
        Ok(())
    }

    async fn outcomes(&self, _: &RepositoryName, commit: CommitHash) -> Result<Outcomes, RecordsError> {
        Ok(self.look(|tables| tables.outcomes(commit)).await)
    }
}

fn result(id: AttemptId, end: &coordinator::core::BuildEnd) -> BuildResult {
    BuildResult {
        build: id.build.0,
        attempt: id.attempt,
        builder: end.key.builder.to_string(),
        repository: end.key.repository.to_string(),
        commit: end.key.commit.to_string(),
        outcome: end.outcome.to_string(),
        reason: end.reason.clone(),
        started: Some(rpc::timestamp(end.started)),
        ended: Some(rpc::timestamp(end.ended)),
        is_try: end.is_try,
    }
}
