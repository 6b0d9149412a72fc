//! Shards: who takes which, what an ending leads to. The main machine takes them in list order, so that the merged log
//! grows smoothly; helpers take the biggest, so that none is left at the end.

use types::{BuildNumber, LeaseId, MachineName, Outcome, Timestamp};

use super::{Attempt, ListedTest, Mutation, Role, Row, Shard, ShardState, Stage, Task, turn::Turn};

impl Turn<'_> {
    /// The tests are known: one entry for each shard, in list order.
    pub(super) fn begin_tests(&mut self, number: BuildNumber, shards: Vec<Vec<ListedTest>>) {
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        let id = build.attempt_id();
        let Some(attempt) = build.attempt_mut() else { return };
        attempt.stage = Stage::Testing;
        attempt.shards = shards
            .into_iter()
            .enumerate()
            .map(|(index, tests)| Shard::new(index as u32 + 1, tests))
            .collect();
        let rows: Vec<Row> = attempt.shards.iter().map(|shard| Row::Shard(id, shard.clone())).collect();
        self.save_attempt(number);
        for row in rows {
            self.save(row);
        }
        self.changed(number);
    }

    /// Finds work for a lease that has none; ends it if it cannot have any.
    pub(super) fn take_shard(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, role, attempt_id, test_exec) =
            (lease.build(), lease.role, lease.attempt, lease.test_exec);
        let Some(attempt) = self.state.attempt(number) else { return };
        let Some(shard) = attempt.next_shard(role, &lease.machine) else {
            match role {
                Role::Main if lease.task == Task::Wait => {}
                Role::Main => self.assign(id, Task::Wait),
                Role::Helper => {
                    self.release(id, "no shard is left for it");
                    self.await_machine(number);
                }
            }
            self.changed(number);
            return;
        };
        let first = attempt.shards.len() == 1 && attempt.shards[0].tries == 0;
        let exec = match test_exec {
            Some(exec) if first => exec,
            _ => self.plan_exec(id, attempt_id, "test", shard),
        };
        self.start_shard(id, shard, exec);
    }

    /// Begins a shard under a lease, by the name of its command.
    pub(super) fn start_shard(&mut self, id: LeaseId, shard: u32, exec: types::ExecId) {
        let now = self.now;
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, attempt_id, machine) = (lease.build(), lease.attempt, lease.machine.clone());
        let entry = self.state.attempt_mut(number).and_then(|a| a.shard_mut(shard));
        let Some(entry) = entry else { return };
        entry.state = ShardState::Running(id);
        entry.tries += 1;
        entry.exec = Some(exec);
        entry.machine = Some(machine);
        entry.started = Some(now);
        entry.ended = None;
        let row = Row::Shard(attempt_id, entry.clone());
        self.save(row);
        self.assign(id, Task::Shard(shard, exec));
        self.changed(number);
    }

    /// A shard's command ran to its end.
    pub(super) fn shard_ended(
        &mut self,
        id: LeaseId,
        number: u32,
        verdict: (Outcome, String),
        ended: Timestamp,
    ) {
        let (outcome, reason) = verdict;
        if outcome != Outcome::Passed && self.run_again(id, number, (outcome, &reason), ended) {
            return;
        }
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (build_number, attempt_id) = (lease.build(), lease.attempt);
        let mutation = self.state.limits.mutation;
        let Some(build) = self.state.builds.get_mut(&build_number) else { return };
        let (keep_going, builder) = (build.plan.keep_going, build.key.builder.clone());
        let Some(attempt) = build.attempt_mut() else { return };
        let Some(shard) = attempt.shard_mut(number) else { return };
        let hides = Mutation::SecondPasses.is(mutation) && shard.first.is_some();
        let outcome = if hides { Outcome::Passed } else { outcome };
        shard.state = ShardState::Ended(outcome);
        shard.ended = Some(ended.max(shard.started.unwrap_or(ended)));
        shard.note = match (outcome, &shard.first) {
            (Outcome::Passed, None) => std::mem::take(&mut shard.note),
            (Outcome::Passed, Some(first)) => shard.told_of_flake(first),
            (_, None) => shard.describe(&reason),
            (_, Some(first)) => shard.told_twice(first, &reason),
        };
        let (row, timings) = (Row::Shard(attempt_id, shard.clone()), shard.timings());
        let failure = shard.note.clone();
        let verdicts = shard.verdicts();
        let all_ended = attempt.shards_done() == attempt.shards.len();
        self.save(row);
        for (test, millis) in timings {
            self.save(Row::Timing { builder: builder.clone(), test, millis });
        }
        for (machine, bad) in verdicts {
            self.judge_machine(&machine, bad);
        }
        if outcome != Outcome::Passed && !keep_going {
            self.end_attempt(build_number, outcome, &failure);
        } else if all_ended {
            self.conclude(build_number);
        } else {
            self.take_shard(id);
        }
    }

    /// All shards have ended.
    fn conclude(&mut self, number: BuildNumber) {
        let Some(build) = self.state.builds.get(&number) else { return };
        let Some(attempt) = build.attempt() else { return };
        let flakes = build.told_of_flakes();
        let failed: Vec<&Shard> =
            attempt.shards.iter().filter(|shard| shard.outcome() != Some(Outcome::Passed)).collect();
        let (outcome, reason) = match failed.as_slice() {
            [] => (Outcome::Passed, flakes),
            [one] => (one.outcome().unwrap_or(Outcome::Failed), one.note.clone()),
            [first, ..] => {
                let text =
                    format!("{} of {} shards, the first: {}", failed.len(), attempt.shards.len(), first.note);
                (first.outcome().unwrap_or(Outcome::Failed), text)
            }
        };
        self.end_attempt(number, outcome, &reason);
    }

    /// A shard could not be run to its end where it was: another machine takes it. False when that happened too often
    /// and the attempt has ended.
    pub(super) fn give_back(&mut self, number: BuildNumber, shard: u32, reason: &str) -> bool {
        let tries = self.state.limits.shard_tries;
        let faults = self.put_back(number, shard, reason, true);
        if faults >= tries {
            let text = format!("shard {shard} could not be run in {tries} tries, the last: {reason}");
            self.fail_attempt(number, &text, true);
            return false;
        }
        true
    }

    /// Puts a shard back on the list. Answers how often it could not be run by a fault of the farm.
    pub(super) fn put_back(&mut self, number: BuildNumber, shard: u32, reason: &str, fault: bool) -> u32 {
        let tries = self.state.limits.shard_tries;
        let Some(build) = self.state.builds.get_mut(&number) else { return 0 };
        let id = build.attempt_id();
        let Some(attempt) = build.attempt_mut() else { return 0 };
        let Some(entry) = attempt.shard_mut(shard) else { return 0 };
        let machine = entry.machine.as_ref().map_or("a machine", |name| name.as_str());
        entry.note = format!("try {} on `{machine}`: {reason}", entry.tries);
        entry.state = ShardState::Waiting;
        entry.faults += u32::from(fault);
        let (row, faults) = (Row::Shard(id, entry.clone()), entry.faults);
        self.save(row);
        if faults < tries {
            self.wake_main(number);
        }
        self.changed(number);
        faults
    }

    /// The main machine of a build may be waiting for a shard that there is now.
    pub(super) fn wake_main(&mut self, number: BuildNumber) {
        let main = self.state.attempt(number).and_then(|attempt| attempt.main);
        let waits = |id: &LeaseId| self.state.leases.get(id).is_some_and(|lease| lease.task == Task::Wait);
        if let Some(main) = main.filter(waits) {
            self.take_shard(main);
        }
    }

    /// An attempt may have lost its last machine while shards wait: it goes on with the next one.
    fn await_machine(&mut self, number: BuildNumber) {
        let now = self.now;
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        if build.needs_machine() {
            build.waiting_since = now;
            self.save_progress(number);
        }
    }
}

impl Attempt {
    /// The shard that a machine takes next.
    pub(super) fn next_shard(&self, role: Role, machine: &MachineName) -> Option<u32> {
        let waits = |shard: &&Shard| shard.state == ShardState::Waiting && shard.is_for(machine);
        let mut waiting = self.shards.iter().filter(waits);
        match role {
            Role::Main => waiting.next(),
            Role::Helper => waiting.max_by_key(|shard| (shard.estimate(), std::cmp::Reverse(shard.number))),
        }
        .map(|shard| shard.number)
    }
}

impl Shard {
    fn new(number: u32, tests: Vec<ListedTest>) -> Self {
        Self {
            number,
            estimates: tests.iter().map(|test| test.millis).collect(),
            tests: tests.into_iter().map(|test| test.name).collect(),
            state: ShardState::Waiting,
            tries: 0,
            faults: 0,
            exec: None,
            machine: None,
            started: None,
            ended: None,
            note: String::new(),
            first: None,
        }
    }

    pub(super) fn describe(&self, reason: &str) -> String {
        match &*self.tests {
            [] => format!("test: {reason}"),
            [test] => format!("`{test}`: {reason}"),
            [first, .., last] => format!("shard {} (`{first}` to `{last}`): {reason}", self.number),
        }
    }

    /// What was learned of how long tests take: the shard's time, shared out as it was expected to be.
    fn timings(&self) -> Vec<(String, u32)> {
        let (Some(started), Some(ended)) = (self.started, self.ended) else { return Vec::new() };
        if self.outcome() != Some(Outcome::Passed) {
            return Vec::new();
        }
        let took = ended.since(started).as_millis().max(1) as u64;
        let expected = self.estimate().max(1);
        let share =
            |millis: &u32| u32::try_from(took * u64::from(*millis) / expected).unwrap_or(u32::MAX).max(1);
        self.tests.iter().cloned().zip(self.estimates.iter().map(share)).collect()
    }
}
