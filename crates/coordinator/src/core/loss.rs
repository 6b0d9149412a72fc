//! Machines come, go and come back. One loss signal (architecture.md D8): whatever closes the connection starts one
//! clock; when it runs out, the work is given to others.

use types::{BuildNumber, ExecId, Fence, LeaseId, MachineName, Outcome, Timestamp};

use super::{Action, Arrival, Connection, Lease, Machine, Mutation, Progress, Row, Stage, Task, turn::Turn};

impl Turn<'_> {
    /// A machine has connected: it goes on with what it does, or is cleaned, or is idle.
    pub(super) fn connected(&mut self, arrival: Arrival) {
        let name = arrival.info.name.clone();
        let now = self.now;
        if let Some((_, fence)) = arrival.lease {
            // Rows can be older than the farm if a backup was put back; a fence never goes back.
            self.state.next_fence = self.state.next_fence.max(fence.0 + 1);
        }
        let held = self.arrive(&arrival, now);
        self.save(Row::Machine(arrival.info, now));
        if let Some(id) = held.filter(|id| self.state.seats.contains_key(id)) {
            return self.seat_came_back(id, arrival.lease);
        }
        match held.and_then(|id| self.state.leases.get(&id)).map(|lease| (lease.id, lease.fence)) {
            Some(held) if arrival.lease == Some(held) => {
                self.state.reindex_machine(&name);
                self.attach(held.0, &arrival.execs);
            }
            Some((id, _)) => self.came_back_empty(&name, id, arrival.lease),
            None => self.clean(&name, arrival.lease),
        }
    }

    /// Notes who is there. Answers the lease that we believe it holds.
    fn arrive(&mut self, arrival: &Arrival, now: Timestamp) -> Option<LeaseId> {
        let known = self.state.machines.remove(&arrival.info.name);
        let name = arrival.info.name.clone();
        if let Some(known) = &known {
            // It may serve other host types now, or in another folder.
            self.state.fleet.remove(known);
        }
        let lease = known.as_ref().and_then(|machine| machine.lease);
        let machine = Machine {
            info: arrival.info.clone(),
            connection: Some(arrival.connection),
            lost_at: now,
            connected: now,
            since: known.as_ref().filter(|_| lease.is_some()).map_or(now, |machine| machine.since),
            lease,
            cleaning: None,
            problem: arrival.problem.clone(),
            draining: arrival.draining,
            health: known.as_ref().map(|machine| machine.health).unwrap_or_default(),
            quarantine: known.as_ref().map(|machine| machine.quarantine.clone()).unwrap_or_default(),
            suspected: known.as_ref().is_some_and(|machine| machine.suspected),
        };
        self.state.machines.insert(name, machine);
        lease
    }

    /// The machine does not hold the lease that we gave it. If nothing had been done yet, for all that we know, the first
    /// call will take it; else its work is gone. Since not every row waits for the disk, the commands that were named with
    /// the lease may have begun on what is gone: they get other names.
    fn came_back_empty(&mut self, name: &MachineName, id: LeaseId, reported: Option<(LeaseId, Fence)>) {
        let fence = self.state.leases.get(&id).map(|lease| lease.fence);
        let older = reported.is_none_or(|(_, reported)| Some(reported) < fence);
        let first = self.state.leases.get(&id).is_some_and(|lease| lease.task.is_first());
        let trusted = Mutation::TrustReturned.is(self.state.limits.mutation);
        if older && (first || trusted) {
            self.state.reindex_machine(name);
            self.plan_anew(id);
            self.run(id);
        } else {
            self.lose(id, "it came back without its work");
            self.clean(name, reported);
        }
    }

    /// Ends whatever lease the machine holds, under a fence above it.
    pub(super) fn clean(&mut self, name: &MachineName, reported: Option<(LeaseId, Fence)>) {
        if let Some((lease, _)) = reported {
            let fence = self.new_fence();
            if let Some(machine) = self.state.machines.get_mut(name) {
                machine.cleaning = Some(fence);
                if let Some(connection) = machine.connection {
                    self.act(Action::EndLease { machine: name.clone(), connection, lease, fence });
                }
            }
        }
        self.state.reindex_machine(name);
    }

    /// Goes on with a lease over a new connection. The machine may be further than our rows, since not every row waits
    /// for the disk: the commands that it knows tell how far.
    fn attach(&mut self, id: LeaseId, execs: &[ExecId]) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let knows = |exec: Option<ExecId>| exec.filter(|exec| execs.contains(exec));
        let before_test =
            lease.task.is_first() || matches!(lease.task, Task::Make(_) | Task::SnapshotStore(_));
        let preparing =
            self.state.attempt(lease.build()).is_some_and(|attempt| attempt.stage == Stage::Preparing);
        match (knows(lease.test_exec), knows(lease.make_exec)) {
            (Some(exec), _) if before_test && preparing => {
                let number = lease.build();
                self.begin_tests(number, vec![Vec::new()]);
                self.start_shard(id, 1, exec);
            }
            (_, Some(exec)) if lease.task.is_first() => self.assign(id, Task::Make(exec)),
            _ => self.run(id),
        }
    }

    /// A connection is gone.
    pub(super) fn disconnected(&mut self, name: &MachineName, connection: Connection) {
        let (away, now) = (self.state.limits.away, self.now);
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        if machine.connection != Some(connection) {
            return;
        }
        machine.connection = None;
        machine.lost_at = now + away;
        machine.cleaning = None;
        machine.since = now;
        let (info, lease) = (machine.info.clone(), machine.lease);
        self.state.reindex_machine(name);
        self.save(Row::Machine(info, now));
        if let Some(build) = lease.and_then(|id| self.state.leases.get(&id)).map(Lease::build) {
            self.changed(build);
        }
        if let Some(session) = lease.and_then(|id| self.state.seats.get(&id)).cloned() {
            self.act(Action::SessionChanged(session));
        }
    }

    /// A machine has been cleaned, or could not be.
    pub(super) fn cleaned(&mut self, name: &MachineName, fence: Fence, problem: Option<String>) {
        let now = self.now;
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        if machine.cleaning != Some(fence) {
            return;
        }
        machine.cleaning = None;
        machine.since = now;
        if let Some(problem) = problem {
            machine.problem = problem;
        }
        self.state.reindex_machine(name);
    }

    /// A machine takes no further lease. The one it has goes on.
    pub(super) fn unfit(&mut self, name: &MachineName, problem: String) {
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        machine.draining = problem.is_empty();
        machine.problem = problem;
        self.state.reindex_machine(name);
    }

    /// What the time has brought: machines that stayed away, builds that have rested.
    pub(super) fn pass_time(&mut self) {
        while let Some((at, name)) = self.state.away.first()
            && at <= self.now
        {
            self.state.away.set(&name, None);
            if let Some(id) = self.state.machines.get(&name).and_then(|machine| machine.lease) {
                self.lose(id, &format!("machine `{name}` was lost: its connection is gone"));
            }
        }
        self.end_idle_sessions();
        while let Some((at, number)) = self.state.resting.first()
            && at <= self.now
        {
            self.state.resting.set(&number, None);
            if let Some(build) = self.state.builds.get_mut(&number) {
                build.progress = Progress::Queued;
            }
            self.save_progress(number);
            self.changed(number);
        }
        while let Some((at, name)) = self.state.suspected.first()
            && at <= self.now
        {
            self.believe(&name);
        }
        while let Some((at, number)) = self.state.doubting.first()
            && at <= self.now
        {
            self.state.doubting.set(&number, None);
            self.give_up_elsewhere(number);
        }
        while let Some((at, number)) = self.state.urging.first()
            && at <= self.now
        {
            self.state.urging.set(&number, None);
            if let Some(build) = self.state.builds.get(&number) {
                self.state.queue.urge(build);
                self.state.stirred.insert(build.plan.host.clone());
            }
        }
    }

    /// The machine of a lease is lost, or has lost its work.
    fn lose(&mut self, id: LeaseId, reason: &str) {
        if let Some(session) = self.state.seats.get(&id).cloned() {
            return self.lose_session(&session, reason);
        }
        self.record_lease(id, Outcome::Infrastructure, reason.to_owned(), self.now);
        let Some(lease) = self.drop_lease(id, reason) else { return };
        self.act(Action::Stop(id));
        let number = lease.build();
        let shard = lease.task.shard();
        if Mutation::ForgetRequeue.is(self.state.limits.mutation) {
            return;
        }
        if shard == 0 || self.give_back(number, shard, reason) {
            self.go_on_without(number, reason);
        }
        self.changed(number);
    }

    /// A lease of an attempt is gone: others go on, or another machine begins with the snapshot, or the attempt ends.
    pub(super) fn go_on_without(&mut self, number: BuildNumber, reason: &str) {
        if !self.goes_on(number) {
            self.fail_attempt(number, reason, false);
        }
    }

    /// Whether an attempt that has lost a lease can go on; if it can, it does.
    pub(super) fn goes_on(&mut self, number: BuildNumber) -> bool {
        let now = self.now;
        let Some(build) = self.state.builds.get_mut(&number) else { return true };
        let Some(attempt) = build.attempt() else { return true };
        if attempt.main.is_some() || (attempt.stage == Stage::Testing && !attempt.helpers.is_empty()) {
            self.changed(number);
            return true;
        }
        // What is shown of a log never changes, so an only shard, which is shown while it runs, is not begun again.
        let can_go_on =
            attempt.stage == Stage::Testing && attempt.snapshot.is_some() && attempt.shards.len() > 1;
        if can_go_on {
            build.waiting_since = now;
            self.save_progress(number);
            self.changed(number);
        }
        can_go_on
    }
}
