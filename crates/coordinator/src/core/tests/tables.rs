//! The database as the core sees it: rows by name, the later replacing the earlier.

use std::collections::{BTreeMap, BTreeSet};

use types::{AttemptId, BuildNumber, Fence, LeaseId, MachineName, SessionId, Timestamp};
use uuid::Uuid;

use crate::core::{
    AttemptRow, BuildEnd, BuildProgress, BuildRow, Health, Lease, MachineInfo, Restored, RestoredBuild,
    RestoredMachine, Retry, Row, Session, Shard, SnapshotKey, StepRecord, TrySet, Word,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    /// Each with how far it is, and the tests that are run of it, if not all.
    builds: BTreeMap<BuildNumber, (BuildRow, BuildProgress, Vec<String>)>,
    pub(super) ends: Vec<BuildEnd>,
    attempts: BTreeMap<AttemptId, AttemptRow>,
    pub(super) shards: BTreeMap<(AttemptId, u32), Shard>,
    steps: BTreeMap<(AttemptId, u32), StepRecord>,
    leases: BTreeMap<LeaseId, Lease>,
    machines: BTreeMap<MachineName, RestoredMachine>,
    snapshots: BTreeSet<SnapshotKey>,
    sessions: BTreeMap<SessionId, Session>,
    /// How sessions ended, in order.
    pub(super) partings: Vec<String>,
    pub(super) tries: BTreeMap<Uuid, TrySet>,
    /// What was to be said of changes, in order.
    pub(super) words: Vec<(Uuid, Word)>,
    fence: u64,
}

impl Tables {
    pub(super) fn apply(&mut self, row: Row) {
        match row {
            Row::Build(row) => {
                let progress = BuildProgress { waiting_since: row.created, ..BuildProgress::default() };
                self.builds.insert(row.number, (*row, progress, Vec::new()));
            }
            Row::BuildProgress(number, progress) => self.builds.get_mut(&number).unwrap().1 = progress,
            Row::BuildEnd(end) => self.ends.push(end),
            Row::Retry { number, attempts, at, only, .. } => {
                self.ends.retain(|end| end.attempt.build != number);
                let build = self.builds.get_mut(&number).unwrap();
                let earlier = attempts;
                build.1 = BuildProgress { attempts, earlier, waiting_since: at, ..BuildProgress::default() };
                build.2 = only;
            }
            Row::Health { machine, health, quarantine } => {
                let known = self.machines.get_mut(&machine).unwrap();
                (known.health, known.quarantine) = (health, quarantine);
            }
            Row::Attempt(row) => {
                self.attempts.insert(row.id, row);
            }
            Row::Shard(attempt, shard) => {
                self.shards.insert((attempt, shard.number), shard);
            }
            Row::Lease(lease) => {
                self.leases.insert(lease.id, lease);
            }
            Row::LeaseEnd { id, .. } => {
                self.leases.remove(&id).unwrap();
            }
            Row::Step(attempt, index, step) => {
                assert!(self.steps.insert((attempt, index), step).is_none());
            }
            Row::Machine(info, since) => self.machine(info, since),
            Row::Snapshot(key, ..) => {
                self.snapshots.insert(key);
            }
            Row::SnapshotGone(key) => {
                self.snapshots.remove(&key);
            }
            Row::Fence(Fence(fence)) => {
                assert!(fence > self.fence, "a fence never goes back");
                self.fence = fence;
            }
            Row::Session(session) => {
                self.sessions.insert(session.id, *session);
            }
            Row::SessionEnd { id, reason, .. } => {
                let session = self.sessions.remove(&id).unwrap();
                self.partings.push(format!("{}: {reason}", session.name));
            }
            Row::Try(set) => {
                self.tries.insert(set.id, *set);
            }
            Row::Word { set, word, .. } => self.words.push((set, word)),
            Row::Exec(_)
            | Row::Timing { .. }
            | Row::Cursor(_)
            | Row::Ref(_)
            | Row::Commit(_)
            | Row::Request { .. } => {}
        }
    }

    fn machine(&mut self, info: MachineInfo, since: Timestamp) {
        let known = self.machines.entry(info.name.clone()).or_insert_with(|| RestoredMachine {
            info: info.clone(),
            since,
            health: Health::default(),
            quarantine: String::new(),
        });
        (known.info, known.since) = (info, since);
    }

    /// A build that has ended, to be begun again.
    pub(super) fn ended(&self, index: usize) -> Option<Retry> {
        let end = self.ends.get(index.checked_rem(self.ends.len())?)?;
        let (row, ..) = self.builds.get(&end.attempt.build)?;
        let reason = "somebody asked".to_owned();
        Some(Retry { row: row.clone(), attempts: end.attempt.attempt, only: Vec::new(), reason })
    }

    pub(super) fn restored(&self) -> Restored {
        let ended: BTreeSet<BuildNumber> = self.ends.iter().map(|end| end.attempt.build).collect();
        let builds = self.builds.values().filter(|(row, ..)| !ended.contains(&row.number)).map(
            |(row, progress, only)| {
                let id = AttemptId { build: row.number, attempt: progress.attempts };
                let attempt = self.attempts.get(&id).filter(|attempt| attempt.end.is_none()).cloned();
                let shards = self.shards.range((id, 0)..=(id, u32::MAX)).map(|(_, shard)| shard.clone());
                let steps = self.steps.range((id, 0)..=(id, u32::MAX)).map(|(_, step)| step.clone());
                RestoredBuild {
                    row: row.clone(),
                    progress: progress.clone(),
                    only: only.clone(),
                    shards: shards.collect(),
                    steps: steps.collect(),
                    attempt,
                }
            },
        );
        Restored {
            tries: self.tries.values().filter(|set| set.open).cloned().collect(),
            builds: builds.collect(),
            leases: self.leases.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            machines: self.machines.values().cloned().collect(),
            snapshots: self.snapshots.clone(),
            last_build: self.builds.keys().next_back().map_or(0, |number| number.0),
            last_fence: self.fence,
        }
    }
}
