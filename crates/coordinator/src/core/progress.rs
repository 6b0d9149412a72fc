//! A build's way: source, make, snapshot, list. What each ending leads to is decided here; shards are in their own file.

use types::{BuildNumber, LeaseId, Outcome, Timestamp};

use super::{
    Action, Build, ListedTest, Role, Row, SnapshotKey, Stage, StepRecord, Task, TaskResult, turn::Turn,
};

impl Turn<'_> {
    /// A task has ended. What is not the lease's current task is old news.
    pub(super) fn task_ended(&mut self, id: LeaseId, task: &Task, result: TaskResult) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.task != *task {
            return;
        }
        let (number, role) = (lease.build(), lease.role);
        self.record_task(id, &result);
        match (task.clone(), result) {
            (task, TaskResult::Fault { reason, of_machine }) => {
                self.task_failed(id, &task, (&reason, of_machine));
            }
            (Task::Source { .. }, _) => self.after_source(id),
            (Task::SnapshotFetch(key), _) => self.after_snapshot_fetch(id, role, &key),
            (Task::Make(_), TaskResult::Command { outcome: Outcome::Passed, .. }) => {
                self.make_passed(id);
                self.after_make(id);
            }
            (Task::SnapshotStore(key), TaskResult::Done { bytes, .. }) => {
                self.after_snapshot_store(id, &key, bytes);
            }
            (Task::List(_), TaskResult::Listed(shards)) => self.after_list(id, shards),
            (Task::List(exec), TaskResult::Command { outcome, reason, .. }) => {
                if let Some(attempt) = self.state.attempt_mut(number) {
                    attempt.list_exec = Some(exec);
                }
                self.end_attempt(number, outcome, &format!("the list of tests: {reason}"));
            }
            (Task::Shard(shard, _), TaskResult::Command { outcome, reason, ended }) => {
                self.shard_ended(id, shard, (outcome, reason), ended);
            }
            (Task::Make(_), TaskResult::Command { outcome, reason, ended }) => {
                self.make_failed(id, outcome, &reason, ended);
            }
            // A runner answers each task in its own way; anything else is our bug, and no result.
            (task, _) => self.task_failed(id, &task, ("it ended in a way that it cannot", false)),
        }
        self.changed(number);
    }

    /// Notes what was done, and for how long.
    fn record_task(&mut self, id: LeaseId, result: &TaskResult) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (outcome, detail) = match result {
            TaskResult::Done { detail, .. } => (Outcome::Passed, detail.clone()),
            TaskResult::Command { outcome, reason, .. } => (*outcome, reason.clone()),
            TaskResult::Listed(shards) => {
                let tests: usize = shards.iter().map(Vec::len).sum();
                (Outcome::Passed, format!("{tests} tests in {} shards", shards.len()))
            }
            TaskResult::Fault { reason, .. } => (Outcome::Infrastructure, reason.clone()),
        };
        let ended = match result {
            TaskResult::Command { ended, .. } => (*ended).min(self.now).max(lease.task_since),
            _ => self.now,
        };
        self.record_lease(id, outcome, detail, ended);
    }

    /// Notes the end of what a lease does now.
    pub(super) fn record_lease(&mut self, id: LeaseId, outcome: Outcome, detail: String, ended: Timestamp) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.task == Task::Wait {
            return;
        }
        let record = StepRecord {
            phase: lease.task.phase(),
            machine: Some(lease.machine.clone()),
            shard: lease.task.shard(),
            started: lease.task_since,
            ended,
            outcome,
            detail,
        };
        self.record(lease.build(), record);
    }

    /// Notes something that was done.
    pub(super) fn record(&mut self, number: BuildNumber, record: StepRecord) {
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        let id = build.attempt_id();
        let Some(attempt) = build.attempt_mut() else { return };
        let index = attempt.steps.len() as u32;
        attempt.steps.push(record.clone());
        self.save(Row::Step(id, index, record));
    }

    fn after_source(&mut self, id: LeaseId) {
        let make = self.state.leases.get(&id).and_then(|lease| lease.make_exec);
        match make {
            Some(exec) => self.assign(id, Task::Make(exec)),
            None => self.after_make(id),
        }
    }

    fn after_snapshot_fetch(&mut self, id: LeaseId, role: Role, key: &SnapshotKey) {
        let Some(number) = self.state.leases.get(&id).map(super::Lease::build) else { return };
        let Some(attempt) = self.state.attempt_mut(number) else { return };
        match (role, attempt.stage) {
            (_, Stage::Testing) => self.take_shard(id),
            // It is ready before the tests are listed.
            (Role::Helper, Stage::Preparing) => self.assign(id, Task::Wait),
            (Role::Main, Stage::Preparing) => {
                attempt.snapshot = Some(key.clone());
                self.save_attempt(number);
                for helper in self.waiting_helpers(number) {
                    self.assign(helper, Task::SnapshotFetch(key.clone()));
                }
                self.begin_testing(id);
            }
        }
    }

    /// Helpers that have nothing to do yet.
    fn waiting_helpers(&self, number: BuildNumber) -> Vec<LeaseId> {
        let helpers = self.state.attempt(number).into_iter().flat_map(|attempt| &attempt.helpers).copied();
        let waits = |id: &LeaseId| self.state.leases.get(id).is_some_and(|lease| lease.task == Task::Wait);
        helpers.filter(waits).collect()
    }

    fn after_make(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let Some(build) = self.state.builds.get(&lease.build()) else { return };
        let key = self.state.snapshot_key(build, &lease.machine);
        match key {
            Some(key) if self.state.snapshots.contains(&key) => {
                // Another build has stored the same meanwhile.
                self.after_snapshot_fetch(id, Role::Main, &key);
            }
            Some(key) => self.assign(id, Task::SnapshotStore(key)),
            None => self.begin_testing(id),
        }
    }

    fn after_snapshot_store(&mut self, id: LeaseId, key: &SnapshotKey, bytes: u64) {
        self.state.snapshots.insert(key.clone());
        self.save(Row::Snapshot(key.clone(), bytes, self.now));
        self.act(Action::SnapshotStored);
        self.after_snapshot_fetch(id, Role::Main, key);
    }

    pub(super) fn begin_testing(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, attempt) = (lease.build(), lease.attempt);
        let Some(build) = self.state.builds.get(&number) else { return };
        if build.plan.tests.is_none() {
            let flakes = build.told_of_flakes();
            self.end_attempt(number, Outcome::Passed, &flakes);
        } else if build.plan.is_sharded() {
            let exec = self.plan_exec(id, attempt, "list", 0);
            self.assign(id, Task::List(exec));
        } else {
            self.begin_tests(number, vec![Vec::new()]);
            self.take_shard(id);
        }
    }

    fn after_list(&mut self, id: LeaseId, shards: Vec<Vec<ListedTest>>) {
        let Some(number) = self.state.leases.get(&id).map(super::Lease::build) else { return };
        if shards.is_empty() {
            let flakes =
                self.state.builds.get(&number).map(|build| build.told_of_flakes()).unwrap_or_default();
            self.end_attempt(number, Outcome::Passed, &flakes);
            return;
        }
        let ready = self.waiting_helpers(number);
        let shards = match self.state.builds.get(&number) {
            Some(build) => build.wanted(shards),
            None => shards,
        };
        self.begin_tests(number, shards);
        self.take_shard(id);
        for helper in ready {
            self.take_shard(helper);
        }
    }

    /// Forgets snapshots, but for those that a build uses now.
    pub(super) fn drop_snapshots(&mut self, keys: Vec<SnapshotKey>) {
        for key in keys {
            let used = self.state.leases.values().any(|lease| lease.task == Task::SnapshotFetch(key.clone()))
                || self.state.builds().filter_map(Build::attempt).any(|a| a.snapshot.as_ref() == Some(&key));
            if !used && self.state.snapshots.remove(&key) {
                self.save(Row::SnapshotGone(key.clone()));
                self.act(Action::RemoveSnapshot(key));
            }
        }
    }

    /// The farm could not do something.
    fn task_failed(&mut self, id: LeaseId, task: &Task, (reason, of_machine): (&str, bool)) {
        if of_machine && let Some(lease) = self.state.leases.get(&id) {
            let machine = lease.machine.clone();
            // It may be in quarantine after that, and its work be given to others.
            self.judge_machine(&machine, true);
        }
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, role) = (lease.build(), lease.role);
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        let Some(attempt) = build.attempt_mut() else { return };
        let preparing = attempt.stage == Stage::Preparing;
        match task {
            Task::SnapshotFetch(_) if role == Role::Helper => {
                attempt.helper_faults += 1;
                self.release(id, reason);
                self.save_attempt(number);
                self.go_on_without(number, reason);
            }
            Task::SnapshotFetch(key) if preparing => self.make_after_all(id, key.clone()),
            // The tests need no snapshot; only helpers would.
            Task::SnapshotStore(_) => {
                for helper in self.waiting_helpers(number) {
                    self.release(helper, "the snapshot could not be stored");
                }
                self.begin_testing(id);
            }
            Task::Shard(shard, _) => {
                let shard = *shard;
                self.release(id, reason);
                if self.give_back(number, shard, reason) {
                    self.go_on_without(number, reason);
                }
            }
            _ => self.fail_attempt(number, reason, true),
        }
    }

    /// A snapshot cannot be used: it is forgotten, and the build makes.
    fn make_after_all(&mut self, id: LeaseId, key: SnapshotKey) {
        self.state.snapshots.remove(&key);
        self.save(Row::SnapshotGone(key));
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, attempt) = (lease.build(), lease.attempt);
        let makes = self.state.builds.get(&number).is_some_and(|build| !build.plan.make.is_empty());
        let make_exec = makes.then(|| self.plan_exec(id, attempt, "make", 0));
        if let Some(lease) = self.state.leases.get_mut(&id) {
            lease.make_exec = make_exec;
        }
        if let Some(attempt) = self.state.attempt_mut(number) {
            attempt.make_exec = make_exec;
        }
        self.save_attempt(number);
        self.assign(id, Task::Source { clean: true });
    }
}
