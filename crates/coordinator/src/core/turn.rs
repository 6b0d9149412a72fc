//! One step in the making: the state it changes, and what it wants done.

use types::{BuildNumber, ExecId, Fence, LeaseId, Timestamp};
use uuid::Uuid;

use super::{Action, AttemptRow, Effects, Row, Stamp, State, Task, effect::Assignment, machine::Lease};

/// How many fences one row reserves: a row for each would make every lease wait for the disk.
pub(super) const FENCES_AHEAD: u64 = 64;

/// One step.
pub(super) struct Turn<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    seed: Uuid,
    ids: u32,
    effects: Effects,
}

impl<'a> Turn<'a> {
    pub(super) fn new(state: &'a mut State, stamp: Stamp) -> Self {
        Self { state, now: stamp.now, seed: stamp.seed, ids: 0, effects: Effects::default() }
    }

    /// A new name: the seed with its last four bytes counted up, still a UUIDv7.
    pub(super) fn new_id(&mut self) -> Uuid {
        let mut bytes = *self.seed.as_bytes();
        let last = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        bytes[12..].copy_from_slice(&last.wrapping_add(self.ids).to_be_bytes());
        self.ids += 1;
        Uuid::from_bytes(bytes)
    }

    pub(super) fn new_exec(&mut self) -> ExecId {
        ExecId(self.new_id())
    }

    pub(super) fn new_lease(&mut self) -> LeaseId {
        LeaseId(self.new_id())
    }

    /// A fence above all before, those before a restart included.
    pub(super) fn new_fence(&mut self) -> Fence {
        let fence = Fence(self.state.next_fence);
        self.state.next_fence += 1;
        if fence.0 >= self.state.reserved_fences {
            self.state.reserved_fences = fence.0 + FENCES_AHEAD;
            self.save(Row::Fence(Fence(self.state.reserved_fences - 1)));
        }
        fence
    }

    pub(super) fn save(&mut self, row: Row) {
        self.effects.rows.push(row);
    }

    pub(super) fn act(&mut self, action: Action) {
        self.effects.actions.push(action);
    }

    /// Says that a build has changed, and brings the queues in line.
    pub(super) fn changed(&mut self, number: BuildNumber) {
        self.state.reindex_build(number);
        let again = |action: &Action| matches!(action, Action::Changed(other) if *other == number);
        if !self.effects.actions.iter().any(again) {
            self.act(Action::Changed(number));
        }
    }

    /// Stores how far a build is.
    pub(super) fn save_progress(&mut self, number: BuildNumber) {
        let Some(build) = self.state.builds.get(&number) else { return };
        let progress = super::BuildProgress {
            attempts: build.attempts,
            faults: build.faults,
            preempted: build.preempted,
            earlier: build.earlier,
            doubt: build.doubt.clone(),
            waiting_since: build.waiting_since,
            resting_until: match build.progress {
                super::Progress::Resting(until) => Some(until),
                _ => None,
            },
            last_fault: build.last_fault.clone(),
            started: build.attempt().map(|attempt| attempt.started),
        };
        self.save(Row::BuildProgress(number, progress));
    }

    /// Stores the attempt that runs.
    pub(super) fn save_attempt(&mut self, number: BuildNumber) {
        let row = self
            .state
            .builds
            .get(&number)
            .and_then(|build| build.attempt())
            .map(|attempt| Row::Attempt(AttemptRow::of(number, attempt)));
        self.effects.rows.extend(row);
    }

    /// Gives a lease something to do, and has it done.
    pub(super) fn assign(&mut self, id: LeaseId, task: Task) {
        let now = self.now;
        let Some(lease) = self.state.leases.get_mut(&id) else { return };
        lease.task = task;
        lease.task_since = now;
        let row = Row::Lease(lease.clone());
        self.save(row);
        self.run(id);
    }

    /// Has the task of a lease done, or re-attached to, if its machine is connected.
    pub(super) fn run(&mut self, id: LeaseId) {
        let action = self.state.leases.get(&id).and_then(|lease| self.assignment(lease));
        if let Some(assignment) = action {
            self.act(Action::Run(Box::new(assignment)));
        }
    }

    fn assignment(&self, lease: &Lease) -> Option<Assignment> {
        if lease.task == Task::Wait {
            return None;
        }
        let connection = self.state.machines.get(&lease.machine)?.connection?;
        let build = self.state.builds.get(&lease.build())?;
        let shard = (lease.task.shard() as usize).checked_sub(1);
        let tests =
            shard.and_then(|index| build.attempt()?.shards.get(index)).map(|shard| shard.tests.clone());
        Some(Assignment {
            machine: lease.machine.clone(),
            connection,
            lease: lease.id,
            fence: lease.fence,
            attempt: lease.attempt,
            key: build.key.clone(),
            is_try: build.is_try,
            plan: build.plan.clone(),
            task: lease.task.clone(),
            tests: tests.unwrap_or_default(),
        })
    }

    pub(super) fn finish(self) -> Effects {
        self.effects
    }
}
