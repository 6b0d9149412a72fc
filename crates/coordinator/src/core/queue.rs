//! Who is served first. Among what nobody waits for, the newest commit: the tip's health is known early, and gaps are
//! filled when there is time. Among the rest, who asked first.

use std::collections::{BTreeMap, BTreeSet};

use types::{BuildNumber, HostType};

use super::{Build, Class};

/// A build's place in the queue; the least is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The class.
    pub class: Class,
    /// 0 for an attempt that has begun and lost its machines, 1 for the rest.
    pub begun: u8,
    /// By commit or by age.
    pub order: i64,
    /// Settles ties.
    pub number: BuildNumber,
}

impl Place {
    /// Where a build belongs.
    pub(super) fn of(build: &Build) -> Self {
        let order = match build.class {
            // A commit without a time counts as of when it was asked for.
            Class::Batch if build.commit_time.0 > 0 => -build.commit_time.0,
            Class::Batch => -build.created.0,
            _ => build.created.0,
        };
        Self { class: build.class, begun: u8::from(build.attempt().is_none()), order, number: build.number }
    }
}

/// Builds in the order of service, by host type. All operations are logarithmic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Queue {
    places: BTreeMap<HostType, BTreeSet<Place>>,
    of: BTreeMap<BuildNumber, (HostType, Place)>,
}

impl Queue {
    pub(super) fn insert(&mut self, build: &Build) {
        self.remove(build.number);
        let place = Place::of(build);
        let host = build.plan.host.clone();
        self.places.entry(host.clone()).or_default().insert(place);
        self.of.insert(build.number, (host, place));
    }

    pub(super) fn remove(&mut self, number: BuildNumber) {
        let Some((host, place)) = self.of.remove(&number) else { return };
        if let Some(places) = self.places.get_mut(&host) {
            places.remove(&place);
            if places.is_empty() {
                self.places.remove(&host);
            }
        }
    }

    pub(super) fn contains(&self, number: BuildNumber) -> bool {
        self.of.contains_key(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostType> {
        self.places.keys()
    }

    pub(super) fn iter(&self, host: &HostType) -> impl Iterator<Item = BuildNumber> + '_ {
        self.places.get(host).into_iter().flatten().map(|place| place.number)
    }

    pub(super) fn first(&self, host: &HostType) -> Option<BuildNumber> {
        self.iter(host).next()
    }

    pub(super) fn is_empty(&self, host: &HostType) -> bool {
        !self.places.contains_key(host)
    }

    /// How many are served before this one.
    pub(super) fn ahead(&self, number: BuildNumber) -> usize {
        let Some((host, place)) = self.of.get(&number) else { return 0 };
        self.places.get(host).map_or(0, |places| places.range(..place).count())
    }

    /// All, in the order of service, whatever the host type.
    pub(super) fn all(&self) -> Vec<BuildNumber> {
        let mut places: Vec<Place> = self.of.values().map(|(_, place)| *place).collect();
        places.sort_unstable();
        places.into_iter().map(|place| place.number).collect()
    }
}
