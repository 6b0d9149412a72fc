//! A make step that failed soon is made again on another machine, in another attempt: a sick machine fails fast, and whoever
//! fails fast is given all the work. Until it is known who is to blame the machine rests, if another can do the work.
//! It happens once for a build, and never for what took long to fail: see [`super::second_run`] for tests.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, LeaseId, MachineName, Outcome, Timestamp};

use super::{Build, Machine, Progress, State, turn::Turn};

/// How many machines are looked at for one that could make it.
const MACHINES_LOOK: usize = 256;

/// A make step that failed, and is made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Where it failed.
    pub machine: MachineName,
    /// How.
    pub reason: String,
    /// It passed elsewhere.
    pub passed: bool,
}

impl Turn<'_> {
    /// The make step failed. It is made again elsewhere, or its build has failed.
    pub(super) fn make_failed(&mut self, id: LeaseId, outcome: Outcome, reason: &str, ended: Timestamp) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, machine) = (lease.build(), lease.machine.clone());
        let soon = ended.since(lease.task_since) <= self.state.limits.make_again_within;
        let Some(build) = self.state.builds.get(&number) else { return };
        if soon && build.doubt.is_none() && self.state.could_make_elsewhere(build, &machine) {
            self.make_again(number, machine, outcome, reason);
            return;
        }
        let told = match build.doubt.clone() {
            Some(doubt) if !doubt.passed && doubt.machine != machine => {
                // They agree: it is the commit.
                self.judge_machine(&doubt.machine, false);
                self.judge_machine(&machine, false);
                self.believe(&doubt.machine);
                format!("make: {reason}, on `{}` and again on `{machine}`", doubt.machine)
            }
            Some(doubt) if !doubt.passed => format!("make: {reason}, twice on `{}`", doubt.machine),
            _ => format!("make: {reason}"),
        };
        self.end_attempt(number, outcome, &told);
    }

    fn make_again(&mut self, number: BuildNumber, machine: MachineName, outcome: Outcome, reason: &str) {
        self.suspect(&machine);
        let text = format!("make failed on `{machine}` and is made again elsewhere: {reason}");
        self.close_attempt(number, outcome, &text);
        let now = self.now;
        let Some(build) = self.state.builds.get_mut(&number) else { return };
        build.doubt = Some(Box::new(Doubt { machine, reason: reason.to_owned(), passed: false }));
        build.last_fault = text;
        build.waiting_since = now;
        build.progress = Progress::Queued;
        self.save_progress(number);
        self.changed(number);
    }

    /// The make step passed.
    pub(super) fn make_passed(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, machine) = (lease.build(), lease.machine.clone());
        self.judge_machine(&machine, false);
        let doubt = self.state.builds.get_mut(&number).and_then(|build| build.doubt.as_mut());
        let Some(doubt) = doubt.filter(|doubt| !doubt.passed) else { return };
        doubt.passed = true;
        let failed_on = doubt.machine.clone();
        self.save_progress(number);
        if failed_on != machine {
            self.judge_machine(&failed_on, true);
            self.believe(&failed_on);
        }
    }

    /// A machine rests until it is known whether it or a commit is to blame, for a while at most.
    fn suspect(&mut self, name: &MachineName) {
        let until = self.now + self.state.limits.elsewhere;
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        machine.suspected = true;
        self.state.suspected.set(name, Some(until));
        self.state.reindex_machine(name);
    }

    /// It rests no longer.
    pub(super) fn believe(&mut self, name: &MachineName) {
        self.state.suspected.set(name, None);
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        machine.suspected = false;
        self.state.reindex_machine(name);
    }
}

impl State {
    /// Whether a machine that takes work could make a build in place of this one.
    fn could_make_elsewhere(&self, build: &Build, failed_on: &MachineName) -> bool {
        let others = self.fleet.connected(&build.plan.host).filter(|name| *name != failed_on);
        others.take(MACHINES_LOOK).any(|name| self.machines.get(name).is_some_and(Machine::is_fit))
    }
}

impl Doubt {
    /// What failed and then passed, in words.
    pub(super) fn told_of_flake(&self) -> String {
        format!("make: {} on `{}`, then it passed elsewhere", self.reason, self.machine)
    }
}
