//! What became of each test: written with the end of its shard, kept for a bounded number of builds.

use store::{Batch, Database, ReadError, Row, Value};
use types::{
    AttemptId, BuildNumber, BuilderName, CommitHash, MachineName, Outcome, RepositoryName, Timestamp,
};

use crate::core::{FirstRun, Shard};

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
    pub(crate) machine: Option<MachineName>,
    /// How and where it failed first, if this was its second run.
    pub(crate) first: Option<(Outcome, MachineName)>,
    pub(crate) builder: BuilderName,
    pub(crate) repository: RepositoryName,
    pub(crate) commit: CommitHash,
    pub(crate) subject: String,
    pub(crate) author: String,
    pub(crate) commit_time: Timestamp,
}

/// Adds what stores the results of a shard's tests, once it has ended. A build that lists no tests has none. Linear in the tests.
pub(super) fn save(batch: &mut Batch, id: AttemptId, shard: &Shard) {
    let Some(run) = Run::of(shard) else { return };
    let named = |test: &&String| test.len() <= MOST_NAME && !test.contains('\0');
    for test in shard.tests.iter().take(MOST_TESTS).filter(named) {
        let args: Vec<Value> = vec![
            test.as_str().into(),
            id.build.into(),
            id.attempt.into(),
            shard.number.into(),
            run.outcome.into(),
            shard.tests.len().into(),
            run.millis.into(),
            run.ended.into(),
            run.machine.into(),
            run.first.map(|first| first.outcome).into(),
            run.first.map(|first| &first.machine).into(),
        ];
        batch.push(
            "INSERT INTO test_results (test, build, attempt, shard, outcome, among, millis, ended, machine, \
             first_outcome, first_machine) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (test, build, attempt, shard) DO NOTHING",
            args,
        );
    }
}

/// The run of a shard that counts, and the one before if it failed.
struct Run<'a> {
    outcome: Outcome,
    machine: Option<&'a MachineName>,
    millis: Option<u64>,
    ended: Timestamp,
    first: Option<&'a FirstRun>,
}

impl<'a> Run<'a> {
    /// None if nothing was learned.
    fn of(shard: &'a Shard) -> Option<Self> {
        let alone = shard.tests.len() == 1;
        let millis =
            |started: Timestamp, ended: Timestamp| alone.then(|| ended.since(started).as_millis() as u64);
        let first = shard.first.as_deref();
        match (shard.outcome()?, shard.ended) {
            (outcome @ (Outcome::Passed | Outcome::Failed | Outcome::TimedOut), Some(ended)) => Some(Self {
                outcome,
                machine: shard.machine.as_ref(),
                millis: shard.started.and_then(|started| millis(started, ended)),
                ended,
                first,
            }),
            // A machine that was lost, or a build that was called off, says nothing of a test; a run before that does.
            _ => first.map(|first| Self {
                outcome: first.outcome,
                machine: Some(&first.machine),
                millis: millis(first.started, first.ended),
                ended: first.ended,
                first: None,
            }),
        }
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
    let sql = "SELECT t.build, t.attempt, t.shard, t.outcome, t.among, t.millis, t.ended, t.machine, t.first_outcome, \
               t.first_machine, b.builder, b.repository, \
               b.commit_hash, b.subject, b.author, b.commit_time FROM test_results t \
               JOIN builds b ON b.number = t.build WHERE t.test = $1 \
               AND b.variant NOT LIKE 'again-%' \
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
        machine: row.opt_parse("machine")?,
        first: row.opt_parse("first_outcome")?.zip(row.opt_parse("first_machine")?),
        builder: row.parse("builder")?,
        repository: row.parse("repository")?,
        commit: row.parse("commit_hash")?,
        subject: row.text("subject")?.to_owned(),
        author: row.text("author")?.to_owned(),
        commit_time: row.time("commit_time")?,
    })
}
