//! All that the core knows: active builds, machines, leases. What has ended is forgotten, but for its key.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use types::{BuildNumber, HostType, LeaseId, MachineName, Timestamp};

use super::{Build, BuildKey, Lease, Machine, Progress, SnapshotKey, clocks::Clocks, queue::Queue};

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts of a build, the first included.
    pub attempts: u32,
    /// How often a shard is begun.
    pub shard_tries: u32,
    /// How long a machine may be away before it is lost.
    pub away: Duration,
    /// The same for machines that have not connected since the coordinator started.
    pub away_at_start: Duration,
    /// How long a build rests after its first fault that no machine's death explains; four times that after the next.
    pub rest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 3,
            shard_tries: 3,
            away: Duration::from_secs(3),
            away_at_start: Duration::from_secs(20),
            rest: Duration::from_secs(2),
        }
    }
}

/// How many keys of ended builds are remembered. Older ones are found in the database; these bridge the moment
/// between a look there and the event.
const RECENT: usize = 4096;

/// The state of the farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) limits: Limits,
    pub(super) builds: BTreeMap<BuildNumber, Build>,
    pub(super) keys: BTreeMap<BuildKey, BuildNumber>,
    pub(super) recent: Recent,
    pub(super) machines: BTreeMap<MachineName, Machine>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) snapshots: BTreeSet<SnapshotKey>,
    /// Builds that need a machine.
    pub(super) queue: Queue,
    /// Builds that would put a further machine to use.
    pub(super) helped: Queue,
    /// Builds that rest, by when they go on.
    pub(super) resting: Clocks<BuildNumber>,
    /// Machines that are away with a lease, by when they are lost.
    pub(super) away: Clocks<MachineName>,
    /// Machines that can take a lease.
    pub(super) idle: BTreeMap<HostType, BTreeSet<MachineName>>,
    pub(super) next_build: u64,
    pub(super) next_fence: u64,
}

/// Keys of builds that ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Recent {
    numbers: BTreeMap<BuildKey, BuildNumber>,
    order: VecDeque<BuildKey>,
}

impl Recent {
    pub(super) fn push(&mut self, key: BuildKey, number: BuildNumber) {
        if self.numbers.insert(key.clone(), number).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
    }

    pub(super) fn find(&self, key: &BuildKey) -> Option<BuildNumber> {
        self.numbers.get(key).copied()
    }
}

impl State {
    /// An empty farm.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            builds: BTreeMap::new(),
            keys: BTreeMap::new(),
            recent: Recent::default(),
            machines: BTreeMap::new(),
            leases: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            queue: Queue::default(),
            helped: Queue::default(),
            resting: Clocks::default(),
            away: Clocks::default(),
            idle: BTreeMap::new(),
            next_build: 1,
            next_fence: 1,
        }
    }

    /// Active builds, by number.
    pub fn builds(&self) -> impl DoubleEndedIterator<Item = &Build> {
        self.builds.values()
    }

    /// An active build.
    pub fn build(&self, number: BuildNumber) -> Option<&Build> {
        self.builds.get(&number)
    }

    /// Machines, by name.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// A machine.
    pub fn machine(&self, name: &MachineName) -> Option<&Machine> {
        self.machines.get(name)
    }

    /// Live leases.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// A live lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Builds that wait, in the order of service; those that rest come last.
    pub fn waiting(&self) -> Vec<BuildNumber> {
        let mut all = self.queue.all();
        all.extend(self.resting.keys().copied());
        all
    }

    /// A build's place among those that wait for the same host type, from 1.
    pub fn position(&self, number: BuildNumber) -> u64 {
        self.queue.ahead(number) as u64 + 1
    }

    /// How many builds wait.
    pub fn waiting_len(&self) -> usize {
        self.queue.len() + self.resting.len()
    }

    /// Whether a snapshot is stored.
    pub fn has_snapshot(&self, key: &SnapshotKey) -> bool {
        self.snapshots.contains(key)
    }

    /// When something happens if nothing else does.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let resting = self.resting.first().map(|(at, _)| at);
        let away = self.away.first().map(|(at, _)| at);
        resting.into_iter().chain(away).min()
    }

    /// Brings the queues in line with a build that has changed.
    pub(super) fn reindex_build(&mut self, number: BuildNumber) {
        let Some(build) = self.builds.get(&number) else {
            self.resting.set(&number, None);
            self.queue.remove(number);
            self.helped.remove(number);
            return;
        };
        let until = match build.progress {
            Progress::Resting(until) => Some(until),
            _ => None,
        };
        self.resting.set(&number, until);
        if build.needs_machine() {
            self.queue.insert(build);
        } else {
            self.queue.remove(number);
        }
        if build.wants_helper() {
            self.helped.insert(build);
        } else {
            self.helped.remove(number);
        }
    }

    /// Brings the idle and away sets in line with a machine that has changed.
    pub(super) fn reindex_machine(&mut self, name: &MachineName) {
        let Some(machine) = self.machines.get(name) else { return };
        let away = machine.connection.is_none() && machine.lease.is_some();
        self.away.set(name, away.then_some(machine.lost_at));
        for host in &machine.info.host_types {
            let idle = self.idle.entry(host.clone()).or_default();
            if machine.is_idle() {
                idle.insert(name.clone());
            } else {
                idle.remove(name);
            }
            if idle.is_empty() {
                self.idle.remove(host);
            }
        }
    }
}
