//! Who is served first, of those that need a machine. For each host type, in this order:
//!
//! 1. a release, then people who wait for a build of their own or for a session (see [`super::seats`]);
//! 2. every eighth time, if it has waited long: whatever of the rest was accepted first, so that nothing waits for ever
//!    behind what is newer;
//! 3. tries;
//! 4. what nobody waits for.
//!
//! Within a class those go first that had begun and lost their machines. Then repositories have fair shares, and within
//! a repository people (for what was submitted: branches) do: see [`super::shares`]. Within a share it is who asked
//! first; but of what nobody waits for, the newest commit, so that the tip's health is known early.
//!
//! Nothing is passed over: whoever is first waits for the next machine of the host type.
//!
//! All operations are logarithmic in what waits; an item takes some 50 bytes here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use types::{BuildNumber, HostType, RepositoryName, Timestamp};

use super::{
    Build, Class,
    shares::{Shares, Standing, Waiting},
};

/// Every how many servings the one that has waited longest is served.
const AGED_TURN: u64 = 8;

/// A build's place within its share; the least is served first. The second settles ties.
type Place = (i64, BuildNumber);
type Items = BTreeSet<Place>;

/// Where a build is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Spot {
    /// Nowhere.
    #[default]
    Out,
    /// Among those of its share.
    Share,
    /// Among those that had begun.
    Begun,
}

/// Builds of one class that wait for one host type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Lane {
    begun: Items,
    shares: Shares<RepositoryName, Shares<Arc<str>, Items>>,
}

/// Builds that wait for one host type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Line {
    lanes: [Lane; Class::ALL.len()],
    /// Those that age, by when they were accepted.
    aging: Items,
    /// Those for whom batch work makes room.
    urgent: BTreeSet<BuildNumber>,
    /// Servings since the last that went by age.
    turns: u64,
}

/// Builds that need a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Queue {
    lines: BTreeMap<HostType, Line>,
    /// Servings so far.
    served: u64,
    len: usize,
}

fn place(build: &Build) -> Place {
    let order = match build.class {
        // A commit without a time counts as of when it was asked for.
        Class::Batch if build.commit_time.0 > 0 => -build.commit_time.0,
        Class::Batch => -build.created.0,
        _ => build.created.0,
    };
    (order, build.number)
}

fn age(build: &Build) -> Place {
    (build.created.0, build.number)
}

/// Whose share within the repository it is.
fn owner(build: &Build) -> &Arc<str> {
    if build.class == Class::Batch { &build.git_ref } else { &build.author }
}

fn ages(class: Class) -> bool {
    class >= Class::Try
}

impl Queue {
    /// Brings a build's place in line with what it wants.
    pub(super) fn set(&mut self, build: &mut Build, spot: Spot) {
        if build.spot == spot {
            return;
        }
        let before = std::mem::replace(&mut build.spot, spot);
        if spot == Spot::Out && !self.lines.contains_key(&build.plan.host) {
            return;
        }
        let line = self.lines.entry(build.plan.host.clone()).or_default();
        line.remove(build, before);
        line.insert(build, spot);
        self.len = self.len + usize::from(spot != Spot::Out) - usize::from(before != Spot::Out);
    }

    /// A build was given a machine.
    pub(super) fn began(&mut self, build: &Build) {
        self.served += 1;
        let served = self.served;
        let line = self.lines.entry(build.plan.host.clone()).or_default();
        line.stand(build, |standing| *standing = Standing { in_use: standing.in_use + 1, served });
    }

    /// A build has given a machine back.
    pub(super) fn ended(&mut self, build: &Build) {
        if let Some(line) = self.lines.get_mut(&build.plan.host) {
            line.stand(build, |standing| standing.in_use = standing.in_use.saturating_sub(1));
        }
    }

    /// Who is served next, and of which class.
    pub(super) fn first(&self, host: &HostType, now: Timestamp, patience: Duration) -> Option<BuildNumber> {
        self.lines.get(host)?.first(now, patience)
    }

    /// The class of what waits first, whatever has aged.
    pub(super) fn first_class(&self, host: &HostType) -> Option<Class> {
        let line = self.lines.get(host)?;
        Class::ALL.iter().copied().find(|class| !line.lanes[*class as usize].is_empty())
    }

    /// A machine goes to a waiting build: counts its turn.
    pub(super) fn take_turn(&mut self, build: &Build) {
        let Some(line) = self.lines.get_mut(&build.plan.host) else { return };
        if ages(build.class) {
            line.turns = if line.turns + 1 < AGED_TURN { line.turns + 1 } else { 0 };
        }
    }

    /// Batch work is to make room for a build that waits.
    pub(super) fn urge(&mut self, build: &Build) {
        if build.spot != Spot::Out
            && let Some(line) = self.lines.get_mut(&build.plan.host)
        {
            line.urgent.insert(build.number);
        }
    }

    /// For how many builds batch work is to make room, and the first of them.
    pub(super) fn urgent(&self, host: &HostType) -> (usize, Option<BuildNumber>) {
        self.lines.get(host).map_or((0, None), |line| (line.urgent.len(), line.urgent.first().copied()))
    }

    /// Whether a build is served before a person who asked then: a release, or what somebody asked for before.
    pub(super) fn is_before(&self, host: &HostType, asked: Timestamp) -> bool {
        let Some(line) = self.lines.get(host) else { return false };
        let first = |class: Class| line.lanes[class as usize].first_place();
        first(Class::Release).is_some() || first(Class::Interactive).is_some_and(|(at, _)| at <= asked.0)
    }

    /// How many builds of releases and people wait.
    pub(super) fn people(&self, host: &HostType) -> usize {
        let people = |line: &Line| line.lanes[..Class::Try as usize].iter().map(Lane::len).sum();
        self.lines.get(host).map_or(0, people)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostType> {
        self.lines.iter().filter(|(_, line)| !line.aging.is_empty() || line.len() > 0).map(|(host, _)| host)
    }

    pub(super) fn is_empty(&self, host: &HostType) -> bool {
        self.lines.get(host).is_none_or(|line| line.len() == 0)
    }

    /// How many are served before this one if nothing changes and no turn goes by age. Linear in the shares of its host
    /// type, and in what is before it in its own.
    pub(super) fn ahead(&self, build: &Build) -> usize {
        let Some(line) = self.lines.get(&build.plan.host) else { return 0 };
        let above: usize = line.lanes[..build.class as usize].iter().map(Lane::len).sum();
        above + line.lanes[build.class as usize].ahead(build)
    }

    /// Those that wait in the order of service, whatever the host type; at most so many of each host type and class.
    pub(super) fn in_order(&self, most: usize) -> Vec<BuildNumber> {
        let mut found = Vec::new();
        for line in self.lines.values() {
            let mut rank = 0;
            for (class, lane) in line.lanes.iter().enumerate() {
                for number in lane.in_order(most) {
                    found.push((class, rank, number));
                    rank += 1;
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(.., number)| number).collect()
    }

    /// How many machines each share is held to use: host type, class, repository and owner.
    pub(super) fn in_use(&self) -> impl Iterator<Item = ((&HostType, usize, &RepositoryName, &str), u32)> {
        self.lines.iter().flat_map(|(host, line)| {
            line.lanes.iter().enumerate().flat_map(move |(class, lane)| {
                lane.shares.all().flat_map(move |(_, repository, owners)| {
                    owners.all().map(move |(standing, owner, _)| {
                        ((host, class, repository, &**owner), standing.in_use)
                    })
                })
            })
        })
    }

    /// The share of a build, as [`Self::in_use`] names it.
    pub(super) fn share(build: &Build) -> (&HostType, usize, &RepositoryName, &str) {
        (&build.plan.host, build.class as usize, &build.key.repository, owner(build))
    }
}

impl Line {
    fn len(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    fn insert(&mut self, build: &Build, spot: Spot) {
        let lane = &mut self.lanes[build.class as usize];
        match spot {
            Spot::Out => return,
            Spot::Begun => {
                lane.begun.insert(place(build));
            }
            Spot::Share => lane.shares.change(&build.key.repository, |_, owners| {
                owners.change(owner(build), |_, items| {
                    items.insert(place(build));
                });
            }),
        }
        if ages(build.class) {
            self.aging.insert(age(build));
        } else {
            self.urgent.insert(build.number);
        }
    }

    fn remove(&mut self, build: &Build, spot: Spot) {
        let lane = &mut self.lanes[build.class as usize];
        match spot {
            Spot::Out => return,
            Spot::Begun => {
                lane.begun.remove(&place(build));
            }
            Spot::Share => lane.shares.change(&build.key.repository, |_, owners| {
                owners.change(owner(build), |_, items| {
                    items.remove(&place(build));
                });
            }),
        }
        self.aging.remove(&age(build));
        self.urgent.remove(&build.number);
    }

    fn stand(&mut self, build: &Build, change: impl Fn(&mut Standing)) {
        let lane = &mut self.lanes[build.class as usize];
        lane.shares.change(&build.key.repository, |standing, owners| {
            change(standing);
            owners.change(owner(build), |standing, _| change(standing));
        });
    }

    fn first(&self, now: Timestamp, patience: Duration) -> Option<BuildNumber> {
        let (soon, rest) = self.lanes.split_at(Class::Try as usize);
        let aged = self
            .aging
            .first()
            .filter(|(created, _)| self.turns + 1 == AGED_TURN && Timestamp(*created) + patience <= now)
            .map(|(_, number)| *number);
        soon.iter().find_map(Lane::first).or(aged).or_else(|| rest.iter().find_map(Lane::first))
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.begun.len() + self.shares.len()
    }

    fn first(&self) -> Option<BuildNumber> {
        self.first_place().map(|(_, number)| number)
    }

    fn first_place(&self) -> Option<Place> {
        self.begun.first().or_else(|| self.shares.first()?.first()?.first()).copied()
    }

    fn ahead(&self, build: &Build) -> usize {
        let place = place(build);
        if build.spot == Spot::Begun {
            return self.begun.range(..place).count();
        }
        let Some(owners) = self.shares.get(&build.key.repository) else { return 0 };
        let own = owners.get(owner(build)).map_or(0, |items| items.range(..place).count());
        self.begun.len() + self.shares.ahead(&build.key.repository, owners.ahead(owner(build), own))
    }

    /// The order of service as it would be if no machine came back.
    fn in_order(&self, most: usize) -> Vec<BuildNumber> {
        let mut found: Vec<BuildNumber> = self.begun.iter().take(most).map(|(_, number)| *number).collect();
        let mut repositories = BTreeMap::new();
        for (standing, name, owners) in self.shares.in_order() {
            let owners: BTreeMap<_, _> = owners
                .in_order()
                .map(|(standing, owner, items)| ((standing, owner), items.iter().peekable()))
                .collect();
            repositories.insert((standing, name), owners);
        }
        let mut served = u64::MAX / 2;
        while found.len() < most
            && let Some(((standing, name), mut owners)) = repositories.pop_first()
        {
            let Some(((own, owner), mut items)) = owners.pop_first() else { continue };
            found.extend(items.next().map(|(_, number)| *number));
            served += 1;
            let next = |standing: Standing| Standing { in_use: standing.in_use + 1, served };
            if items.peek().is_some() {
                owners.insert((next(own), owner), items);
            }
            repositories.insert((next(standing), name), owners);
        }
        found
    }
}

/// A build's place among those that would put a further machine to use: by class; then those with a shard that is to be
/// run again elsewhere, since they are all but done; then who has the fewest.
type Wish = (Class, Calm, usize, Place);

/// Whether a build has no shard that is to be run again elsewhere.
type Calm = bool;

/// Whether a build's wish for help comes before all that have no machine, of which this is the first class.
pub(super) fn precedes((class, calm): (Class, Calm), waiting: Option<Class>) -> bool {
    waiting.is_none_or(|waiting| class < waiting || (!calm && class == waiting))
}

/// Builds that would put a further machine to use, by host type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    by_host: BTreeMap<HostType, BTreeSet<Wish>>,
    of: BTreeMap<BuildNumber, (HostType, Wish)>,
}

impl Wishes {
    pub(super) fn insert(&mut self, build: &Build) {
        let helpers = build.attempt().map_or(0, |attempt| attempt.helpers.len());
        let calm = build.attempt().is_none_or(|attempt| attempt.doubted_since().is_none());
        let wish = (build.class, calm, helpers, place(build));
        if self.of.get(&build.number).is_some_and(|(_, known)| *known == wish) {
            return;
        }
        self.remove(build.number);
        let host = build.plan.host.clone();
        self.by_host.entry(host.clone()).or_default().insert(wish);
        self.of.insert(build.number, (host, wish));
    }

    pub(super) fn remove(&mut self, number: BuildNumber) {
        let Some((host, wish)) = self.of.remove(&number) else { return };
        if let Some(wishes) = self.by_host.get_mut(&host) {
            wishes.remove(&wish);
            if wishes.is_empty() {
                self.by_host.remove(&host);
            }
        }
    }

    pub(super) fn contains(&self, number: BuildNumber) -> bool {
        self.of.contains_key(&number)
    }

    pub(super) fn iter(&self, host: &HostType) -> impl Iterator<Item = ((Class, Calm), BuildNumber)> + '_ {
        let wishes = self.by_host.get(host).into_iter().flatten();
        wishes.map(|(class, calm, _, (_, number))| ((*class, *calm), *number))
    }
}
