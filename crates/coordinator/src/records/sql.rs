//! The records as the shell uses them, in SQL.

use std::collections::BTreeMap;

use api::maintpb::BuildResult;
use async_trait::async_trait;
use store::{Batch, Database, ReadError, WriteError};
use types::{AttemptId, BuilderName, CommitHash, MachineName, RepositoryName, Timestamp};
use uuid::Uuid;

use super::{CURSOR, load, save, tries, victims};
use crate::{
    core::{Restored, Retry, Row, SnapshotKey, Word},
    ports::{Found, KnownBuilds, Outcomes, Records, RecordsError, Refs, Unsaid, Words},
};

/// Results to report: those of builds that were begun again as they had ended then.
const OUTBOX: &str = "SELECT o.build, o.attempt, b.builder, b.repository, b.commit_hash, b.is_try, \
    COALESCE(r.outcome, b.outcome) AS outcome, CASE WHEN r.outcome IS NULL THEN b.reason ELSE r.told END AS reason, \
    CASE WHEN r.outcome IS NULL THEN b.started ELSE r.started END AS started, COALESCE(r.ended, b.ended) AS ended \
    FROM outbox o JOIN builds b ON b.number = o.build \
    LEFT JOIN retries r ON r.build = o.build AND r.attempt = o.attempt ORDER BY o.build, o.attempt LIMIT $1";

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
        let rows = self.0.read(OUTBOX, vec![limit.into()]).await?;
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

    async fn victims(
        &self,
        machine: &MachineName,
        since: Timestamp,
        reason: &str,
    ) -> Result<Vec<Retry>, RecordsError> {
        let mut found = Vec::new();
        for number in victims::of(&self.0, machine, since).await? {
            found.extend(load::retry(&self.0, number, (false, reason)).await?);
        }
        Ok(found)
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

#[async_trait]
impl Words for SqlRecords {
    async fn unsaid(&self, limit: usize) -> Result<Vec<Unsaid>, RecordsError> {
        Ok(tries::unsaid(&self.0, limit).await?)
    }

    async fn said(&self, set: Uuid, word: Word, note: &str, at: Timestamp) -> Result<(), RecordsError> {
        Ok(self.0.write(tries::said(set, word, note, at)).await?)
    }

    async fn outcomes(
        &self,
        repository: &RepositoryName,
        commit: CommitHash,
    ) -> Result<Outcomes, RecordsError> {
        Ok(tries::outcomes(&self.0, repository, commit).await?)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{BuildNumber, CommitHash, Outcome, Phase};

    use super::*;
    use crate::{
        core::{BuildEnd, BuildKey, BuildRow, Class, ExecRow, Plan, StepRecord},
        records::MIGRATIONS,
    };

    fn build(number: u64, commit: u8) -> Row {
        let plan = Plan {
            builder: "linux".parse().unwrap(),
            host: "local".parse().unwrap(),
            make: Vec::new(),
            tests: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            folder: String::new(),
            source_folder: String::new(),
            make_seconds: 1,
            test_seconds: 1,
            helpers: 0,
            keep_going: false,
            snapshot: None,
        };
        Row::Build(Box::new(BuildRow {
            number: BuildNumber(number),
            key: BuildKey {
                repository: "example".parse().unwrap(),
                builder: plan.builder.clone(),
                commit: CommitHash::from_bytes([commit; 20]),
                variant: String::new(),
            },
            plan: Arc::new(plan),
            snapshot_base: String::new(),
            subject: String::new(),
            author: String::new(),
            git_ref: String::new(),
            class: Class::Batch,
            is_try: false,
            commit_time: Timestamp(1),
            created: Timestamp(2),
        }))
    }

    #[tokio::test]
    async fn rows_that_are_written_again_change_nothing_and_others_of_their_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("records.db"), MIGRATIONS).await.unwrap();
        let records = SqlRecords(database);
        let attempt = AttemptId { build: BuildNumber(1), attempt: 1 };
        let exec = ExecRow {
            id: types::ExecId(runtime::new_id()),
            lease: types::LeaseId(runtime::new_id()),
            attempt,
            kind: "make",
            shard: 0,
        };
        let step = StepRecord {
            phase: Phase::Queued,
            machine: None,
            shard: 0,
            started: Timestamp(2),
            ended: Timestamp(3),
            outcome: Outcome::Passed,
            detail: String::new(),
        };
        let rows = [build(1, 7), Row::Exec(exec), Row::Step(attempt, 0, step)];
        for _ in 0..2 {
            records.write(&rows).await.unwrap();
        }
        assert_eq!(records.load().await.unwrap().builds.len(), 1);
        let other = records.write(&[build(1, 8)]).await;
        assert!(matches!(other, Err(RecordsError::Refused(_))), "{other:?}");
    }

    #[tokio::test]
    async fn a_build_that_is_begun_again_is_reported_each_time_as_it_ended_then() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("records.db"), MIGRATIONS).await.unwrap();
        let records = SqlRecords(database);
        let Row::Build(row) = build(1, 7) else { panic!("it is a build") };
        let end = |attempt: u32, outcome: Outcome, reason: &str| {
            Row::BuildEnd(BuildEnd {
                attempt: AttemptId { build: BuildNumber(1), attempt },
                key: row.key.clone(),
                started: Timestamp(3),
                outcome,
                reason: reason.to_owned(),
                ended: Timestamp(4),
                is_try: false,
                flakes: 0,
            })
        };
        let reason = "somebody asked".to_owned();
        let only = vec!["TestPark".to_owned()];
        let retry = Row::Retry { number: BuildNumber(1), attempts: 1, at: Timestamp(5), only, reason };
        records.write(&[Row::Build(row.clone()), end(0, Outcome::Cancelled, "called off")]).await.unwrap();
        let told = async || {
            let results = records.outbox(9).await.unwrap();
            let told =
                results.iter().map(|result| (result.attempt, result.outcome.clone(), result.reason.clone()));
            told.collect::<Vec<_>>()
        };
        let first = (1, "cancelled".to_owned(), "called off".to_owned());
        // Also when the answer of the database is lost, and all is written again.
        for _ in 0..2 {
            records.write(std::slice::from_ref(&retry)).await.unwrap();
            assert_eq!(told().await, std::slice::from_ref(&first));
            let restored = records.load().await.unwrap().builds;
            let progress = &restored[0].progress;
            assert_eq!((restored.len(), progress.attempts, progress.earlier), (1, 1, 1));
            assert_eq!(restored[0].only, ["TestPark"]);
        }
        let rows = [retry, end(2, Outcome::Passed, "")];
        for _ in 0..2 {
            records.write(&rows).await.unwrap();
            assert_eq!(told().await, [first.clone(), (2, "passed".to_owned(), String::new())]);
        }
    }
}
