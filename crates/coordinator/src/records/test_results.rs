//! What became of each test: written with the end of its shard, kept for a bounded number of builds.

use store::{Batch, Database, ReadError, Row, Value};
use types::{AttemptId, BuildNumber, BuilderName, CommitHash, Outcome, RepositoryName, Timestamp};

use crate::core::Shard;

/// Results of so many builds of the farm are kept.
pub(crate) const KEPT_BUILDS: u64 = 20_000;
/// Old results are removed once in so many builds.
const SWEEP: u64 = 256;
/// Tests of a shard beyond this many have no history of their own.
const MOST_TESTS: usize = 10_000;
/// Nor have names longer than this: an index takes no longer ones.
const MOST_NAME: usize = 1_000;

/// A run of a test, with what was built.
#[derive(Debug, Clone)]
pub(crate) struct TestRecord {
    pub(crate) build: BuildNumber,
    pub(crate) attempt: u32,
    pub(crate) shard: u32,
    pub(crate) outcome: Outcome,
    pub(crate) among: u64,
    pub(crate) millis: Option<u64>,
    pub(crate) ended: Timestamp,
    pub(crate) builder: BuilderName,
    pub(crate) repository: RepositoryName,
    pub(crate) commit: CommitHash,
    pub(crate) subject: String,
    pub(crate) author: String,
    pub(crate) commit_time: Timestamp,
}

/// Adds what stores the results of a shard's tests, once it has ended. A build that lists no tests has none. Linear in the tests.
pub(super) fn save(batch: &mut Batch, id: AttemptId, shard: &Shard) {
    let (Some(outcome), Some(ended)) = (shard.outcome(), shard.ended) else { return };
    // A machine that was lost, or a build that was called off, says nothing of a test.
    if !matches!(outcome, Outcome::Passed | Outcome::Failed | Outcome::TimedOut) {
        return;
    }
    let took = shard.started.map(|started| ended.since(started).as_millis() as u64);
    let millis = took.filter(|_| shard.tests.len() == 1);
    let named = |test: &&String| test.len() <= MOST_NAME && !test.contains('\0');
    for test in shard.tests.iter().take(MOST_TESTS).filter(named) {
        let args: Vec<Value> = vec![
            test.as_str().into(),
            id.build.into(),
            id.attempt.into(),
            shard.number.into(),
            outcome.into(),
            shard.tests.len().into(),
            millis.into(),
            ended.into(),
        ];
        batch.push(
            "INSERT INTO test_results (test, build, attempt, shard, outcome, among, millis, ended) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (test, build, attempt, shard) DO NOTHING",
            args,
        );
    }
}

/// Adds what removes old results, now and then.
pub(super) fn sweep(batch: &mut Batch, ended: BuildNumber) {
    if ended.0.is_multiple_of(SWEEP) && ended.0 > KEPT_BUILDS {
        batch.push(
            "DELETE FROM test_results WHERE build <= $1",
            vec![BuildNumber(ended.0 - KEPT_BUILDS).into()],
        );
    }
}

/// The runs of a test, the newest build first.
pub(crate) async fn runs(
    database: &Database,
    test: &str,
    limit: usize,
) -> Result<Vec<TestRecord>, ReadError> {
    let sql = "SELECT t.build, t.attempt, t.shard, t.outcome, t.among, t.millis, t.ended, b.builder, b.repository, \
               b.commit_hash, b.subject, b.author, b.commit_time FROM test_results t \
               JOIN builds b ON b.number = t.build WHERE t.test = $1 \
               ORDER BY t.build DESC, t.attempt DESC, t.shard LIMIT $2";
    let rows = database.read(sql, vec![test.into(), limit.into()]).await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<TestRecord, ReadError> {
    Ok(TestRecord {
        build: BuildNumber(row.number("build")?),
        attempt: row.number("attempt")?,
        shard: row.number("shard")?,
        outcome: row.parse("outcome")?,
        among: row.number("among")?,
        millis: row.opt_int("millis")?.map(|millis| millis.max(0) as u64),
        ended: row.time("ended")?,
        builder: row.parse("builder")?,
        repository: row.parse("repository")?,
        commit: row.parse("commit_hash")?,
        subject: row.text("subject")?.to_owned(),
        author: row.text("author")?.to_owned(),
        commit_time: row.time("commit_time")?,
    })
}
