//! Rows of the core as SQL.

use store::{Batch, Value};
use types::{AttemptId, BuildNumber, ExecId, Timestamp};

use super::{CURSOR, FENCE, sessions, test_results, tries};
use crate::core::{
    AttemptRow, BuildEnd, BuildProgress, BuildRow, ExecRow, Lease, MachineInfo, RefMove, Row, SeenCommit,
    Shard, ShardState, StepRecord,
};

/// A list of arguments, each made into a value.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$(Value::from($value)),*] };
}

const META: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Adds what stores a row.
pub(crate) fn save(batch: &mut Batch, row: Row) {
    match row {
        Row::Build(row) => build(batch, &row),
        Row::BuildProgress(number, progress) => build_progress(batch, number, progress),
        Row::BuildEnd(end) => build_end(batch, &end),
        Row::Retry { number, attempts, at, only, reason } => {
            retry(batch, (number, attempts), at, (&only, reason));
        }
        Row::Attempt(row) => attempt(batch, row),
        Row::Shard(id, row) => {
            shard(batch, id, &row);
            test_results::save(batch, id, &row);
        }
        Row::Lease(row) => lease(batch, &row),
        Row::LeaseEnd { id, ended, reason } => {
            batch.push("UPDATE leases SET ended = $2, reason = $3 WHERE id = $1", values![id, ended, reason]);
        }
        Row::Exec(row) => exec(batch, &row),
        Row::Step(id, index, row) => step(batch, id, index, row),
        Row::Machine(info, since) => machine(batch, &info, since),
        Row::Health { machine, health, quarantine } => {
            batch.push(
                "UPDATE machines SET health = $2, quarantine = $3 WHERE name = $1",
                values![machine, json(&health), quarantine],
            );
        }
        Row::Snapshot(key, bytes, at) => {
            batch.push(
                "INSERT INTO snapshots (id, bytes, created) VALUES ($1, $2, $3) \
                 ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, created = excluded.created",
                values![&*key.0, bytes, at],
            );
        }
        Row::SnapshotGone(key) => {
            batch.push("DELETE FROM snapshots WHERE id = $1", values![&*key.0]);
        }
        Row::Timing { builder, test, millis } => {
            // What is recent counts for a third, so that one odd run changes little.
            batch.push(
                "INSERT INTO timings (builder, test, millis) VALUES ($1, $2, $3) ON CONFLICT (builder, test) \
                 DO UPDATE SET millis = (timings.millis * 2 + excluded.millis) / 3",
                values![builder, test, millis],
            );
        }
        Row::Fence(fence) => {
            batch.push(META, values![FENCE, fence.to_string()]);
        }
        Row::Cursor(cursor) => {
            batch.push(META, values![CURSOR, cursor]);
        }
        Row::Ref(moved) => git_ref(batch, &moved),
        Row::Commit(seen) => commit(batch, seen),
        Row::Request { id, builds, at } => {
            let builds = builds.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            batch.push(
                "INSERT INTO requests (id, builds, created) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
                values![id, builds, at],
            );
        }
        Row::Session(row) => sessions::save(batch, &row),
        Row::SessionEnd { id, ended, reason } => sessions::save_end(batch, id, ended, reason),
        Row::Try(set) => tries::save(batch, &set),
        Row::Word { set, word, at } => tries::save_word(batch, set, word, at),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is always JSON")
}

fn build(batch: &mut Batch, row: &BuildRow) {
    let plan = json(&*row.plan);
    let digest = blake3::hash(plan.as_bytes()).to_hex().to_string();
    batch.push(
        "INSERT INTO plans (digest, plan) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        values![&digest, plan],
    );
    // A repeat after an answer that was lost is fine; another build of that number is not.
    batch.push_guarded(
        "INSERT INTO builds (number, repository, builder, commit_hash, variant, plan, snapshot_base, subject, author, \
         git_ref, class, is_try, commit_time, created, waiting_since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) \
         ON CONFLICT (number) DO UPDATE SET created = excluded.created WHERE builds.commit_hash = excluded.commit_hash \
         AND builds.builder = excluded.builder AND builds.repository = excluded.repository \
         AND builds.variant = excluded.variant",
        values![
            row.number,
            &row.key.repository,
            &row.key.builder,
            row.key.commit,
            &row.key.variant,
            digest,
            &row.snapshot_base,
            &row.subject,
            &row.author,
            &row.git_ref,
            row.class.as_str(),
            row.is_try,
            row.commit_time,
            row.created,
        ],
    );
}

/// The end of a build and its place in the outbox are one: a result that is stored reaches the mutation log.
fn build_end(batch: &mut Batch, end: &BuildEnd) {
    let AttemptId { build, attempt } = end.attempt;
    batch.push(
        "UPDATE builds SET outcome = $2, reason = $3, started = $4, ended = $5, attempts = $6, flakes = $7, \
         resting_until = NULL WHERE number = $1",
        values![build, end.outcome, &end.reason, end.started, end.ended, attempt, end.flakes],
    );
    batch.push(
        "INSERT INTO outbox (build, attempt) VALUES ($1, $2) ON CONFLICT (build, attempt) DO NOTHING",
        values![build, attempt.max(1)],
    );
    test_results::sweep(batch, build);
}

fn build_progress(batch: &mut Batch, number: BuildNumber, row: BuildProgress) {
    batch.push(
        "UPDATE builds SET attempts = $2, faults = $3, preempted = $4, waiting_since = $5, \
         resting_until = $6, last_fault = $7, started = COALESCE($8, started), earlier = $9, doubt = $10 \
         WHERE number = $1",
        values![
            number,
            row.attempts,
            row.faults,
            row.preempted,
            row.waiting_since,
            row.resting_until,
            row.last_fault,
            row.started,
            row.earlier,
            row.doubt.as_deref().map(json),
        ],
    );
}

/// A build that had ended goes on; what it came to is kept. A repeat changes nothing.
fn retry(
    batch: &mut Batch,
    (number, attempts): (BuildNumber, u32),
    at: Timestamp,
    (only, reason): (&[String], String),
) {
    batch.push(
        "INSERT INTO retries (build, attempt, asked, reason, outcome, told, started, ended) \
         SELECT number, $2, $3, $4, outcome, reason, started, ended FROM builds \
         WHERE number = $1 AND outcome IS NOT NULL ON CONFLICT (build, attempt) DO NOTHING",
        values![number, attempts, at, reason],
    );
    batch.push(
        "UPDATE builds SET outcome = NULL, ended = NULL, reason = '', flakes = 0, faults = 0, preempted = 0, doubt = NULL, \
         attempts = $2, earlier = $2, waiting_since = $3, resting_until = NULL, last_fault = '', only_tests = $4 \
         WHERE number = $1 AND outcome IS NOT NULL",
        values![number, attempts, at, (!only.is_empty()).then(|| json(&only))],
    );
}

fn attempt(batch: &mut Batch, row: AttemptRow) {
    let (ended, outcome, reason) = match row.end {
        Some((ended, outcome, reason)) => (Some(ended), Some(outcome), reason),
        None => (None, None, String::new()),
    };
    batch.push(
        "INSERT INTO attempts (build, attempt, started, stage, snapshot, make_exec, list_exec, helper_faults, ended, \
         outcome, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (build, attempt) DO UPDATE SET stage = excluded.stage, snapshot = excluded.snapshot, \
         make_exec = excluded.make_exec, list_exec = excluded.list_exec, helper_faults = excluded.helper_faults, \
         ended = excluded.ended, outcome = excluded.outcome, reason = excluded.reason",
        values![
            row.id.build,
            row.id.attempt,
            row.started,
            match row.stage {
                crate::core::Stage::Preparing => "preparing",
                crate::core::Stage::Testing => "testing",
            },
            row.snapshot.as_ref().map(|key| &*key.0),
            row.make_exec,
            row.list_exec,
            row.helper_faults,
            ended,
            outcome,
            reason,
        ],
    );
}

fn shard(batch: &mut Batch, id: AttemptId, row: &Shard) {
    let lease = match row.state {
        ShardState::Running(lease) => Some(lease),
        _ => None,
    };
    batch.push(
        "INSERT INTO shards (build, attempt, shard, tests, estimates, outcome, lease, tries, faults, exec, machine, \
         started, ended, note, first_run) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (build, attempt, shard) DO UPDATE SET outcome = excluded.outcome, lease = excluded.lease, \
         tries = excluded.tries, faults = excluded.faults, exec = excluded.exec, machine = excluded.machine, \
         started = excluded.started, ended = excluded.ended, note = excluded.note, first_run = excluded.first_run",
        values![
            id.build,
            id.attempt,
            row.number,
            json(&row.tests),
            json(&row.estimates),
            row.outcome(),
            lease,
            row.tries,
            row.faults,
            row.exec,
            row.machine.as_ref(),
            row.started,
            row.ended,
            &row.note,
            row.first.as_deref().map(json),
        ],
    );
}

fn lease(batch: &mut Batch, row: &Lease) {
    batch.push(
        "INSERT INTO leases (id, fence, machine, build, attempt, role, task, task_since, granted, make_exec, test_exec) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO UPDATE SET task = excluded.task, \
         task_since = excluded.task_since, make_exec = excluded.make_exec, test_exec = excluded.test_exec",
        values![
            row.id,
            row.fence,
            &row.machine,
            row.attempt.build,
            row.attempt.attempt,
            row.role.as_str(),
            json(&row.task),
            row.task_since,
            row.granted,
            row.make_exec,
            row.test_exec,
        ],
    );
}

fn exec(batch: &mut Batch, row: &ExecRow) {
    batch.push(
        "INSERT INTO execs (id, lease, build, attempt, kind, shard) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO NOTHING",
        values![row.id, row.lease, row.attempt.build, row.attempt.attempt, row.kind, row.shard],
    );
}

/// What stores how many bytes of its log a command wrote itself, before the farm adds a line of its own.
pub(crate) fn own_output(exec: ExecId, bytes: u64) -> Batch {
    let mut batch = Batch::new();
    batch.push("UPDATE execs SET output = $2 WHERE id = $1", values![exec, bytes]);
    batch
}

fn step(batch: &mut Batch, id: AttemptId, index: u32, row: StepRecord) {
    batch.push(
        "INSERT INTO steps (build, attempt, step, phase, machine, shard, started, ended, outcome, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (build, attempt, step) DO NOTHING",
        values![
            id.build,
            id.attempt,
            index,
            row.phase,
            row.machine.as_ref(),
            row.shard,
            row.started,
            row.ended,
            row.outcome,
            row.detail,
        ],
    );
}

fn machine(batch: &mut Batch, info: &MachineInfo, since: types::Timestamp) {
    let hosts = info.host_types.iter().map(types::HostType::as_str).collect::<Vec<_>>().join(",");
    batch.push(
        "INSERT INTO machines (name, host_types, version, platform, reuse, work_folder, pid, since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET host_types = excluded.host_types, \
         version = excluded.version, platform = excluded.platform, reuse = excluded.reuse, \
         work_folder = excluded.work_folder, pid = excluded.pid, since = excluded.since",
        values![
            &info.name,
            hosts,
            &info.version,
            &info.platform,
            &info.reuse,
            &info.work_folder,
            info.pid,
            since,
        ],
    );
}

fn git_ref(batch: &mut Batch, moved: &RefMove) {
    match moved.commit {
        Some(commit) => batch.push(
            "INSERT INTO refs (repository, git_ref, commit_hash) VALUES ($1, $2, $3) \
             ON CONFLICT (repository, git_ref) DO UPDATE SET commit_hash = excluded.commit_hash",
            values![&moved.repository, &moved.git_ref, commit],
        ),
        None => batch.push(
            "DELETE FROM refs WHERE repository = $1 AND git_ref = $2",
            values![&moved.repository, &moved.git_ref],
        ),
    };
}

fn commit(batch: &mut Batch, seen: SeenCommit) {
    batch.push(
        "INSERT INTO commits (repository, git_ref, place, commit_hash, subject, author, time) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (repository, git_ref, commit_hash) DO NOTHING",
        values![seen.repository, seen.git_ref, seen.place, seen.commit, seen.subject, seen.author, seen.time],
    );
}
