//! Which machines are sick (architecture.md D8): those where things fail that pass elsewhere, far more often than their
//! siblings'. What failed is run again elsewhere, so each failure of a machine is known to be the commit's or its own.
//! A machine that is sick for all that is known takes no work until a person says so; what it had is given to others.

use serde::{Deserialize, Serialize};
use types::{LeaseId, MachineName, Outcome, Share};

use super::{Action, Machine, Row, State, Task, turn::Turn};

/// How many commands of a machine are remembered.
const WINDOW: u32 = 20;
/// How many of them must have failed for nothing before a machine can be sick.
const LEAST_BAD: u64 = 3;
/// How many siblings are compared with.
const SIBLINGS: usize = 256;

/// What became of the last commands of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// One bit for each, the newest lowest: set if it failed here and passed elsewhere, or the machine could not do it.
    bad: u32,
    /// How many there are.
    seen: u32,
}

impl Health {
    /// Notes one more.
    pub(super) fn push(&mut self, bad: bool) {
        self.bad = (self.bad << 1 | u32::from(bad)) & ((1 << WINDOW) - 1);
        self.seen = (self.seen + 1).min(WINDOW);
    }

    /// How many of its commands went wrong by its fault.
    pub fn share(self) -> Share {
        Share { of: u64::from(self.bad.count_ones()), all: u64::from(self.seen) }
    }

    /// Whether one with this share is sick beside siblings with that: surely worse than all of them may be.
    fn is_sick_beside(self, siblings: Share) -> bool {
        let own = self.share();
        own.of >= LEAST_BAD && own.interval().0 > siblings.interval().1
    }
}

impl Turn<'_> {
    /// Notes what a command showed of the machine where it ran.
    pub(super) fn judge_machine(&mut self, name: &MachineName, bad: bool) {
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        let before = machine.health.share().of;
        machine.health.push(bad);
        // Of a machine without any fault nothing is stored: it is sound after a restart, too.
        if before + machine.health.share().of > 0 {
            self.save_health(name);
        }
        if bad && let Some(reason) = self.state.sickness(name) {
            self.quarantine(name, &reason);
        }
    }

    fn save_health(&mut self, name: &MachineName) {
        let Some(machine) = self.state.machines.get(name) else { return };
        let row = Row::Health {
            machine: name.clone(),
            health: machine.health,
            quarantine: machine.quarantine.clone(),
        };
        self.save(row);
    }

    /// A machine takes no further work until a person says so. What it does is given to others.
    pub(super) fn quarantine(&mut self, name: &MachineName, reason: &str) {
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        reason.clone_into(&mut machine.quarantine);
        machine.since = self.now;
        let lease = machine.lease;
        self.state.reindex_machine(name);
        self.save_health(name);
        self.act(Action::Quarantined(name.clone()));
        if let Some(lease) = lease {
            self.take_away(lease, &format!("machine `{name}` is in quarantine"));
        }
    }

    /// A person says that a machine is sound.
    pub(super) fn lift(&mut self, name: &MachineName) {
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        machine.quarantine.clear();
        machine.health = Health::default();
        machine.since = self.now;
        self.state.reindex_machine(name);
        self.save_health(name);
    }

    /// What a machine does under a lease is begun elsewhere.
    fn take_away(&mut self, id: LeaseId, reason: &str) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        let (number, shard, waits) = (lease.build(), lease.task.shard(), lease.task == Task::Wait);
        if !waits {
            self.record_lease(id, Outcome::Infrastructure, reason.to_owned(), self.now);
        }
        self.release(id, reason);
        if shard == 0 || self.give_back(number, shard, reason) {
            self.go_on_without(number, reason);
        }
        self.changed(number);
    }
}

impl State {
    /// Why a machine is sick; none if it is not, or if nobody else could do its work.
    fn sickness(&self, name: &MachineName) -> Option<String> {
        let machine = self.machines.get(name)?;
        if !machine.quarantine.is_empty() {
            return None;
        }
        let mut siblings = Share::default();
        for host in &machine.info.host_types {
            let others = self.fleet.known(host).filter(|other| *other != name).take(SIBLINGS);
            let others: Vec<&Machine> = others.filter_map(|other| self.machines.get(other)).collect();
            if !others.iter().any(|other| other.is_fit()) {
                return None;
            }
            for other in others.iter().filter(|other| other.quarantine.is_empty()) {
                let share = other.health.share();
                siblings = Share { of: siblings.of + share.of, all: siblings.all + share.all };
            }
        }
        machine.health.is_sick_beside(siblings).then(|| {
            let own = machine.health.share();
            format!(
                "{} of its last {} commands failed for nothing: they passed elsewhere, or it could not do them; of its \
                 siblings', {} of {}",
                own.of, own.all, siblings.of, siblings.all
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(of: u32, all: u32) -> Health {
        let mut health = Health::default();
        (0..all).for_each(|n| health.push(n < of));
        health
    }

    #[test]
    fn a_machine_is_sick_when_it_is_surely_worse_than_its_siblings() {
        assert!(health(3, 3).is_sick_beside(Share { of: 0, all: 8 }));
        assert!(health(8, 20).is_sick_beside(Share { of: 2, all: 60 }));
    }

    #[test]
    fn chance_and_a_fault_that_all_share_make_no_machine_sick() {
        assert!(!health(2, 2).is_sick_beside(Share { of: 0, all: 60 }), "twice is chance");
        assert!(!health(3, 20).is_sick_beside(Share { of: 3, all: 60 }), "tests that flake flake here, too");
        assert!(!health(9, 20).is_sick_beside(Share { of: 30, all: 60 }), "they all do it");
        assert!(!health(3, 3).is_sick_beside(Share { of: 0, all: 2 }), "little is known of the others");
    }

    #[test]
    fn only_the_last_commands_count() {
        let mut health = health(5, 5);
        (0..WINDOW).for_each(|_| health.push(false));
        assert_eq!(health.share(), Share { of: 0, all: u64::from(WINDOW) });
    }
}
