//! A shard that failed is run a second time, on another machine if one can: then it is known whether it fails, or chance
//! or the machine was at work. It passes if the second run does, and is counted as flaky; if that fails too, it failed.
//! Only a few shards of an attempt, and none that took long: what breaks everywhere is no chance, and costs enough.

use types::{BuildNumber, LeaseId, MachineName, Outcome, Timestamp};

use super::{
    Build, FirstRun, Machine, Row, Shard, ShardState, State, WaitCode, WaitReason, build::HELPER_FAULTS,
    turn::Turn,
};

/// How many machines are looked at for one that could run a shard.
const MACHINES_LOOK: usize = 256;

impl Turn<'_> {
    /// Has a shard that has just failed run a second time. False if its failure counts as it is.
    pub(super) fn run_again(
        &mut self,
        id: LeaseId,
        number: u32,
        (outcome, reason): (Outcome, &str),
        ended: Timestamp,
    ) -> bool {
        let now = self.now;
        let Some(lease) = self.state.leases.get(&id) else { return false };
        let (build_number, attempt_id, machine) = (lease.build(), lease.attempt, lease.machine.clone());
        let Some(build) = self.state.builds.get(&build_number) else { return false };
        if !self.state.is_doubtful(build, number, ended) {
            return false;
        }
        let anywhere = !self.state.could_run_elsewhere(build, &machine);
        let entry = self.state.attempt_mut(build_number).and_then(|attempt| attempt.shard_mut(number));
        let Some(shard) = entry else { return false };
        let (Some(exec), Some(started)) = (shard.exec, shard.started) else { return false };
        let note = shard.describe(reason);
        shard.note = format!("it failed on `{machine}` and is run again: {reason}");
        shard.state = ShardState::Waiting;
        let ended = ended.max(started);
        let first = FirstRun { exec, machine, outcome, started, ended, note, since: now, anywhere };
        shard.first = Some(Box::new(first));
        let row = Row::Shard(attempt_id, shard.clone());
        self.save(row);
        self.take_shard(id);
        self.wake_main(build_number);
        self.changed(build_number);
        true
    }

    /// No other machine was free for long: shards that wait for one are run again where they failed.
    pub(super) fn give_up_elsewhere(&mut self, number: BuildNumber) {
        let limit = self.now;
        let elsewhere = self.state.limits.elsewhere;
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        let id = build.attempt_id();
        let Some(attempt) = build.attempt_mut() else { return };
        let mut rows = Vec::new();
        for shard in attempt.shards.iter_mut().filter(|shard| shard.state == ShardState::Waiting) {
            if let Some(first) = &mut shard.first
                && !first.anywhere
                && first.since + elsewhere <= limit
            {
                first.anywhere = true;
                rows.push(Row::Shard(id, shard.clone()));
            }
        }
        for row in rows {
            self.save(row);
        }
        self.wake_main(number);
        self.changed(number);
    }
}

impl State {
    /// Whether it is worth a second run to know why a shard failed. Linear in the shards.
    fn is_doubtful(&self, build: &Build, number: u32, ended: Timestamp) -> bool {
        let Some(attempt) = build.attempt() else { return false };
        let doubted = attempt.shards.iter().filter(|shard| shard.first.is_some()).count() as u32;
        let shard = (number as usize).checked_sub(1).and_then(|index| attempt.shards.get(index));
        shard.is_some_and(|shard| {
            let took = shard.started.map(|started| ended.since(started));
            shard.first.is_none()
                && doubted < self.limits.second_runs
                && took.is_some_and(|took| took <= self.limits.second_run_within)
        })
    }

    /// Whether a machine that takes work could run shards of a build in place of this one.
    fn could_run_elsewhere(&self, build: &Build, failed_on: &MachineName) -> bool {
        let Some(attempt) = build.attempt() else { return false };
        let Some(wanted) = &attempt.snapshot else { return false };
        let others = self.fleet.connected(&build.plan.host).filter(|name| *name != failed_on);
        attempt.helper_faults < HELPER_FAULTS
            && others.take(MACHINES_LOOK).any(|name| {
                self.machines.get(name).is_some_and(Machine::is_fit)
                    && self.snapshot_key(build, name).as_ref() == Some(wanted)
            })
    }

    /// Why a shard waits that is to be run again elsewhere; none for others.
    pub(super) fn elsewhere(&self, shard: &Shard) -> Option<WaitReason> {
        let first = shard.first.as_ref().filter(|first| !first.anywhere)?;
        if shard.state != ShardState::Waiting {
            return None;
        }
        Some(WaitReason {
            code: WaitCode::RunAgain,
            text: format!(
                "shard {} failed on `{}`, and another machine is to run it again",
                shard.number, first.machine
            ),
            unblock: format!(
                "another machine is free; after {} s it is run again where it failed",
                self.limits.elsewhere.as_secs()
            ),
            since: first.since,
            estimate: None,
        })
    }
}

impl Build {
    /// What failed and then passed, in words; empty if nothing did.
    pub(super) fn told_of_flakes(&self) -> String {
        let made = self.doubt.as_ref().filter(|doubt| doubt.passed).map(|doubt| doubt.told_of_flake());
        let shards = self.attempt().map(|attempt| attempt.shards.as_slice()).unwrap_or_default();
        let flaky = shards.iter().filter(|shard| shard.is_flaky()).map(|shard| shard.note.clone());
        let mut told = made.into_iter().chain(flaky);
        let Some(first) = told.next() else { return String::new() };
        match told.count() {
            0 => format!("flaky: {first}"),
            more => format!("flaky: {first}, and {more} more"),
        }
    }
}

impl Shard {
    /// What it showed of the machines where it ran: whether one failed what passed elsewhere.
    pub(super) fn verdicts(&self) -> Vec<(MachineName, bool)> {
        let passed = self.outcome() == Some(Outcome::Passed);
        match (&self.machine, self.first.as_deref()) {
            (Some(machine), None) if passed => vec![(machine.clone(), false)],
            (Some(machine), Some(first)) if first.machine != *machine => {
                vec![(machine.clone(), false), (first.machine.clone(), passed)]
            }
            _ => Vec::new(),
        }
    }

    /// It failed, and then it passed.
    pub(super) fn told_of_flake(&self, first: &FirstRun) -> String {
        match &self.machine {
            Some(machine) if *machine != first.machine => {
                format!("{} on `{}`, then it passed on `{machine}`", first.note, first.machine)
            }
            _ => format!("{} on `{}`, then it passed there", first.note, first.machine),
        }
    }

    /// It failed twice.
    pub(super) fn told_twice(&self, first: &FirstRun, reason: &str) -> String {
        let told = self.describe(reason);
        match &self.machine {
            Some(machine) if *machine != first.machine => {
                format!("{told}, on `{}` and again on `{machine}`", first.machine)
            }
            _ => format!("{told}, twice on `{}`", first.machine),
        }
    }
}
