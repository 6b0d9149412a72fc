//! Clocks that run: for each of some things, when it is due. All operations are logarithmic.

use std::collections::{BTreeMap, BTreeSet};

use types::Timestamp;

/// When each of some things is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clocks<K> {
    order: BTreeSet<(Timestamp, K)>,
    of: BTreeMap<K, Timestamp>,
}

impl<K> Default for Clocks<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), of: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Clocks<K> {
    /// Starts, moves or stops the clock of one thing.
    pub(super) fn set(&mut self, key: &K, due: Option<Timestamp>) {
        if let Some(before) = self.of.remove(key) {
            self.order.remove(&(before, key.clone()));
        }
        if let Some(due) = due {
            self.of.insert(key.clone(), due);
            self.order.insert((due, key.clone()));
        }
    }

    /// What is due next, and when.
    pub(super) fn first(&self) -> Option<(Timestamp, K)> {
        self.order.first().cloned()
    }

    /// When a thing is due.
    pub(super) fn due(&self, key: &K) -> Option<Timestamp> {
        self.of.get(key).copied()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.order.iter().map(|(_, key)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }
}
