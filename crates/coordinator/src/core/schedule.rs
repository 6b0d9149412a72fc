//! Machines are given to builds: first to those that have none, in the order of the queue; what is left over helps.

use types::{AttemptId, BuildNumber, HostType, LeaseId, MachineName, Outcome, Phase};

use super::{
    Attempt, Build, ExecRow, Lease, Machine, Progress, Role, Row, SnapshotKey, Stage, StepRecord, Task,
    turn::Turn,
};

/// How many builds are looked at for one that an idle machine can help.
const HELPED_LOOK: usize = 16;

impl Turn<'_> {
    /// Gives out machines until none is idle or nothing wants one.
    pub(super) fn schedule(&mut self) {
        if self.state.idle.is_empty() {
            return;
        }
        let hosts: Vec<HostType> = self.state.idle.keys().cloned().collect();
        for host in hosts {
            while let Some(machine) = self.first_idle(&host) {
                let Some(number) = self.state.queue.first(&host) else { break };
                self.grant_first(number, &machine);
            }
            while self.state.queue.is_empty(&host) && self.grant_help(&host) {}
        }
    }

    fn first_idle(&self, host: &HostType) -> Option<MachineName> {
        self.state.idle.get(host)?.first().cloned()
    }

    /// Gives a machine to a build that has none.
    fn grant_first(&mut self, number: BuildNumber, machine: &MachineName) {
        let Some(build) = self.state.builds.get(&number) else { return };
        if let Some(attempt) = build.attempt() {
            // It lost its machines while testing and goes on from its snapshot, if this machine can use it.
            let wanted = attempt.snapshot.clone();
            let offered = self.snapshot_key(build, machine);
            if wanted.is_none() || wanted != offered {
                let reason = format!("no machine is left that can use its snapshot; `{machine}` cannot");
                self.end_attempt(number, Outcome::Infrastructure, &reason);
                return;
            }
            self.grant(number, machine, Role::Main, wanted);
        } else {
            let key = self.snapshot_key(build, machine).filter(|key| self.state.snapshots.contains(key));
            self.begin_attempt(number);
            self.grant(number, machine, Role::Main, key);
        }
    }

    /// Gives an idle machine to a build that would put it to use. False when there is none.
    fn grant_help(&mut self, host: &HostType) -> bool {
        let Some(machine) = self.first_idle(host) else { return false };
        let able = self.state.helped.iter(host).take(HELPED_LOOK).find_map(|number| {
            let build = self.state.builds.get(&number)?;
            let wanted = build.attempt()?.snapshot.clone()?;
            let idle = self.state.idle.get(host)?;
            let machine =
                idle.iter().find(|name| self.snapshot_key(build, name).as_ref() == Some(&wanted))?;
            Some((number, machine.clone(), wanted))
        });
        let Some((number, able, wanted)) = able else {
            let _ = machine;
            return false;
        };
        self.grant(number, &able, Role::Helper, Some(wanted));
        true
    }

    /// The name of the snapshot that a build would make or use on a machine.
    pub(super) fn snapshot_key(&self, build: &Build, machine: &MachineName) -> Option<SnapshotKey> {
        let plan = build.plan.snapshot.as_ref()?;
        if build.snapshot_base.is_empty() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(build.snapshot_base.as_bytes());
        if !plan.movable {
            hasher.update(b"\0");
            hasher.update(self.state.machines.get(machine)?.info.work_folder.as_bytes());
        }
        Some(SnapshotKey(hasher.finalize().to_hex().as_str().into()))
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
        build.progress = Progress::Running(Attempt {
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
        });
        let id = build.attempt_id();
        self.save_progress(number);
        self.save(Row::Step(id, 0, queued));
    }

    /// Makes the lease. Everything that it will surely run is named now, so that the start costs one write.
    fn grant(
        &mut self,
        number: BuildNumber,
        machine: &MachineName,
        role: Role,
        snapshot: Option<SnapshotKey>,
    ) {
        let (id, fence) = (self.new_lease(), self.new_fence());
        let Some(build) = self.state.builds.get(&number) else { return };
        let (attempt, plan) = (build.attempt_id(), build.plan.clone());
        let begins = build.attempt().is_some_and(|attempt| attempt.stage == Stage::Preparing);
        let task = snapshot.map_or(Task::Source { clean: false }, Task::SnapshotFetch);
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
        self.state.leases.insert(id, lease);
        self.hold(number, machine, id, role);
        if let Some(attempt) = self.state.builds.get_mut(&number).and_then(Build::attempt_mut)
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
        self.state.reindex_machine(machine);
        if let Some(attempt) = self.state.builds.get_mut(&number).and_then(Build::attempt_mut) {
            match role {
                Role::Main => attempt.main = Some(lease),
                Role::Helper => {
                    attempt.helpers.insert(lease);
                }
            }
        }
    }
}

impl Machine {
    fn hold(&mut self, lease: LeaseId, now: types::Timestamp) {
        self.lease = Some(lease);
        self.since = now;
    }
}
