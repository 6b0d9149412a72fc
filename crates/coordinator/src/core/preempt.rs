//! Batch work makes room. When a release or a person waits and no machine is free, or a try has waited for a while, a
//! machine that does what nobody waits for is taken from it: first helpers, which lose a shard's time and nothing else,
//! then the build that began last. It is no fault: it costs no budget, and a build that has made room often enough is
//! left alone.

use types::{HostType, LeaseId, Outcome};

use super::{Build, Mutation, Role, Stage, State, turn::Turn};

impl Turn<'_> {
    /// Takes machines until as many come free as are urgently waited for.
    pub(super) fn make_room(&mut self, host: &HostType) {
        while let (urgent, Some(first)) = self.state.urgent(host)
            && urgent > self.state.fleet.coming(host)
            && let Some(victim) = self.state.victim(host)
        {
            self.preempt(victim, &first);
        }
    }

    fn preempt(&mut self, id: LeaseId, urgent: &str) {
        let Some(lease) = self.state.leases.get(&id).cloned() else { return };
        let number = lease.build();
        let reason = format!("it made room for {urgent}");
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        if lease.role == Role::Main {
            build.preempted += 1;
            if !can_go_on_elsewhere(build) {
                self.requeue(number, &reason);
                return;
            }
        }
        self.save_progress(number);
        self.record_lease(id, Outcome::Cancelled, reason.clone(), self.now);
        self.release(id, &reason);
        if lease.task.shard() > 0 && !Mutation::ForgetPreempted.is(self.state.limits.mutation) {
            self.put_back(number, lease.task.shard(), &reason, false);
        }
        if !self.goes_on(number) {
            self.requeue(number, &reason);
        }
    }
}

impl State {
    /// The lease that makes room next: its machine must be there to be had.
    pub(super) fn victim(&self, host: &HostType) -> Option<LeaseId> {
        self.fleet.victims(host).find(|id| {
            let machine = self.leases.get(id).and_then(|lease| self.machines.get(&lease.machine));
            machine.is_some_and(super::Machine::is_fit)
        })
    }
}

/// Whether any other machine can take over where the main one stops.
fn can_go_on_elsewhere(build: &Build) -> bool {
    let movable = build.plan.snapshot.as_ref().is_some_and(|snapshot| snapshot.movable);
    build.attempt().is_some_and(|attempt| {
        attempt.stage == Stage::Testing && movable && attempt.snapshot.is_some() && attempt.shards.len() > 1
    })
}
