//! Machines are given to builds: first to those that have none, in the order of the queue; what is left over helps.

use types::{AttemptId, BuildNumber, HostType, LeaseId, MachineName, Outcome, Phase};

use super::{
    Attempt, Build, Class, ExecRow, Lease, Machine, Mutation, Progress, Role, Row, SnapshotKey, Stage, State,
    StepRecord, Task, queue::precedes, turn::Turn,
};

/// How many builds are looked at for one that an idle machine can help.
const HELPED_LOOK: usize = 16;
/// In how many different work folders a machine is looked for that can use a snapshot.
const FOLDERS_LOOK: usize = 64;

impl Turn<'_> {
    /// Gives out machines where something has changed, until none is idle or nothing wants one; then makes room for
    /// what is urgent. Elsewhere nothing can be given: nobody waits, or no machine is idle.
    pub(super) fn schedule(&mut self) {
        while let Some(host) = self.state.stirred.pop_first() {
            while self.serve(&host) {}
            self.make_room(&host);
        }
    }

    /// Gives one machine away. False when there is none, or none is wanted.
    fn serve(&mut self, host: &HostType) -> bool {
        if self.state.fleet.first_idle(host).is_none() {
            return false;
        }
        let waiting = self.state.first_class(host);
        let wished = self.state.helped.iter(host).next().map(|(wish, _)| wish);
        // A build's helpers come right after those of its class that have no machine at all.
        let help_first = wished.is_some_and(|wished| precedes(wished, waiting));
        if help_first && self.grant_help(host, waiting) {
            return true;
        }
        if self.seat_first(host) {
            return true;
        }
        let Some(number) = self.state.queue.first(host, self.now, self.state.limits.patience) else {
            return false;
        };
        self.grant_first(number);
        true
    }

    /// Gives a machine to a build that has none.
    fn grant_first(&mut self, number: BuildNumber) {
        let Some(build) = self.state.builds.get(&number) else { return };
        let Some(machine) = self.state.idle_elsewhere(build).cloned() else { return };
        self.state.queue.take_turn(build);
        if let Some(attempt) = build.attempt() {
            // It lost its machines while testing and goes on from its snapshot, if a machine can use it.
            let wanted = attempt.snapshot.clone();
            let able = wanted.and_then(|wanted| {
                let useful = self.idle_for(build, &wanted, true);
                Some((useful.or_else(|| self.idle_for(build, &wanted, false))?, wanted))
            });
            let Some((able, wanted)) = able else {
                let reason = format!("no machine is left that can use its snapshot; `{machine}` cannot");
                self.end_attempt(number, Outcome::Infrastructure, &reason);
                return;
            };
            self.grant(number, &able, Role::Main, Task::SnapshotFetch(wanted));
        } else {
            let key =
                self.state.snapshot_key(build, &machine).filter(|key| self.state.snapshots.contains(key));
            self.begin_attempt(number);
            let task = key.map_or(Task::Source { clean: false }, Task::SnapshotFetch);
            self.grant(number, &machine, Role::Main, task);
        }
    }

    /// Gives an idle machine to a build that would put it to use and comes before `waiting`. False when there is none.
    fn grant_help(&mut self, host: &HostType, waiting: Option<Class>) -> bool {
        let able = self
            .state
            .helped
            .iter(host)
            .take_while(|(wish, _)| precedes(*wish, waiting))
            .take(HELPED_LOOK)
            .find_map(|(_, number)| {
                let build = self.state.builds.get(&number)?;
                let wanted = self.state.helpers_begin_with(build)?;
                let stored = build.attempt()?.snapshot.is_some();
                let task = if stored { Task::SnapshotFetch(wanted.clone()) } else { Task::Wait };
                Some((number, self.idle_for(build, wanted, true)?, task))
            });
        let Some((number, able, task)) = able else { return false };
        self.grant(number, &able, Role::Helper, task);
        true
    }

    /// An idle machine that can use a snapshot of a build; if asked, one that finds something to do there.
    fn idle_for(&self, build: &Build, wanted: &SnapshotKey, useful: bool) -> Option<MachineName> {
        let idle = self.state.fleet.idle_by_folder(&build.plan.host).take(FOLDERS_LOOK);
        let mut useful = idle.filter(|name| !useful || build.has_work_for(name));
        useful.find(|name| self.state.snapshot_key(build, name).as_ref() == Some(wanted)).cloned()
    }

    fn begin_attempt(&mut self, number: BuildNumber) {
        let now = self.now;
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        build.attempts += 1;
        let queued = StepRecord {
            phase: Phase::Queued,
            machine: None,
            shard: 0,
            started: build.waiting_since,
            ended: now,
            outcome: Outcome::Passed,
            detail: String::new(),
        };
        build.progress = Progress::Running(Box::new(Attempt {
            number: build.attempts,
            started: now,
            stage: Stage::Preparing,
            main: None,
            helpers: std::collections::BTreeSet::new(),
            snapshot: None,
            make_exec: None,
            list_exec: None,
            shards: Vec::new(),
            helper_faults: 0,
            steps: vec![queued.clone()],
        }));
        let id = build.attempt_id();
        self.save_progress(number);
        self.save(Row::Step(id, 0, queued));
    }

    /// Makes the lease. Everything that it will surely run is named now, so that the start costs one write.
    fn grant(&mut self, number: BuildNumber, machine: &MachineName, role: Role, task: Task) {
        let (id, fence) = (self.new_lease(), self.new_fence());
        let Some(build) = self.state.builds.get(&number) else { return };
        let (attempt, plan) = (build.attempt_id(), build.plan.clone());
        let preparing = build.attempt().is_some_and(|attempt| attempt.stage == Stage::Preparing);
        let begins = role == Role::Main && preparing;
        let makes = begins && matches!(task, Task::Source { .. }) && !plan.make.is_empty();
        let only_shard = begins && plan.tests.is_some() && !plan.is_sharded();
        let make_exec = makes.then(|| self.plan_exec(id, attempt, "make", 0));
        let test_exec = only_shard.then(|| self.plan_exec(id, attempt, "test", 1));
        let lease = Lease {
            id,
            fence,
            machine: machine.clone(),
            attempt,
            role,
            task: Task::Wait,
            task_since: self.now,
            granted: self.now,
            make_exec,
            test_exec,
        };
        self.state.count(&lease);
        self.state.leases.insert(id, lease);
        self.hold(number, machine, id, role);
        if let Some(attempt) = self.state.attempt_mut(number)
            && begins
        {
            attempt.make_exec = make_exec;
        }
        if role == Role::Main {
            self.save_attempt(number);
        }
        self.assign(id, task);
        self.changed(number);
    }

    /// Gives the commands that were named with a lease other names, so that none is started twice.
    pub(super) fn plan_anew(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, attempt) = (lease.build(), lease.attempt);
        let (makes, tests) = (lease.make_exec.is_some(), lease.test_exec.is_some());
        if !makes && !tests {
            return;
        }
        let make_exec = makes.then(|| self.plan_exec(id, attempt, "make", 0));
        let test_exec = tests.then(|| self.plan_exec(id, attempt, "test", 1));
        if let Some(lease) = self.state.leases.get_mut(&id) {
            (lease.make_exec, lease.test_exec) = (make_exec, test_exec);
            let row = Row::Lease(lease.clone());
            self.save(row);
        }
        if let Some(attempt) = self.state.attempt_mut(number) {
            attempt.make_exec = make_exec;
        }
        self.save_attempt(number);
    }

    /// Writes down a command before it is started.
    pub(super) fn plan_exec(
        &mut self,
        lease: LeaseId,
        attempt: AttemptId,
        kind: &'static str,
        shard: u32,
    ) -> types::ExecId {
        let id = self.new_exec();
        self.save(Row::Exec(ExecRow { id, lease, attempt, kind, shard }));
        id
    }

    fn hold(&mut self, number: BuildNumber, machine: &MachineName, lease: LeaseId, role: Role) {
        let now = self.now;
        if let Some(machine) = self.state.machines.get_mut(machine) {
            Machine::hold(machine, lease, now);
        }
        if !Mutation::TwoLeases.is(self.state.limits.mutation) {
            self.state.reindex_machine(machine);
        }
        if let Some(attempt) = self.state.attempt_mut(number) {
            match role {
                Role::Main => attempt.main = Some(lease),
                Role::Helper => {
                    attempt.helpers.insert(lease);
                }
            }
        }
    }
}

impl State {
    /// An idle machine for a build: another than that where its make step failed, if there is one among the first.
    fn idle_elsewhere(&self, build: &Build) -> Option<&MachineName> {
        let host = &build.plan.host;
        let failed_on = build.doubt.as_ref().map(|doubt| &doubt.machine);
        let mut idle = self.fleet.idle_by_folder(host).take(FOLDERS_LOOK);
        idle.find(|name| Some(*name) != failed_on).or_else(|| self.fleet.first_idle(host))
    }

    /// The name of the snapshot that a build would make or use on a machine.
    pub(super) fn snapshot_key(&self, build: &Build, machine: &MachineName) -> Option<SnapshotKey> {
        let plan = build.plan.snapshot.as_ref()?;
        if build.snapshot_base.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        if !Mutation::ForeignSnapshot.is(self.limits.mutation) {
            hasher.update(build.snapshot_base.as_bytes());
        }
        if !plan.movable {
            hasher.update(b"\0");
            hasher.update(self.machines.get(machine)?.info.work_folder.as_bytes());
        }
        Some(SnapshotKey(hasher.finalize().to_hex().as_str().into()))
    }
}

impl Machine {
    pub(super) fn hold(&mut self, lease: LeaseId, now: types::Timestamp) {
        self.lease = Some(lease);
        self.since = now;
    }
}
