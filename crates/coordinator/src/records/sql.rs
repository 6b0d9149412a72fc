//! The records as the shell uses them, in SQL.

use std::collections::BTreeMap;

use api::maintpb::BuildResult;
use async_trait::async_trait;
use store::{Batch, Database, ReadError, WriteError};
use types::{AttemptId, BuilderName, CommitHash, Timestamp};

use super::{CURSOR, load, save};
use crate::{
    core::{Restored, Row, SnapshotKey},
    ports::{Found, KnownBuilds, Records, RecordsError, Refs},
};

/// Records in a database. Clones are the same.
#[derive(Clone)]
pub(crate) struct SqlRecords(pub(crate) Database);

impl From<ReadError> for RecordsError {
    fn from(error: ReadError) -> Self {
        if error.is_transient() { Self::Unavailable(error.into()) } else { Self::Refused(error.into()) }
    }
}

impl From<WriteError> for RecordsError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotLeader => Self::Overtaken(error.into()),
            _ if error.is_transient() => Self::Unavailable(error.into()),
            _ => Self::Refused(error.into()),
        }
    }
}

impl From<load::LoadError> for RecordsError {
    fn from(error: load::LoadError) -> Self {
        match error {
            load::LoadError::Read(error) => error.into(),
            broken @ load::LoadError::Broken(_) => Self::Refused(broken.into()),
        }
    }
}

#[async_trait]
impl Records for SqlRecords {
    async fn write(&self, rows: &[Row]) -> Result<(), RecordsError> {
        let mut batch = Batch::new();
        for row in rows {
            save(&mut batch, row.clone());
        }
        Ok(self.0.write(batch).await?)
    }

    async fn load(&self) -> Result<Restored, RecordsError> {
        Ok(load::load(&self.0).await?)
    }

    async fn timings(&self, builder: &BuilderName) -> Result<BTreeMap<String, i64>, RecordsError> {
        Ok(load::timings(&self.0, builder).await?)
    }

    async fn snapshots(&self) -> Result<Vec<(SnapshotKey, u64)>, RecordsError> {
        let rows = self.0.read("SELECT id, bytes FROM snapshots ORDER BY created DESC", vec![]).await?;
        let entry = |row: &store::Row| Ok((SnapshotKey(row.text("id")?.into()), row.number("bytes")?));
        rows.iter().map(entry).collect()
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<BuildResult>, RecordsError> {
        let rows = self
            .0
            .read(
                "SELECT o.build, o.attempt, b.builder, b.repository, b.commit_hash, b.outcome, b.reason, b.started, \
                 b.ended, b.is_try FROM outbox o JOIN builds b ON b.number = o.build ORDER BY o.build LIMIT $1",
                vec![limit.into()],
            )
            .await?;
        Ok(rows.iter().map(result).collect::<Result<_, ReadError>>()?)
    }

    async fn delivered(&self, results: &[AttemptId]) -> Result<(), RecordsError> {
        let mut done = Batch::new();
        for result in results {
            done.push(
                "DELETE FROM outbox WHERE build = $1 AND attempt = $2",
                vec![result.build.into(), result.attempt.into()],
            );
        }
        Ok(self.0.write(done).await?)
    }
}

#[async_trait]
impl Found for SqlRecords {
    async fn position(&self) -> Result<(Option<String>, Refs), RecordsError> {
        let cursor = load::meta(&self.0, CURSOR).await?;
        let rows = self.0.read("SELECT repository, git_ref, commit_hash FROM refs", vec![]).await?;
        let entry = |row: &store::Row| {
            Ok(((row.parse("repository")?, row.text("git_ref")?.to_owned()), row.parse("commit_hash")?))
        };
        Ok((cursor, rows.iter().map(entry).collect::<Result<_, ReadError>>()?))
    }

    async fn known(&self, commit: CommitHash) -> Result<KnownBuilds, RecordsError> {
        Ok(crate::find::known(&self.0, commit).await?)
    }
}

fn result(row: &store::Row) -> Result<BuildResult, ReadError> {
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
