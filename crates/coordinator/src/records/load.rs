//! The state of the core from the database, after a restart.

use std::{collections::BTreeMap, sync::Arc};

use store::{Database, ReadError, Row};
use types::{AttemptId, BuildNumber, ExecId, Fence, Outcome};

use super::{FENCE, sessions, tries};
use crate::core::{
    AttemptRow, BuildKey, BuildProgress, BuildRow, Class, Lease, MachineInfo, Plan, Restored, RestoredBuild,
    RestoredMachine, Retry, Role, Shard, ShardState, SnapshotKey, Stage, StepRecord, Task,
};

/// Why the rows cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The database cannot be read.
    #[error("the rows of the farm cannot be read")]
    Read(#[from] ReadError),
    /// A row has text that is not ours.
    #[error("a row of `{0}` cannot be understood")]
    Broken(&'static str),
}

/// Reads all that is active.
pub(crate) async fn load(database: &Database) -> Result<Restored, LoadError> {
    let mut restored = Restored::default();
    for row in database.read("SELECT * FROM builds WHERE outcome IS NULL ORDER BY number", vec![]).await? {
        restored.builds.push(build(database, &row).await?);
    }
    for row in database.read("SELECT * FROM leases WHERE ended IS NULL", vec![]).await? {
        restored.leases.push(lease(&row)?);
    }
    restored.sessions = sessions::live(database).await?;
    restored.tries = tries::open(database).await?;
    for row in database.read("SELECT * FROM machines", vec![]).await? {
        restored.machines.push(machine(&row)?);
    }
    for row in database.read("SELECT id FROM snapshots", vec![]).await? {
        restored.snapshots.insert(SnapshotKey(row.text("id")?.into()));
    }
    if let Some(row) =
        database.read_first("SELECT COALESCE(MAX(number), 0) AS last FROM builds", vec![]).await?
    {
        restored.last_build = row.number("last")?;
    }
    if let Some(fence) = meta(database, FENCE).await? {
        restored.last_fence = fence.parse().map_err(|_| LoadError::Broken("meta"))?;
    }
    Ok(restored)
}

/// A value of `meta`.
pub(crate) async fn meta(database: &Database, name: &'static str) -> Result<Option<String>, ReadError> {
    let row = database.read_first("SELECT value FROM meta WHERE name = $1", vec![name.into()]).await?;
    row.map(|row| row.text("value").map(str::to_owned)).transpose()
}

/// A plan, by its digest.
pub(crate) async fn plan(database: &Database, digest: &str) -> Result<Arc<Plan>, LoadError> {
    let row = database.read_first("SELECT plan FROM plans WHERE digest = $1", vec![digest.into()]).await?;
    let row = row.ok_or(LoadError::Broken("plans"))?;
    serde_json::from_str(row.text("plan")?).map(Arc::new).map_err(|_| LoadError::Broken("plans"))
}

/// A build as it was accepted.
async fn build_row(database: &Database, row: &Row) -> Result<BuildRow, LoadError> {
    Ok(BuildRow {
        number: BuildNumber(row.number("number")?),
        key: key(row)?,
        plan: plan(database, row.text("plan")?).await?,
        snapshot_base: row.text("snapshot_base")?.to_owned(),
        subject: row.text("subject")?.to_owned(),
        author: row.text("author")?.to_owned(),
        git_ref: row.text("git_ref")?.to_owned(),
        class: Class::from_word(row.text("class")?).ok_or(LoadError::Broken("builds"))?,
        is_try: row.flag("is_try")?,
        commit_time: row.time("commit_time")?,
        created: row.time("created")?,
    })
}

/// A build that has ended, to be begun again: all of it, or only the tests that have not passed in its last attempt. None if
/// it goes on, or says only that a configuration is wrong.
pub(crate) async fn retry(
    database: &Database,
    number: BuildNumber,
    (keep_passed, reason): (bool, &str),
) -> Result<Option<Retry>, LoadError> {
    let sql = "SELECT * FROM builds WHERE number = $1 AND outcome IS NOT NULL";
    let Some(row) = database.read_first(sql, vec![number.into()]).await? else { return Ok(None) };
    let attempts = row.number("attempts")?;
    let row = build_row(database, &row).await?;
    let does_something = !row.plan.make.is_empty() || row.plan.tests.is_some();
    let mut only: Vec<String> = Vec::new();
    if keep_passed {
        let shards = shards(database, AttemptId { build: number, attempt: attempts }).await?;
        let rest = shards.iter().filter(|shard| shard.state != ShardState::Ended(Outcome::Passed));
        only.extend(rest.flat_map(|shard| shard.tests.iter().cloned()));
    }
    Ok(does_something.then(|| Retry { row, attempts, only, reason: reason.to_owned() }))
}

async fn build(database: &Database, row: &Row) -> Result<RestoredBuild, LoadError> {
    let number = BuildNumber(row.number("number")?);
    let attempts: u32 = row.number("attempts")?;
    let id = AttemptId { build: number, attempt: attempts };
    let attempt = attempt_row(database, id).await?.filter(|attempt| attempt.end.is_none());
    Ok(RestoredBuild {
        row: build_row(database, row).await?,
        progress: BuildProgress {
            attempts,
            faults: row.number("faults")?,
            preempted: row.number("preempted")?,
            earlier: row.number("earlier")?,
            doubt: row
                .opt_text("doubt")?
                .map(serde_json::from_str)
                .transpose()
                .map_err(|_| LoadError::Broken("builds"))?,
            waiting_since: row.time("waiting_since")?,
            resting_until: row.opt_time("resting_until")?,
            last_fault: row.text("last_fault")?.to_owned(),
            started: row.opt_time("started")?,
        },
        only: row
            .opt_text("only_tests")?
            .map_or(Ok(Vec::new()), serde_json::from_str)
            .map_err(|_| LoadError::Broken("builds"))?,
        attempt,
        shards: shards(database, id).await?,
        steps: steps(database, id).await?,
    })
}

/// The key of a row of `builds`.
pub(crate) fn key(row: &Row) -> Result<BuildKey, ReadError> {
    Ok(BuildKey {
        repository: row.parse("repository")?,
        builder: row.parse("builder")?,
        commit: row.parse("commit_hash")?,
        variant: row.text("variant")?.to_owned(),
    })
}

/// An attempt.
pub(crate) async fn attempt_row(database: &Database, id: AttemptId) -> Result<Option<AttemptRow>, LoadError> {
    let sql = "SELECT * FROM attempts WHERE build = $1 AND attempt = $2";
    let row = database.read_first(sql, vec![id.build.into(), id.attempt.into()]).await?;
    row.as_ref().map(attempt).transpose()
}

/// All attempts of a build, oldest first.
pub(crate) async fn attempts(database: &Database, build: BuildNumber) -> Result<Vec<AttemptRow>, LoadError> {
    let rows =
        database.read("SELECT * FROM attempts WHERE build = $1 ORDER BY attempt", vec![build.into()]).await?;
    rows.iter().map(attempt).collect()
}

fn attempt(row: &Row) -> Result<AttemptRow, LoadError> {
    let end = match (row.opt_time("ended")?, row.opt_parse("outcome")?) {
        (Some(ended), Some(outcome)) => Some((ended, outcome, row.text("reason")?.to_owned())),
        _ => None,
    };
    Ok(AttemptRow {
        id: AttemptId { build: BuildNumber(row.number("build")?), attempt: row.number("attempt")? },
        started: row.time("started")?,
        stage: if row.text("stage")? == "testing" { Stage::Testing } else { Stage::Preparing },
        snapshot: row.opt_text("snapshot")?.map(|key| SnapshotKey(key.into())),
        make_exec: row.opt_parse("make_exec")?,
        list_exec: row.opt_parse("list_exec")?,
        helper_faults: row.number("helper_faults")?,
        end,
    })
}

/// The shards of an attempt, by number.
pub(crate) async fn shards(database: &Database, id: AttemptId) -> Result<Vec<Shard>, LoadError> {
    let sql = "SELECT * FROM shards WHERE build = $1 AND attempt = $2 ORDER BY shard";
    let rows = database.read(sql, vec![id.build.into(), id.attempt.into()]).await?;
    rows.iter().map(shard).collect()
}

fn shard(row: &Row) -> Result<Shard, LoadError> {
    let state = match (row.opt_parse("outcome")?, row.opt_parse("lease")?) {
        (Some(outcome), _) => ShardState::Ended(outcome),
        (None, Some(lease)) => ShardState::Running(lease),
        (None, None) => ShardState::Waiting,
    };
    let broken = |_| LoadError::Broken("shards");
    Ok(Shard {
        number: row.number("shard")?,
        tests: serde_json::from_str::<Vec<String>>(row.text("tests")?).map_err(broken)?.into(),
        estimates: serde_json::from_str::<Vec<u32>>(row.text("estimates")?).map_err(broken)?.into(),
        state,
        tries: row.number("tries")?,
        faults: row.number("faults")?,
        exec: row.opt_parse("exec")?,
        machine: row.opt_parse("machine")?,
        started: row.opt_time("started")?,
        ended: row.opt_time("ended")?,
        note: row.text("note")?.to_owned(),
        first: row.opt_text("first_run")?.map(serde_json::from_str).transpose().map_err(broken)?,
    })
}

/// The steps of an attempt, in order.
pub(crate) async fn steps(database: &Database, id: AttemptId) -> Result<Vec<StepRecord>, LoadError> {
    let sql = "SELECT * FROM steps WHERE build = $1 AND attempt = $2 ORDER BY step";
    let rows = database.read(sql, vec![id.build.into(), id.attempt.into()]).await?;
    let step = |row: &Row| {
        Ok(StepRecord {
            phase: row.parse("phase")?,
            machine: row.opt_parse("machine")?,
            shard: row.number("shard")?,
            started: row.time("started")?,
            ended: row.time("ended")?,
            outcome: row.parse("outcome")?,
            detail: row.text("detail")?.to_owned(),
        })
    };
    rows.iter().map(step).collect()
}

fn lease(row: &Row) -> Result<Lease, LoadError> {
    let task: Task = serde_json::from_str(row.text("task")?).map_err(|_| LoadError::Broken("leases"))?;
    Ok(Lease {
        id: row.parse("id")?,
        fence: Fence(row.number("fence")?),
        machine: row.parse("machine")?,
        attempt: AttemptId { build: BuildNumber(row.number("build")?), attempt: row.number("attempt")? },
        role: if row.text("role")? == "main" { Role::Main } else { Role::Helper },
        task,
        task_since: row.time("task_since")?,
        granted: row.time("granted")?,
        make_exec: row.opt_parse("make_exec")?,
        test_exec: row.opt_parse("test_exec")?,
    })
}

fn machine(row: &Row) -> Result<RestoredMachine, LoadError> {
    let hosts = row.text("host_types")?;
    let info = MachineInfo {
        name: row.parse("name")?,
        host_types: hosts.split(',').filter_map(|host| host.parse().ok()).collect(),
        version: row.text("version")?.to_owned(),
        platform: row.text("platform")?.to_owned(),
        reuse: row.text("reuse")?.to_owned(),
        work_folder: row.text("work_folder")?.to_owned(),
        pid: row.number("pid")?,
    };
    let health = row.opt_text("health")?.map(serde_json::from_str).transpose();
    Ok(RestoredMachine {
        info,
        since: row.time("since")?,
        health: health.map_err(|_| LoadError::Broken("machines"))?.unwrap_or_default(),
        quarantine: row.text("quarantine")?.to_owned(),
    })
}

/// How many bytes commands of an attempt wrote themselves, of those whose log ends with a line of the farm's.
pub(crate) async fn own_output(
    database: &Database,
    id: AttemptId,
) -> Result<BTreeMap<ExecId, u64>, ReadError> {
    let sql = "SELECT id, output FROM execs WHERE build = $1 AND attempt = $2 AND output IS NOT NULL";
    let rows = database.read(sql, vec![id.build.into(), id.attempt.into()]).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.number("output")?))).collect()
}

/// How long tests of a builder lately took, in milliseconds.
pub(crate) async fn timings(
    database: &Database,
    builder: &types::BuilderName,
) -> Result<BTreeMap<String, i64>, ReadError> {
    let rows =
        database.read("SELECT test, millis FROM timings WHERE builder = $1", vec![builder.into()]).await?;
    rows.iter().map(|row| Ok((row.text("test")?.to_owned(), row.int("millis")?))).collect()
}
