//! The kinds of events, tasks, rows and actions, enumerated from their types: a new variant does not compile until it
//! is counted here.

use coordinator::core::{Action, Event, Row, Shard, ShardState, Task, TaskResult};
use types::Outcome;

pub(crate) const TASKS: [&str; 7] =
    ["source", "snapshot fetch", "make", "snapshot store", "list", "shard", "wait"];
pub(crate) const RESULTS: [&str; 6] = ["done", "passed", "failed", "timed out", "listed", "fault"];
const PLAIN: [&str; 15] = [
    "accept",
    "cancel",
    "connected",
    "disconnected",
    "cleaned",
    "unfit",
    "drop snapshots",
    "tick",
    "create session",
    "touch session",
    "session prepared",
    "end session",
    "retry",
    "quarantine",
    "lift",
];
pub(crate) const EVENTS: usize = PLAIN.len() + TASKS.len() * RESULTS.len();

pub(crate) const EFFECTS: [&str; 37] = [
    "row build",
    "row build progress",
    "row build end",
    "row attempt",
    "row shard",
    "row lease",
    "row lease end",
    "row exec",
    "row step",
    "row machine",
    "row snapshot",
    "row snapshot gone",
    "row timing",
    "row fence",
    "row cursor",
    "row ref",
    "row commit",
    "row request",
    "row session",
    "row session end",
    "run",
    "stop",
    "end lease",
    "reply",
    "remove snapshot",
    "snapshot stored",
    "changed",
    "ended",
    "prepare",
    "session changed",
    "row try",
    "row word",
    "speak",
    "nothing",
    "row retry",
    "row health",
    "quarantined",
];

/// What becomes of builds, leases and shards.
pub(crate) const STAGES: [&str; 27] = [
    "build: new",
    "build: queued",
    "build: running",
    "build: resting",
    "build: passed",
    "build: failed",
    "build: timed out",
    "build: infrastructure",
    "build: cancelled",
    "lease: source",
    "lease: snapshot fetch",
    "lease: make",
    "lease: snapshot store",
    "lease: list",
    "lease: shard",
    "lease: wait",
    "lease: over",
    "shard: waiting",
    "shard: running",
    "shard: ended",
    "shard: called off",
    "build: made room",
    "lease: made room",
    "shard: to be run again",
    "shard: running again",
    "shard: flaked",
    "shard: failed twice",
];

/// The name of an event's kind.
pub(crate) fn event_name(index: usize) -> String {
    match index.checked_sub(PLAIN.len()) {
        None => PLAIN[index].to_owned(),
        Some(rest) => format!("{} {}", TASKS[rest / RESULTS.len()], RESULTS[rest % RESULTS.len()]),
    }
}

pub(crate) fn event(event: &Event) -> usize {
    match event {
        Event::Accept(_) => 0,
        Event::Cancel { .. } => 1,
        Event::Connected(_) => 2,
        Event::Disconnected { .. } => 3,
        Event::Cleaned { .. } => 4,
        Event::Unfit { .. } => 5,
        Event::DropSnapshots(_) => 6,
        Event::Tick => 7,
        Event::CreateSession(_) => 8,
        Event::TouchSession { .. } => 9,
        Event::SessionPrepared { .. } => 10,
        Event::EndSession { .. } => 11,
        Event::Retry(_) => 12,
        Event::Quarantine { .. } => 13,
        Event::Lift(_) => 14,
        Event::TaskEnded { task: of, result, .. } => {
            PLAIN.len() + task(of) * RESULTS.len() + self::result(result)
        }
    }
}

pub(crate) fn task(task: &Task) -> usize {
    match task {
        Task::Source { .. } => 0,
        Task::SnapshotFetch(_) => 1,
        Task::Make(_) => 2,
        Task::SnapshotStore(_) => 3,
        Task::List(_) => 4,
        Task::Shard(..) => 5,
        Task::Wait => 6,
    }
}

fn result(result: &TaskResult) -> usize {
    match result {
        TaskResult::Done { .. } => 0,
        TaskResult::Command { outcome: Outcome::Passed, .. } => 1,
        TaskResult::Command { outcome: Outcome::TimedOut, .. } => 3,
        TaskResult::Command { .. } => 2,
        TaskResult::Listed(_) => 4,
        TaskResult::Fault { .. } => 5,
    }
}

pub(crate) fn row(row: &Row) -> usize {
    match row {
        Row::Build(_) => 0,
        Row::BuildProgress(..) => 1,
        Row::BuildEnd(_) => 2,
        Row::Attempt(_) => 3,
        Row::Shard(..) => 4,
        Row::Lease(_) => 5,
        Row::LeaseEnd { .. } => 6,
        Row::Exec(_) => 7,
        Row::Step(..) => 8,
        Row::Machine(..) => 9,
        Row::Snapshot(..) => 10,
        Row::SnapshotGone(_) => 11,
        Row::Timing { .. } => 12,
        Row::Fence(_) => 13,
        Row::Cursor(_) => 14,
        Row::Ref(_) => 15,
        Row::Commit(_) => 16,
        Row::Request { .. } => 17,
        Row::Session(_) => 18,
        Row::SessionEnd { .. } => 19,
        Row::Try(_) => 30,
        Row::Word { .. } => 31,
        Row::Retry { .. } => 34,
        Row::Health { .. } => 35,
    }
}

pub(crate) fn action(action: &Action) -> usize {
    match action {
        Action::Run(_) => 20,
        Action::Stop(_) => 21,
        Action::EndLease { .. } => 22,
        Action::Reply { .. } => 23,
        Action::RemoveSnapshot(_) => 24,
        Action::SnapshotStored => 25,
        Action::Changed(_) => 26,
        Action::Ended(_) => 27,
        Action::Prepare(_) => 28,
        Action::SessionChanged(_) => 29,
        Action::Speak => 32,
        Action::Quarantined(_) => 36,
    }
}

/// An event that wants nothing.
pub(crate) const NOTHING: usize = 33;

pub(crate) fn build_end(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Passed => 4,
        Outcome::TimedOut => 6,
        Outcome::Infrastructure => 7,
        Outcome::Cancelled => 8,
        Outcome::Failed | Outcome::Skipped => 5,
    }
}

pub(crate) fn lease_stage(of: &Task) -> usize {
    9 + task(of)
}

/// A lease that is over: more urgent work took its machine, or not.
pub(crate) fn lease_over(reason: &str) -> usize {
    if reason.starts_with("it made room") { 22 } else { 16 }
}

/// A build whose main machine more urgent work took.
pub(crate) const MADE_ROOM: usize = 21;

pub(crate) fn shard_stage(shard: &Shard) -> usize {
    match (shard.state, shard.first.is_some()) {
        (ShardState::Waiting, false) => 17,
        (ShardState::Running(_), false) => 18,
        (ShardState::Ended(Outcome::Cancelled), _) => 20,
        (ShardState::Ended(_), false) => 19,
        (ShardState::Waiting, true) => 23,
        (ShardState::Running(_), true) => 24,
        (ShardState::Ended(Outcome::Passed), true) => 25,
        (ShardState::Ended(_), true) => 26,
    }
}
