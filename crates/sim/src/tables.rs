//! The database as rows by name: what is durable, with the constraints that the schema has.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::{
    core::{
        AttemptRow, BuildEnd, BuildKey, BuildProgress, BuildRow, ExecRow, Health, Lease, MachineInfo,
        Restored, RestoredBuild, RestoredMachine, Retry, Row, Session, Shard, ShardState, SnapshotKey,
        StepRecord, TrySet, Word,
    },
    ports::{KnownBuilds, Outcomes, Refs, Unsaid},
};
use types::{
    AttemptId, BuildNumber, BuilderName, CommitHash, ExecId, LeaseId, MachineName, Outcome, SessionId,
    Timestamp,
};
use uuid::Uuid;

use crate::judge::Invariant;

type Broken = (Invariant, String);

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Each with how far it is, and the tests that are run of it, if not all.
    builds: BTreeMap<BuildNumber, (BuildRow, BuildProgress, Vec<String>)>,
    active: BTreeSet<BuildNumber>,
    keys: BTreeMap<BuildKey, BuildNumber>,
    pub(crate) ends: BTreeMap<BuildNumber, BuildEnd>,
    /// Ends of attempts after which a build was begun again.
    past: BTreeMap<AttemptId, BuildEnd>,
    attempts: BTreeMap<AttemptId, AttemptRow>,
    shards: BTreeMap<(AttemptId, u32), Shard>,
    steps: BTreeMap<(AttemptId, u32), StepRecord>,
    leases: BTreeMap<LeaseId, Lease>,
    execs: BTreeMap<ExecId, ExecRow>,
    machines: BTreeMap<MachineName, RestoredMachine>,
    snapshots: BTreeMap<SnapshotKey, (u64, Timestamp)>,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions that are over.
    left: BTreeSet<SessionId>,
    tries: BTreeMap<Uuid, TrySet>,
    /// What is to be said of changes, and whether it was.
    words: BTreeMap<(Uuid, Word), bool>,
    timings: BTreeMap<BuilderName, BTreeMap<String, i64>>,
    pub(crate) outbox: BTreeSet<AttemptId>,
    cursor: Option<String>,
    refs: Refs,
    fence: u64,
}

impl Tables {
    /// Stores rows in order. A repeat of the same changes nothing; what the schema forbids is answered.
    pub(crate) fn apply(&mut self, rows: &[Row]) -> Result<(), Broken> {
        rows.iter().try_for_each(|row| self.apply_one(row))
    }

    fn apply_one(&mut self, row: &Row) -> Result<(), Broken> {
        match row {
            Row::Build(row) => return self.build(row),
            Row::BuildProgress(number, progress) => {
                if let Some(entry) = self.builds.get_mut(number) {
                    entry.1 = progress.clone();
                }
            }
            Row::BuildEnd(end) => return self.end(end),
            Row::Retry { number, attempts, at, only, .. } => {
                return self.retry((*number, *attempts), *at, only);
            }
            Row::Health { machine, health, quarantine } => {
                if let Some(known) = self.machines.get_mut(machine) {
                    (known.health, known.quarantine) = (*health, quarantine.clone());
                }
            }
            Row::Attempt(row) => {
                self.attempts.insert(row.id, row.clone());
            }
            Row::Shard(attempt, shard) => {
                self.shards.insert((*attempt, shard.number), shard.clone());
            }
            Row::Lease(lease) => {
                self.leases.insert(lease.id, lease.clone());
            }
            Row::LeaseEnd { id, .. } => {
                self.leases.remove(id);
            }
            Row::Exec(row) => {
                self.execs.insert(row.id, row.clone());
            }
            Row::Step(attempt, index, step) => {
                let before = self.steps.insert((*attempt, *index), step.clone());
                if before.is_some_and(|before| before != *step) {
                    return Err((Invariant::Once, format!("step {index} of {attempt} was written twice")));
                }
            }
            Row::Machine(info, since) => self.machine(info, *since),
            Row::Snapshot(key, bytes, at) => {
                self.snapshots.insert(key.clone(), (*bytes, *at));
            }
            Row::SnapshotGone(key) => {
                self.snapshots.remove(key);
            }
            Row::Timing { builder, test, millis } => self.timing(builder, test, i64::from(*millis)),
            Row::Fence(fence) => self.fence = self.fence.max(fence.0),
            Row::Cursor(cursor) => self.cursor = Some(cursor.clone()),
            Row::Ref(moved) => {
                let key = (moved.repository.clone(), moved.git_ref.clone());
                match moved.commit {
                    Some(commit) => self.refs.insert(key, commit),
                    None => self.refs.remove(&key),
                };
            }
            Row::Session(session) => {
                if !self.left.contains(&session.id) {
                    self.sessions.insert(session.id, (**session).clone());
                }
            }
            Row::SessionEnd { id, .. } => {
                self.sessions.remove(id);
                self.left.insert(*id);
            }
            Row::Try(set) => {
                self.tries.insert(set.id, (**set).clone());
            }
            Row::Word { set, word, .. } => {
                self.words.entry((*set, *word)).or_insert(false);
            }
            Row::Commit(_) | Row::Request { .. } => {}
        }
        Ok(())
    }

    fn build(&mut self, row: &BuildRow) -> Result<(), Broken> {
        if let Some((before, ..)) = self.builds.get(&row.number) {
            let same = before.key == row.key;
            let what = || (Invariant::Once, format!("number {} was given to two builds", row.number));
            return if same { Ok(()) } else { Err(what()) };
        }
        if let Some(other) = self.keys.insert(row.key.clone(), row.number) {
            return Err((Invariant::Once, format!("build {} is build {other} again", row.number)));
        }
        let progress = BuildProgress { waiting_since: row.created, ..BuildProgress::default() };
        self.builds.insert(row.number, (row.clone(), progress, Vec::new()));
        self.active.insert(row.number);
        Ok(())
    }

    fn end(&mut self, end: &BuildEnd) -> Result<(), Broken> {
        let number = end.attempt.build;
        if let Some(before) = self.ends.get(&number) {
            let same = before == end;
            let what = || (Invariant::Once, format!("build {number} ended twice: {before:?} and {end:?}"));
            return if same { Ok(()) } else { Err(what()) };
        }
        if !self.active.remove(&number) {
            return Err((Invariant::Once, format!("build {number} ended and was never accepted")));
        }
        self.ends.insert(number, end.clone());
        self.outbox.insert(reported(end.attempt));
        Ok(())
    }

    fn machine(&mut self, info: &MachineInfo, since: Timestamp) {
        let known = self.machines.entry(info.name.clone()).or_insert_with(|| RestoredMachine {
            info: info.clone(),
            since,
            health: Health::default(),
            quarantine: String::new(),
        });
        (known.info, known.since) = (info.clone(), since);
    }

    /// The end of an attempt that is to be reported.
    pub(crate) fn end_of(&self, id: AttemptId) -> Option<&BuildEnd> {
        let last = self.ends.get(&id.build).filter(|end| reported(end.attempt) == id);
        last.or_else(|| self.past.get(&id))
    }

    /// How a build has ended, each time that it did.
    pub(crate) fn ends_of(&self, number: BuildNumber) -> Vec<Outcome> {
        let id = |attempt| AttemptId { build: number, attempt };
        let past = self.past.range(id(0)..=id(u32::MAX)).map(|(_, end)| end.outcome);
        past.chain(self.ends.get(&number).map(|end| end.outcome)).collect()
    }

    fn retry(
        &mut self,
        (number, attempts): (BuildNumber, u32),
        at: Timestamp,
        only: &[String],
    ) -> Result<(), Broken> {
        // A repeat of what follows from it is fine, too.
        match self.ends.remove(&number) {
            Some(end) => {
                self.past.insert(reported(end.attempt), end);
            }
            None if self.active.contains(&number) => {}
            None => return Err((Invariant::Once, format!("build {number} is begun again and never ended"))),
        }
        self.active.insert(number);
        if let Some(entry) = self.builds.get_mut(&number) {
            let earlier = attempts;
            entry.1 = BuildProgress { attempts, earlier, waiting_since: at, ..BuildProgress::default() };
            entry.2 = only.to_vec();
        }
        Ok(())
    }

    fn timing(&mut self, builder: &BuilderName, test: &str, millis: i64) {
        let tests = self.timings.entry(builder.clone()).or_default();
        let entry = tests.entry(test.to_owned()).or_insert(millis);
        *entry = (*entry * 2 + millis) / 3;
    }

    pub(crate) fn restored(&self) -> Restored {
        let restore = |number: &BuildNumber| {
            let (row, progress, only) = self.builds.get(number)?;
            let id = AttemptId { build: row.number, attempt: progress.attempts };
            let attempt = self.attempts.get(&id).filter(|attempt| attempt.end.is_none()).cloned();
            let shards = self.shards.range((id, 0)..=(id, u32::MAX)).map(|(_, shard)| shard.clone());
            let steps = self.steps.range((id, 0)..=(id, u32::MAX)).map(|(_, step)| step.clone());
            Some(RestoredBuild {
                row: row.clone(),
                progress: progress.clone(),
                only: only.clone(),
                attempt,
                shards: shards.collect(),
                steps: steps.collect(),
            })
        };
        Restored {
            builds: self.active.iter().filter_map(restore).collect(),
            leases: self.leases.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            tries: self.tries.values().filter(|set| set.open).cloned().collect(),
            machines: self.machines.values().cloned().collect(),
            snapshots: self.snapshots.keys().cloned().collect(),
            last_build: self.builds.keys().next_back().map_or(0, |number| number.0),
            last_fence: self.fence,
        }
    }

    /// What is to be said and was not. Ids grow, and so do words of a set.
    pub(crate) fn unsaid(&self, limit: usize) -> Vec<Unsaid> {
        let unsaid = self.words.iter().filter(|(_, said)| !**said);
        let word =
            |(set, word): &(Uuid, Word)| Some(Unsaid { word: *word, set: self.tries.get(set)?.clone() });
        unsaid.filter_map(|(key, _)| word(key)).take(limit).collect()
    }

    pub(crate) fn said(&mut self, set: Uuid, word: Word) {
        self.words.insert((set, word), true);
    }

    /// The set that a tag names.
    pub(crate) fn try_set(&self, tag: &str) -> Option<TrySet> {
        self.tries.values().find(|set| tag.ends_with(&set.id.to_string())).cloned()
    }

    /// Whether a commit was tried to an end.
    pub(crate) fn is_tried(&self, commit: CommitHash) -> bool {
        self.tries.values().any(|set| set.open && set.commit == commit && set.end.is_some())
    }

    pub(crate) fn outcomes(&self, commit: CommitHash) -> Outcomes {
        let of = self.ends.values().filter(|end| end.key.commit == commit && !end.is_try);
        of.map(|end| (end.key.builder.clone(), end.outcome)).collect()
    }

    pub(crate) fn timings(&self, builder: &BuilderName) -> BTreeMap<String, i64> {
        self.timings.get(builder).cloned().unwrap_or_default()
    }

    pub(crate) fn snapshots(&self) -> Vec<(SnapshotKey, u64)> {
        let mut all: Vec<_> =
            self.snapshots.iter().map(|(key, (bytes, at))| (*at, key.clone(), *bytes)).collect();
        all.sort();
        all.into_iter().rev().map(|(_, key, bytes)| (key, bytes)).collect()
    }

    pub(crate) fn position(&self) -> (Option<String>, Refs) {
        (self.cursor.clone(), self.refs.clone())
    }

    pub(crate) fn known(&self, commit: CommitHash) -> KnownBuilds {
        let of = self.keys.iter().filter(|(key, _)| key.commit == commit);
        of.map(|(key, number)| ((key.repository.clone(), key.builder.clone(), key.variant.clone()), *number))
            .collect()
    }

    /// A build that has ended, to be begun again.
    pub(crate) fn retryable(&self, number: BuildNumber, reason: &str) -> Option<Retry> {
        let end = self.ends.get(&number)?;
        let (row, ..) = self.builds.get(&number)?;
        let does_something = !row.plan.make.is_empty() || row.plan.tests.is_some();
        let attempts = end.attempt.attempt;
        let retry = Retry { row: row.clone(), attempts, only: Vec::new(), reason: reason.to_owned() };
        does_something.then_some(retry)
    }

    /// The tests that have not passed in the last attempt of a build.
    pub(crate) fn not_passed(&self, number: BuildNumber) -> Vec<String> {
        let Some(end) = self.ends.get(&number) else { return Vec::new() };
        let shards = self.shards.range((end.attempt, 0)..=(end.attempt, u32::MAX)).map(|(_, shard)| shard);
        let rest = shards.filter(|shard| shard.state != ShardState::Ended(Outcome::Passed));
        rest.flat_map(|shard| shard.tests.iter().cloned()).collect()
    }

    /// Builds that failed on this machine and on no other.
    pub(crate) fn victims(&self, machine: &MachineName, since: Timestamp, reason: &str) -> Vec<Retry> {
        let red = |outcome: Outcome| matches!(outcome, Outcome::Failed | Outcome::TimedOut);
        let is_victim = |end: &BuildEnd| {
            let earlier = self.builds.get(&end.attempt.build).map_or(0, |(_, progress, _)| progress.earlier);
            let first = AttemptId { attempt: 0, ..end.attempt };
            let steps = self.steps.range((first, 0)..=(end.attempt, u32::MAX));
            let steps = steps.filter(|((id, _), _)| id.attempt > earlier).map(|(_, step)| step);
            let failed: Vec<_> = steps.filter(|step| red(step.outcome)).collect();
            red(end.outcome)
                && !failed.is_empty()
                && failed.iter().all(|step| step.machine.as_ref() == Some(machine) && step.ended >= since)
        };
        let victims = self.ends.values().filter(|end| is_victim(end)).take(50);
        victims.filter_map(|end| self.retryable(end.attempt.build, reason)).collect()
    }

    pub(crate) fn number(&self, key: &BuildKey) -> Option<BuildNumber> {
        self.keys.get(key).copied()
    }

    pub(crate) fn has_build(&self, number: BuildNumber) -> bool {
        self.builds.contains_key(&number)
    }

    pub(crate) fn exec(&self, id: ExecId) -> Option<&ExecRow> {
        self.execs.get(&id)
    }

    /// Whether all builds have ended, and all ends are reported.
    pub(crate) fn is_done(&self) -> bool {
        self.active.is_empty() && self.outbox.is_empty()
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = BuildNumber> + '_ {
        self.active.iter().copied()
    }

    pub(crate) fn builds(&self) -> usize {
        self.builds.len()
    }
}

/// As which attempt an end is reported: of a build that ended before its first, as that.
fn reported(id: AttemptId) -> AttemptId {
    AttemptId { attempt: id.attempt.max(1), ..id }
}
