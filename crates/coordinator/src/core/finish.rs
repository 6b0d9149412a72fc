//! How attempts, builds and leases end. Only an infrastructure fault is followed by another attempt, within a budget.

use types::{AttemptId, BuildNumber, LeaseId, Outcome, Phase};

use super::{
    Action, AttemptRow, BuildEnd, Mutation, Progress, Row, ShardState, StepRecord, Task, turn::Turn,
};

impl Turn<'_> {
    /// Ends the attempt of a build, and the build with it unless the farm was at fault.
    pub(super) fn end_attempt(&mut self, number: BuildNumber, outcome: Outcome, reason: &str) {
        if outcome == Outcome::Infrastructure {
            self.fail_attempt(number, reason, true);
        } else {
            self.close_attempt(number, outcome, reason);
            self.end_build(number, outcome, reason);
        }
    }

    /// Ends an attempt by a fault of the farm. `rest` says whether the next one waits a while first: it need not when
    /// a machine has died, since another will do.
    pub(super) fn fail_attempt(&mut self, number: BuildNumber, reason: &str, rest: bool) {
        self.close_attempt(number, Outcome::Infrastructure, reason);
        let (limits, now) = (self.state.limits, self.now);
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        build.faults += 1;
        let bounded = !Mutation::EndlessRetries.is(limits.mutation);
        if bounded && build.faults >= limits.attempts {
            let text = format!("{} attempts, the last: {reason}", build.attempts);
            self.save_progress(number);
            self.end_build(number, Outcome::Infrastructure, &text);
            return;
        }
        reason.clone_into(&mut build.last_fault);
        build.waiting_since = now;
        build.progress =
            if rest { Progress::Resting(now + limits.rest_after(build.faults)) } else { Progress::Queued };
        self.save_progress(number);
        self.changed(number);
    }

    /// Ends an attempt for no fault at all: the build goes back to its place in the queue.
    pub(super) fn requeue(&mut self, number: BuildNumber, reason: &str) {
        self.close_attempt(number, Outcome::Cancelled, reason);
        let now = self.now;
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        reason.clone_into(&mut build.last_fault);
        build.waiting_since = now;
        build.progress = Progress::Queued;
        self.save_progress(number);
        self.changed(number);
    }

    /// Ends everything that an attempt has going on, and notes how it ended.
    pub(super) fn close_attempt(&mut self, number: BuildNumber, outcome: Outcome, reason: &str) {
        let now = self.now;
        let Some(build) = self.state.builds.get(&number) else { return };
        let id = build.attempt_id();
        let Some(attempt) = build.attempt() else { return };
        let leases: Vec<LeaseId> = attempt.leases().collect();
        for lease in leases {
            let running = self.state.leases.get(&lease).is_some_and(|lease| self.is_unrecorded(lease));
            if running {
                self.record_lease(lease, Outcome::Cancelled, String::new(), now);
            }
            self.release(lease, "its attempt has ended");
        }
        let Some(attempt) = self.state.attempt_mut(number) else { return };
        let mut rows = Vec::new();
        for shard in &mut attempt.shards {
            if shard.outcome().is_none() {
                shard.state = ShardState::Ended(Outcome::Cancelled);
                shard.ended = shard.started.map(|_| now);
                rows.push(Row::Shard(id, shard.clone()));
            }
        }
        let last = attempt.steps.last().map_or(now, |step| step.ended);
        let mut row = AttemptRow::of(number, attempt);
        row.end = Some((now, outcome, reason.to_owned()));
        self.record(number, finishing(last, now));
        for row in rows {
            self.save(row);
        }
        self.save(Row::Attempt(row));
    }

    /// Whether what a lease does has not been noted as ended in this very step.
    fn is_unrecorded(&self, lease: &super::Lease) -> bool {
        let Some(attempt) = self.state.attempt(lease.build()) else {
            return false;
        };
        lease.task != Task::Wait
            && !attempt.steps.last().is_some_and(|step| {
                step.machine.as_ref() == Some(&lease.machine)
                    && step.phase == lease.task.phase()
                    && step.shard == lease.task.shard()
                    && step.started == lease.task_since
            })
    }

    /// Ends a build for good: its result goes to the log of mutations, and it is forgotten here.
    pub(super) fn end_build(&mut self, number: BuildNumber, outcome: Outcome, reason: &str) {
        self.state.unqueue(number);
        let Some(mut build) = self.state.builds.remove(&number) else { return };
        if build.earlier > 0 && build.attempts == build.earlier {
            // It was begun again, and ends before its next attempt: as that, since the last one was reported.
            build.attempts += 1;
        }
        self.state.keys.remove(&build.key);
        self.state.recent.push(build.key.clone(), number, build.attempts);
        let shards = build.attempt().map(|attempt| attempt.shards.as_slice()).unwrap_or_default();
        let made_twice = build.doubt.as_ref().is_some_and(|doubt| doubt.passed);
        let flakes = shards.iter().filter(|shard| shard.is_flaky()).count() as u32 + u32::from(made_twice);
        let end = BuildEnd {
            attempt: build.attempt_id(),
            started: build.attempt().map_or(self.now, |attempt| attempt.started),
            key: build.key,
            outcome,
            reason: reason.to_owned(),
            ended: self.now,
            is_try: build.is_try,
            flakes,
        };
        self.save(Row::BuildEnd(end.clone()));
        if Mutation::ReportTwice.is(self.state.limits.mutation) {
            let attempt = AttemptId { attempt: end.attempt.attempt + 1, ..end.attempt };
            self.save(Row::BuildEnd(BuildEnd { attempt, ..end.clone() }));
        }
        self.act(Action::Ended(end));
        self.changed(number);
        self.try_build_ended(number, (outcome, super::tries::note(outcome, flakes, reason)));
    }

    /// Ends a lease: its machine is cleaned.
    pub(super) fn release(&mut self, id: LeaseId, reason: &str) {
        let Some(lease) = self.drop_lease(id, reason) else { return };
        self.free(&lease.machine, id, lease.fence);
    }

    /// Takes a lease off the books.
    pub(super) fn drop_lease(&mut self, id: LeaseId, reason: &str) -> Option<super::Lease> {
        let lease = self.state.leases.remove(&id)?;
        self.state.discount(&lease, self.now);
        self.save(Row::LeaseEnd { id, ended: self.now, reason: reason.to_owned() });
        if let Some(attempt) = self.state.attempt_mut(lease.build()) {
            attempt.helpers.remove(&id);
            if attempt.main == Some(id) {
                attempt.main = None;
            }
        }
        if let Some(machine) = self.state.machines.get_mut(&lease.machine) {
            machine.lease = None;
        }
        self.state.reindex_machine(&lease.machine);
        Some(lease)
    }
}

fn finishing(started: types::Timestamp, ended: types::Timestamp) -> StepRecord {
    StepRecord {
        phase: Phase::Finish,
        machine: None,
        shard: 0,
        started,
        ended,
        outcome: Outcome::Passed,
        detail: String::new(),
    }
}
