//! What must hold after every step, whatever has happened (architecture.md, part 4). Tests and the simulator ask.

use std::collections::{BTreeMap, BTreeSet};

use super::{Build, Class, Progress, Role, ShardState, Stage, State, Task, queue::Queue};

impl State {
    /// Says which invariant is broken, if one is.
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        self.check_leases()?;
        self.check_machines()?;
        for build in self.builds.values() {
            self.check_build(build).map_err(|what| format!("build {}: {what}", build.number))?;
        }
        ensure(self.keys.len() == self.builds.len(), || "a build without a key".to_owned())?;
        let queued = self.builds.values().filter(|build| build.needs_machine()).count();
        ensure(queued == self.queue.len(), || "the queue holds a build that needs no machine".to_owned())?;
        ensure(self.stirred.is_empty(), || "a host type was not served to the end".to_owned())?;
        self.check_shares()?;
        self.check_sessions()?;
        self.check_tries()?;
        for host in self.queue.hosts().chain(self.applicants.keys()) {
            let idle = self.fleet.first_idle(host).is_some();
            ensure(!idle, || format!("a machine of `{host}` is idle while a build waits for one"))?;
            let urgent = self.urgent(host).0 > self.fleet.coming(host);
            ensure(!urgent || self.victim(host).is_none(), || {
                format!("an urgent build waits for a machine of `{host}` while batch work could make room")
            })?;
        }
        Ok(())
    }

    /// Says what waits without a reason, or is not found by its key, if something is. It asks for all words of all reasons
    /// and reads all keys, so it takes far longer than [`State::check`].
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check_closely(&self) -> Result<(), String> {
        for (key, number) in &self.keys {
            let own = self.builds.get(number).is_some_and(|build| build.key == *key);
            ensure(own, || format!("the key of build {number} leads elsewhere"))?;
        }
        for build in self.builds.values() {
            let number = build.number;
            let waits = build.needs_machine() || matches!(build.progress, Progress::Resting(_));
            ensure(!waits || self.wait_reason(number).is_some(), || {
                format!("build {number} waits without a reason")
            })?;
            let shards = build.attempt().map(|attempt| attempt.shards.as_slice()).unwrap_or_default();
            for shard in shards.iter().filter(|shard| shard.state == ShardState::Waiting) {
                ensure(self.shard_wait(number, shard.number).is_some(), || {
                    format!("shard {} of build {number} waits without a reason", shard.number)
                })?;
            }
        }
        for session in self.sessions.values().filter(|session| session.seat.is_none()) {
            ensure(self.session_wait(&session.name).is_some(), || {
                format!("session {} waits without a reason", session.name)
            })?;
        }
        Ok(())
    }

    /// A session has a machine, which knows it, or waits for one; and its clock runs.
    fn check_sessions(&self) -> Result<(), String> {
        let mut seated = 0;
        let leases = self.leases.values().map(|lease| lease.fence);
        let mut fences: BTreeSet<_> = leases.collect();
        for (name, session) in &self.sessions {
            let due = self.session_clocks.due(name) == Some(session.expires);
            ensure(due, || format!("session {name} has no clock of its own"))?;
            let place = (session.created, name.clone());
            let listed = self.applicants.get(&session.host).is_some_and(|waiting| waiting.contains(&place));
            ensure(listed == session.seat.is_none(), || {
                format!("session {name} has a machine and waits, or neither")
            })?;
            let Some(seat) = &session.seat else { continue };
            seated += 1;
            ensure(self.seats.get(&seat.lease) == Some(name), || format!("session {name} is not seated"))?;
            ensure(fences.insert(seat.fence), || format!("fence {} was given out twice", seat.fence))?;
            ensure(seat.fence.0 < self.next_fence, || format!("fence {} is not below the next", seat.fence))?;
            let machine = self.machines.get(&seat.machine);
            ensure(machine.is_some_and(|machine| machine.lease == Some(seat.lease)), || {
                format!("`{}` does not know its lease", seat.machine)
            })?;
        }
        ensure(seated == self.seats.len(), || "a seat without a session".to_owned())
    }

    /// What shares are held to use is what their leases are.
    fn check_shares(&self) -> Result<(), String> {
        let mut expected = BTreeMap::new();
        for lease in self.leases.values() {
            if let Some(build) = self.builds.get(&lease.build()) {
                *expected.entry(Queue::share(build)).or_insert(0) += 1;
            }
        }
        for (share, in_use) in self.queue.in_use() {
            let counted = expected.remove(&share).unwrap_or(0);
            ensure(in_use == counted, || {
                format!("share {share:?} is held to use {in_use} machines and uses {counted}")
            })?;
        }
        ensure(expected.is_empty(), || "a share uses machines and is forgotten".to_owned())
    }

    fn check_leases(&self) -> Result<(), String> {
        let mut machines = BTreeSet::new();
        let mut fences = BTreeSet::new();
        for lease in self.leases.values() {
            let id = lease.id;
            ensure(machines.insert(&lease.machine), || format!("`{}` has two live leases", lease.machine))?;
            ensure(fences.insert(lease.fence), || format!("fence {} was given out twice", lease.fence))?;
            ensure(lease.fence.0 < self.next_fence, || {
                format!("fence {} is not below the next", lease.fence)
            })?;
            let machine = self.machines.get(&lease.machine);
            ensure(machine.is_some_and(|machine| machine.lease == Some(id)), || {
                format!("`{}` does not know its lease", lease.machine)
            })?;
            let attempt = self.attempt(lease.build());
            let held = attempt.is_some_and(|attempt| {
                attempt.number == lease.attempt.attempt && attempt.leases().any(|other| other == id)
            });
            ensure(held, || format!("lease {id} serves no attempt"))?;
        }
        Ok(())
    }

    fn check_machines(&self) -> Result<(), String> {
        for (name, machine) in &self.machines {
            let live =
                machine.lease.is_none_or(|id| self.leases.contains_key(&id) || self.seats.contains_key(&id));
            ensure(live, || format!("`{name}` holds a lease that is over"))?;
            let away = machine.connection.is_none() && machine.lease.is_some();
            let known = self.away.due(name) == Some(machine.lost_at);
            ensure(away == known, || format!("`{name}` is away and no clock runs, or the reverse"))?;
            let rests = self.suspected.due(name).is_some();
            ensure(machine.suspected == rests, || {
                format!("`{name}` rests and no clock runs, or the reverse")
            })?;
            // A person may go on to look for what is wrong with it.
            let works = machine.lease.is_some_and(|id| self.leases.contains_key(&id));
            ensure(!works || machine.quarantine.is_empty(), || {
                format!("`{name}` is in quarantine and works on a build")
            })?;
            for host in &machine.info.host_types {
                let idle = self.fleet.is_idle(host, machine);
                ensure(idle == machine.is_idle(), || {
                    format!("`{name}` is idle and not listed, or the reverse")
                })?;
            }
        }
        Ok(())
    }

    fn check_build(&self, build: &Build) -> Result<(), String> {
        let number = build.number;
        let tried = build.earlier + build.faults + build.preempted + u32::from(build.doubt.is_some()) + 1;
        ensure(build.attempts <= tried, || {
            "an attempt that neither a fault nor a preemption explains".to_owned()
        })?;
        ensure(build.faults < self.limits.attempts, || "more faults than the budget".to_owned())?;
        let most = if build.class == Class::Batch { self.limits.preemptions } else { 0 };
        ensure(build.preempted <= most, || "it made room beyond its budget".to_owned())?;
        ensure(build.spot == build.wanted_spot(), || "its place in the queue is wrong".to_owned())?;
        ensure(
            self.helped.contains(number)
                == (build.wants_helper() && self.helpers_begin_with(build).is_some()),
            || "its wish for help is not listed".to_owned(),
        )?;
        if let Progress::Resting(until) = build.progress {
            ensure(self.resting.due(&number) == Some(until), || "it rests and no clock runs".to_owned())?;
        }
        self.check_attempt(build)
    }

    fn check_attempt(&self, build: &Build) -> Result<(), String> {
        let Some(attempt) = build.attempt() else { return Ok(()) };
        for id in attempt.leases() {
            ensure(self.leases.contains_key(&id), || format!("lease {id} is over"))?;
        }
        let prepares = attempt.stage == Stage::Testing || attempt.main.is_some();
        ensure(prepares, || "nobody prepares it".to_owned())?;
        let goes_on = attempt.stage == Stage::Testing && attempt.snapshot.is_some();
        ensure(attempt.leases().next().is_some() || goes_on, || "it runs on no machine".to_owned())?;
        for shard in &attempt.shards {
            ensure(shard.faults < self.limits.shard_tries, || {
                format!("shard {} has too many faults", shard.number)
            })?;
            if let ShardState::Running(id) = shard.state {
                let task = self.leases.get(&id).map(|lease| &lease.task);
                let runs = matches!(task, Some(Task::Shard(number, exec))
                    if *number == shard.number && Some(*exec) == shard.exec);
                ensure(runs, || format!("shard {} runs nowhere", shard.number))?;
                let machine = self.leases.get(&id).map(|lease| &lease.machine);
                let first = shard.first.as_ref().filter(|first| !first.anywhere);
                let elsewhere = first.is_none_or(|first| machine != Some(&first.machine));
                ensure(elsewhere, || format!("shard {} runs again where it failed", shard.number))?;
            }
        }
        let doubted = attempt.shards.iter().filter(|shard| shard.first.is_some()).count() as u32;
        ensure(doubted <= self.limits.second_runs, || "more second runs than the budget".to_owned())?;
        let due = attempt.doubted_since().map(|since| since + self.limits.elsewhere);
        ensure(self.doubting.due(&build.number) == due, || {
            "a shard is to be run again elsewhere and no clock runs, or the reverse".to_owned()
        })?;
        let main = attempt.main.and_then(|id| self.leases.get(&id));
        let idles = main.is_some_and(|main| {
            main.task == Task::Wait
                && attempt.stage == Stage::Testing
                && attempt.next_shard(Role::Main, &main.machine).is_some()
        });
        ensure(!idles, || "its main machine waits though a shard does, too".to_owned())?;
        let all = !attempt.shards.is_empty() && attempt.shards_done() == attempt.shards.len();
        ensure(!all, || "all shards have ended and it has not".to_owned())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
