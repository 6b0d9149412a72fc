//! All that the core knows: active builds, machines, leases. What has ended is forgotten, but for its key.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use types::{BuildNumber, HostType, LeaseId, MachineName, SessionName, Timestamp};

use super::{
    Attempt, Build, BuildKey, ChangeKey, Class, Lease, Machine, Mutation, Progress, Role, Session,
    SnapshotKey, Task, TrySet,
    clocks::Clocks,
    fleet::Fleet,
    queue::{Queue, Spot, Wishes},
};

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many attempts of a build may end by a fault of the farm.
    pub attempts: u32,
    /// How often a shard may fail to run to its end by a fault of the farm, in one attempt.
    pub shard_tries: u32,
    /// How often a build loses its main machine to what is more urgent.
    pub preemptions: u32,
    /// How long a machine may be away before it is lost.
    pub away: Duration,
    /// The same for machines that have not connected since the coordinator started.
    pub away_at_start: Duration,
    /// How long a build rests after its first fault that no machine's death explains; four times that after the next.
    pub rest: Duration,
    /// How long a try waits before batch work makes room for it. For what is more urgent it does at once.
    pub urge: Duration,
    /// How long tries and batch work wait before every eighth machine goes to what was accepted first.
    pub patience: Duration,
    /// How many shards of an attempt are run a second time when they have failed: more than a few fail for a reason.
    pub second_runs: u32,
    /// What failed after longer than this is not run a second time.
    pub second_run_within: Duration,
    /// How long another machine is waited for to do that; then it is done where it failed.
    pub elsewhere: Duration,
    /// How many sessions one person may have.
    pub sessions: usize,
    /// How long a session may be held in all.
    pub session: Duration,
    /// How long a session has at least after a restart, during which nobody could use it.
    pub session_at_start: Duration,
    /// What failed to be made within this time is made again elsewhere.
    pub make_again_within: Duration,
    /// A bug that is put in on purpose.
    pub mutation: Option<Mutation>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 3,
            shard_tries: 3,
            preemptions: 2,
            away: Duration::from_secs(3),
            away_at_start: Duration::from_secs(20),
            rest: Duration::from_secs(2),
            urge: Duration::from_secs(30),
            patience: Duration::from_mins(30),
            second_runs: 3,
            second_run_within: Duration::from_mins(10),
            elsewhere: Duration::from_mins(1),
            sessions: 32,
            session: Duration::from_hours(7 * 24),
            session_at_start: Duration::from_mins(5),
            make_again_within: Duration::from_mins(10),
            mutation: None,
        }
    }
}

impl Limits {
    /// How long a build rests after so many attempts.
    pub(super) fn rest_after(&self, attempts: u32) -> Duration {
        self.rest.saturating_mul(4_u32.saturating_pow(attempts.saturating_sub(1)))
    }

    /// The longest that a build ever rests.
    pub(super) fn longest_rest(&self) -> Duration {
        self.rest_after(self.attempts)
    }
}

/// How many keys of ended builds are remembered. Older ones are found in the database; these bridge the moment
/// between a look there and the event.
const RECENT: usize = 4096;

/// The state of the farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) limits: Limits,
    /// Boxed, since a tree leaves its last nodes half empty when its keys only grow.
    pub(super) builds: BTreeMap<BuildNumber, Box<Build>>,
    pub(super) keys: BTreeMap<BuildKey, BuildNumber>,
    pub(super) recent: Recent,
    pub(super) machines: BTreeMap<MachineName, Machine>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) snapshots: BTreeSet<SnapshotKey>,
    /// Builds that need a machine.
    pub(super) queue: Queue,
    /// Builds that would put a further machine to use.
    pub(super) helped: Wishes,
    /// Builds that rest, by when they go on.
    pub(super) resting: Clocks<BuildNumber>,
    /// Machines that are away with a lease, by when they are lost.
    pub(super) away: Clocks<MachineName>,
    /// Tries that wait, by when batch work makes room for them.
    pub(super) urging: Clocks<BuildNumber>,
    /// Builds with a shard that waits for another machine than the one where it failed, by until when.
    pub(super) doubting: Clocks<BuildNumber>,
    /// Machines that rest, by until when.
    pub(super) suspected: Clocks<MachineName>,
    /// Machines by host type.
    pub(super) fleet: Fleet,
    pub(super) sessions: BTreeMap<SessionName, Session>,
    /// The sessions that have machines, by their leases.
    pub(super) seats: BTreeMap<LeaseId, SessionName>,
    /// The sessions that wait for a machine, by host type, in the order of service.
    pub(super) applicants: BTreeMap<HostType, BTreeSet<(Timestamp, SessionName)>>,
    /// Sessions, by when they end.
    pub(super) session_clocks: Clocks<SessionName>,
    /// What is tried, by the changes that ask for it.
    pub(super) tries: BTreeMap<ChangeKey, TrySet>,
    /// The changes that active builds try.
    pub(super) tried: BTreeMap<BuildNumber, ChangeKey>,
    /// Host types where something has changed in this step that may let somebody be served. Empty between steps.
    pub(super) stirred: BTreeSet<HostType>,
    pub(super) next_build: u64,
    pub(super) next_fence: u64,
    /// Fences below it are reserved by a row: after a restart none of them is given out again.
    pub(super) reserved_fences: u64,
}

/// Keys of builds that ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Recent {
    /// With how many attempts each had.
    numbers: BTreeMap<BuildKey, (BuildNumber, u32)>,
    order: VecDeque<BuildKey>,
}

impl Recent {
    pub(super) fn push(&mut self, key: BuildKey, number: BuildNumber, attempts: u32) {
        if self.numbers.insert(key.clone(), (number, attempts)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.numbers.remove(&oldest);
        }
    }

    pub(super) fn find(&self, key: &BuildKey) -> Option<BuildNumber> {
        self.numbers.get(key).map(|(number, _)| *number)
    }

    /// How many attempts a build had when it ended.
    pub(super) fn attempts(&self, key: &BuildKey) -> Option<u32> {
        self.numbers.get(key).map(|(_, attempts)| *attempts)
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
            helped: Wishes::default(),
            resting: Clocks::default(),
            away: Clocks::default(),
            urging: Clocks::default(),
            doubting: Clocks::default(),
            suspected: Clocks::default(),
            fleet: Fleet::default(),
            sessions: BTreeMap::new(),
            seats: BTreeMap::new(),
            applicants: BTreeMap::new(),
            session_clocks: Clocks::default(),
            tries: BTreeMap::new(),
            tried: BTreeMap::new(),
            stirred: BTreeSet::new(),
            next_build: 1,
            next_fence: 1,
            reserved_fences: 1,
        }
    }

    /// Active builds, by number.
    pub fn builds(&self) -> impl DoubleEndedIterator<Item = &Build> {
        self.builds.values().map(|build| &**build)
    }

    /// An active build.
    pub fn build(&self, number: BuildNumber) -> Option<&Build> {
        self.builds.get(&number).map(|build| &**build)
    }

    /// The attempt of a build that runs.
    pub(super) fn attempt(&self, number: BuildNumber) -> Option<&Attempt> {
        self.builds.get(&number)?.attempt()
    }

    pub(super) fn attempt_mut(&mut self, number: BuildNumber) -> Option<&mut Attempt> {
        self.builds.get_mut(&number)?.attempt_mut()
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

    /// Builds that wait, in the order of service, at most so many of each host type and class; those that rest come
    /// last.
    pub fn waiting(&self, most: usize) -> Vec<BuildNumber> {
        let mut all = self.queue.in_order(most);
        all.extend(self.resting.keys().take(most).copied());
        all
    }

    /// A build's place among those that wait for the same host type, from 1, as far as it can be told ahead.
    pub fn position(&self, number: BuildNumber) -> u64 {
        self.builds.get(&number).map_or(0, |build| self.ahead(build)) as u64 + 1
    }

    /// How much is served before a build if nothing changes, sessions too.
    pub(super) fn ahead(&self, build: &Build) -> usize {
        let sessions = match build.class {
            Class::Release => 0,
            Class::Interactive => self.applicants.get(&build.plan.host).map_or(0, |waiting| {
                waiting.iter().take_while(|(created, _)| *created < build.created).count()
            }),
            Class::Try | Class::Batch => self.applicants(&build.plan.host),
        };
        self.queue.ahead(build) + sessions
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
        let urging = self.urging.first().map(|(at, _)| at);
        let doubting = self.doubting.first().map(|(at, _)| at);
        let sessions = self.session_clocks.first().map(|(at, _)| at);
        let suspected = self.suspected.first().map(|(at, _)| at);
        [resting, away, urging, doubting, suspected, sessions].into_iter().flatten().min()
    }

    /// What helpers of a build begin with. It may not be stored yet: then they wait for it.
    pub(super) fn helpers_begin_with<'s>(&'s self, build: &'s Build) -> Option<&'s SnapshotKey> {
        helpers_begin_with(&self.leases, build)
    }

    /// Brings the queues in line with a build that has changed.
    pub(super) fn reindex_build(&mut self, number: BuildNumber) {
        let Some(build) = self.builds.get_mut(&number) else { return };
        let until = match build.progress {
            Progress::Resting(until) => Some(until),
            _ => None,
        };
        let until = until.filter(|_| !Mutation::NeverWake.is(self.limits.mutation));
        self.resting.set(&number, until);
        let doubted = build.attempt().and_then(Attempt::doubted_since);
        self.doubting.set(&number, doubted.map(|since| since + self.limits.elsewhere));
        let (before, spot) = (build.spot, build.wanted_spot());
        self.queue.set(build, spot);
        if before != spot && build.class == Class::Try {
            let due = (spot != Spot::Out).then(|| build.waiting_since + self.limits.urge);
            self.urging.set(&number, due);
        }
        let wishes = build.wants_helper() && helpers_begin_with(&self.leases, build).is_some();
        if wishes {
            self.helped.insert(build);
        } else {
            self.helped.remove(number);
        }
        if spot != Spot::Out || wishes {
            self.stirred.insert(build.plan.host.clone());
        }
    }

    /// Takes a build out of all queues, before it is forgotten.
    pub(super) fn unqueue(&mut self, number: BuildNumber) {
        self.resting.set(&number, None);
        self.urging.set(&number, None);
        self.doubting.set(&number, None);
        self.helped.remove(number);
        if let Some(build) = self.builds.get_mut(&number) {
            self.queue.set(build, Spot::Out);
        }
    }

    /// Brings the idle and away sets in line with a machine that has changed.
    pub(super) fn reindex_machine(&mut self, name: &MachineName) {
        let Some(machine) = self.machines.get(name) else { return };
        let away = machine.connection.is_none() && machine.lease.is_some();
        self.away.set(name, away.then_some(machine.lost_at));
        self.fleet.set(machine);
        // One that is no longer there, or is there again, changes how much room batch work is to make.
        let stirs = |host: &&HostType| machine.is_idle() || self.urgent(host).0 > 0;
        let stirred: Vec<HostType> = machine.info.host_types.iter().filter(stirs).cloned().collect();
        self.stirred.extend(stirred);
    }

    /// A lease has begun: counts it to its share.
    pub(super) fn count(&mut self, lease: &Lease) {
        let Some(build) = self.builds.get(&lease.build()) else { return };
        self.queue.began(build);
        let often =
            build.preempted >= self.limits.preemptions && !Mutation::NeverSpare.is(self.limits.mutation);
        let spared = lease.role == Role::Main && often;
        if build.class == Class::Batch && !spared {
            self.fleet.offer(&build.plan.host, lease);
        }
    }

    /// A lease is over.
    pub(super) fn discount(&mut self, lease: &Lease, now: Timestamp) {
        let Some(build) = self.builds.get(&lease.build()) else { return };
        self.queue.ended(build);
        self.fleet.ended(&build.plan.host, lease, now);
    }
}

fn helpers_begin_with<'s>(leases: &'s BTreeMap<LeaseId, Lease>, build: &'s Build) -> Option<&'s SnapshotKey> {
    let attempt = build.attempt()?;
    let stores = || match &leases.get(&attempt.main?)?.task {
        Task::SnapshotStore(key) => Some(key),
        _ => None,
    };
    attempt.snapshot.as_ref().or_else(stores)
}
