//! The state from its rows, after a restart. Machines are away until they connect again.

use std::collections::BTreeSet;

use types::{LeaseId, Timestamp};

use super::{
    Attempt, AttemptRow, Build, BuildProgress, BuildRow, Health, Lease, Limits, Machine, MachineInfo,
    Mutation, Progress, Role, Session, Shard, SnapshotKey, State, StepRecord, TrySet, turn::FENCES_AHEAD,
};

/// What the rows say.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Builds that have not ended.
    pub builds: Vec<RestoredBuild>,
    /// Leases that are not over.
    pub leases: Vec<Lease>,
    /// Sessions that are not over.
    pub sessions: Vec<Session>,
    /// What is tried of changes that ask for it.
    pub tries: Vec<TrySet>,
    /// Machines that have been heard of.
    pub machines: Vec<RestoredMachine>,
    /// Snapshots that are stored.
    pub snapshots: BTreeSet<SnapshotKey>,
    /// The highest number given to a build; 0 if none was.
    pub last_build: u64,
    /// The highest fence given out; 0 if none was.
    pub last_fence: u64,
}

/// A machine that has been heard of.
#[derive(Debug, Clone)]
pub struct RestoredMachine {
    /// What it said of itself.
    pub info: MachineInfo,
    /// Since when it is as it is.
    pub since: Timestamp,
    /// What became of its last commands.
    pub health: Health,
    /// Why it takes no work; empty if it does.
    pub quarantine: String,
}

/// A build that has not ended.
#[derive(Debug, Clone)]
pub struct RestoredBuild {
    /// As it was accepted.
    pub row: BuildRow,
    /// How far it is.
    pub progress: BuildProgress,
    /// The tests that are run, if not all.
    pub only: Vec<String>,
    /// The attempt that has not ended.
    pub attempt: Option<AttemptRow>,
    /// Its shards, by number.
    pub shards: Vec<Shard>,
    /// Its steps, in order.
    pub steps: Vec<StepRecord>,
}

impl State {
    /// The state that the rows describe. Leases wait for their machines.
    pub fn restore(limits: Limits, restored: Restored, now: Timestamp) -> Self {
        let mut state = Self::new(limits);
        state.next_build = restored.last_build + 1;
        let reused = if Mutation::ReuseFence.is(limits.mutation) { FENCES_AHEAD } else { 0 };
        state.next_fence = restored.last_fence.saturating_sub(reused) + 1;
        state.reserved_fences = restored.last_fence + 1;
        state.snapshots = restored.snapshots;
        for known in restored.machines {
            let seats = restored.sessions.iter().filter_map(|session| session.seat.as_ref());
            let holders = restored.leases.iter().map(|lease| (&lease.machine, lease.id));
            let mut holders = holders.chain(seats.map(|seat| (&seat.machine, seat.lease)));
            let name = known.info.name.clone();
            let lease = holders.find(|(machine, _)| **machine == name).map(|(_, lease)| lease);
            state.machines.insert(name, Machine::away(known, lease, now + limits.away_at_start));
        }
        let names: Vec<_> = state.machines.keys().cloned().collect();
        for restored_build in restored.builds {
            let build = Build::restore(restored_build, &restored.leases, now, &limits);
            state.keys.insert(build.key.clone(), build.number);
            state.builds.insert(build.number, Box::new(build));
        }
        for lease in restored.leases {
            state.count(&lease);
            state.leases.insert(lease.id, lease);
        }
        for mut session in restored.sessions {
            // Nobody could use it while nobody answered.
            session.expires = session.expires.max(now + limits.session_at_start);
            state.index_session(&session);
            state.sessions.insert(session.name.clone(), session);
        }
        for set in restored.tries {
            state.tried.extend(set.pending().map(|number| (number, set.change.clone())));
            state.tries.insert(set.change.clone(), set);
        }
        for name in &names {
            state.reindex_machine(name);
        }
        let numbers: Vec<_> = state.builds.keys().copied().collect();
        for number in numbers {
            state.reindex_build(number);
        }
        // No machine is here yet, so nobody can be served.
        state.stirred.clear();
        state
    }
}

impl Machine {
    fn away(known: RestoredMachine, lease: Option<LeaseId>, lost_at: Timestamp) -> Self {
        Self {
            info: known.info,
            connection: None,
            lost_at,
            since: known.since,
            connected: known.since,
            health: known.health,
            quarantine: known.quarantine,
            suspected: false,
            lease,
            cleaning: None,
            problem: String::new(),
            draining: false,
        }
    }
}

impl Build {
    fn restore(restored: RestoredBuild, leases: &[Lease], now: Timestamp, limits: &Limits) -> Self {
        let before = restored.progress;
        let latest = now + limits.longest_rest();
        let progress = match (restored.attempt, before.resting_until) {
            (Some(attempt), _) => {
                let mut shards = restored.shards;
                for first in shards.iter_mut().filter_map(|shard| shard.first.as_mut()) {
                    first.since = first.since.min(now);
                }
                let attempt = Attempt::restore(attempt, shards, restored.steps, leases);
                Progress::Running(Box::new(attempt))
            }
            // Here as above the clock may have been set back meanwhile: nothing waits or rests for hours.
            (None, Some(until)) => Progress::Resting(until.min(latest)),
            (None, None) => Progress::Queued,
        };
        Self {
            attempts: before.attempts,
            faults: before.faults,
            preempted: before.preempted,
            earlier: before.earlier,
            doubt: before.doubt,
            only: restored.only.into(),
            waiting_since: before.waiting_since,
            last_fault: before.last_fault,
            ..Self::new(restored.row, progress)
        }
    }
}

impl Attempt {
    fn restore(row: AttemptRow, shards: Vec<Shard>, steps: Vec<StepRecord>, leases: &[Lease]) -> Self {
        let of =
            |role: Role| leases.iter().filter(move |l| l.attempt == row.id && l.role == role).map(|l| l.id);
        Self {
            number: row.id.attempt,
            started: row.started,
            stage: row.stage,
            main: of(Role::Main).next(),
            helpers: of(Role::Helper).collect(),
            snapshot: row.snapshot,
            make_exec: row.make_exec,
            list_exec: row.list_exec,
            shards,
            helper_faults: row.helper_faults,
            steps,
        }
    }
}
