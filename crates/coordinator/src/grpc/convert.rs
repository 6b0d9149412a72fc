//! Our words as the protocol's.

use api::coordinator as wire;
use types::{Outcome, Phase, Timestamp};

use crate::{
    core::{Shard, StepRecord, WaitReason},
    records::read::BuildRecord,
    view::{Active, AttemptFull, Full},
};

/// How many tests of a shard are listed.
const TESTS: usize = 100;

pub(super) fn outcome(outcome: Option<Outcome>) -> i32 {
    let outcome = match outcome {
        None => wire::Outcome::Unspecified,
        Some(Outcome::Passed) => wire::Outcome::Passed,
        Some(Outcome::Failed) => wire::Outcome::Failed,
        Some(Outcome::TimedOut) => wire::Outcome::TimedOut,
        Some(Outcome::Infrastructure) => wire::Outcome::Infrastructure,
        Some(Outcome::Skipped) => wire::Outcome::Skipped,
        Some(Outcome::Cancelled) => wire::Outcome::Cancelled,
    };
    outcome.into()
}

pub(super) fn from_outcome(outcome: wire::Outcome) -> Option<Outcome> {
    match outcome {
        wire::Outcome::Unspecified => None,
        wire::Outcome::Passed => Some(Outcome::Passed),
        wire::Outcome::Failed => Some(Outcome::Failed),
        wire::Outcome::TimedOut => Some(Outcome::TimedOut),
        wire::Outcome::Infrastructure => Some(Outcome::Infrastructure),
        wire::Outcome::Skipped => Some(Outcome::Skipped),
        wire::Outcome::Cancelled => Some(Outcome::Cancelled),
    }
}

fn phase(phase: Phase) -> i32 {
    let phase = match phase {
        Phase::Queued => wire::Phase::Queued,
        Phase::Source => wire::Phase::Source,
        Phase::SnapshotFetch => wire::Phase::SnapshotFetch,
        Phase::Make => wire::Phase::Make,
        Phase::SnapshotStore => wire::Phase::SnapshotStore,
        Phase::List => wire::Phase::List,
        Phase::Test => wire::Phase::Test,
        Phase::Finish => wire::Phase::Finish,
    };
    phase.into()
}

fn time(at: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    at.map(rpc::timestamp)
}

pub(super) fn wait(reason: &WaitReason) -> wire::WaitReason {
    wire::WaitReason {
        code: reason.code.as_str().to_owned(),
        text: reason.text.clone(),
        unblock: match reason.estimate {
            Some(estimate) => format!("{}, {} if all goes as lately", reason.unblock, about(estimate)),
            None => reason.unblock.clone(),
        },
        since: time(Some(reason.since)),
    }
}

/// A duration that is no more than a guess.
fn about(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        0..100 => format!("in about {} s", duration.as_secs().max(1)),
        100..6000 => format!("in about {} min", duration.as_secs() / 60),
        _ => format!("in about {} h", duration.as_secs() / 3600),
    }
}

/// A build without attempts.
pub(super) fn build(record: &BuildRecord, active: Option<&Active>) -> wire::Build {
    let active = active.filter(|_| record.outcome.is_none());
    let attempt = active.and_then(|active| active.build.attempt());
    let started = attempt.map(|attempt| attempt.started).or(record.started);
    wire::Build {
        number: record.number.0,
        builder: record.builder.to_string(),
        repository: record.repository.to_string(),
        commit: record.commit.to_string(),
        subject: record.subject.clone(),
        r#ref: record.git_ref.clone(),
        is_try: record.is_try,
        outcome: outcome(record.outcome),
        reason: record.reason.clone(),
        created: time(Some(record.created)),
        started: time(started),
        ended: time(record.ended),
        waits_for: active.and_then(|active| active.wait.as_ref()).map(wait),
        attempts: Vec::new(),
        phase: active.map_or(0, |active| phase(active.phase())),
        shards_done: attempt.map_or(0, |attempt| attempt.shards_done() as u32),
        shards_total: attempt.map_or(0, |attempt| attempt.shards.len() as u32),
        page: format!("/build/{}", record.number),
        flakes: record.flakes,
    }
}

/// A build with attempts.
pub(super) fn full(full: &Full) -> wire::Build {
    let mut built = build(&full.record, full.active.as_ref());
    built.attempts = full.attempts.iter().map(|found| attempt(found, full.active.as_ref())).collect();
    if let Some(last) = full.attempts.last().filter(|_| full.active.is_none()) {
        built.shards_done = last.shards.iter().filter(|shard| shard.outcome().is_some()).count() as u32;
        built.shards_total = last.shards.len() as u32;
    }
    built
}

fn attempt(found: &AttemptFull, active: Option<&Active>) -> wire::Attempt {
    let end = found.row.end.as_ref();
    let running = found.now.iter().map(|(machine, running, shard, since)| wire::Step {
        phase: phase(*running),
        machine: machine.to_string(),
        shard: *shard,
        started: time(Some(*since)),
        ended: None,
        outcome: 0,
        detail: String::new(),
    });
    wire::Attempt {
        number: found.row.id.attempt,
        outcome: outcome(end.map(|(_, outcome, _)| *outcome)),
        reason: end.map(|(_, _, reason)| reason.clone()).unwrap_or_default(),
        started: time(Some(found.row.started)),
        ended: time(end.map(|(ended, ..)| *ended)),
        steps: found.steps.iter().map(step).chain(running).collect(),
        shards: found.shards.iter().map(|found| shard(found, active)).collect(),
    }
}

fn step(step: &StepRecord) -> wire::Step {
    wire::Step {
        phase: phase(step.phase),
        machine: step.machine.as_ref().map(ToString::to_string).unwrap_or_default(),
        shard: step.shard,
        started: time(Some(step.started)),
        ended: time(Some(step.ended)),
        outcome: outcome(Some(step.outcome)),
        detail: step.detail.clone(),
    }
}

fn shard(shard: &Shard, active: Option<&Active>) -> wire::Shard {
    let waits = active.and_then(|active| active.shard_waits.get(&shard.number));
    let note = match waits {
        Some(reason) if shard.note.is_empty() => reason.text.clone(),
        Some(reason) => format!("{}; {}", shard.note, reason.text),
        None => shard.note.clone(),
    };
    wire::Shard {
        number: shard.number,
        tests: shard.tests.iter().take(TESTS).cloned().collect(),
        test_count: shard.tests.len() as u32,
        outcome: outcome(shard.outcome()),
        machine: shard.machine.as_ref().map(ToString::to_string).unwrap_or_default(),
        tries: shard.tries,
        started: time(shard.started),
        ended: time(shard.ended),
        note,
        flaky: shard.is_flaky(),
    }
}
