//! Fair shares: among those who wait, whoever uses the least now is served first; among equals, whoever was served
//! longest ago. So no backlog, however long, keeps another from its turn, and nobody has to be given a number.
//!
//! All operations are logarithmic in the number of shares that use or want something.

use std::collections::{BTreeMap, BTreeSet};

/// Something that can be waited in.
pub(super) trait Waiting: Default {
    /// How many wait.
    fn len(&self) -> usize;
}

impl<T: Ord> Waiting for BTreeSet<T> {
    fn len(&self) -> usize {
        self.len()
    }
}

/// What a share has; the least is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Standing {
    /// What it uses now.
    pub(super) in_use: u32,
    /// When it was served last, as a count of all servings.
    pub(super) served: u64,
}

/// Shares by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares<K, V> {
    all: BTreeMap<K, (Standing, V)>,
    /// Those with something that waits.
    order: BTreeSet<(Standing, K)>,
    waiting: usize,
}

impl<K, V> Default for Shares<K, V> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), order: BTreeSet::new(), waiting: 0 }
    }
}

impl<K: Ord + Clone, V: Waiting> Waiting for Shares<K, V> {
    fn len(&self) -> usize {
        self.waiting
    }
}

impl<K: Ord + Clone, V: Waiting> Shares<K, V> {
    /// Changes a share and what waits in it. One that uses nothing and wants nothing is forgotten.
    pub(super) fn change(&mut self, key: &K, change: impl FnOnce(&mut Standing, &mut V)) {
        let entry = self.all.entry(key.clone()).or_default();
        let (before, before_len) = (entry.0, entry.1.len());
        change(&mut entry.0, &mut entry.1);
        let (after, after_len) = (entry.0, entry.1.len());
        self.waiting = self.waiting + after_len - before_len;
        let moved = before != after || (before_len > 0) != (after_len > 0);
        if before_len > 0 && moved {
            self.order.remove(&(before, key.clone()));
        }
        if after_len > 0 && moved {
            self.order.insert((after, key.clone()));
        }
        if after_len == 0 && after.in_use == 0 {
            self.all.remove(key);
        }
    }

    /// What waits in the share that is served next.
    pub(super) fn first(&self) -> Option<&V> {
        self.order.first().and_then(|(_, key)| self.get(key))
    }

    /// What waits in a share.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.all.get(key).map(|(_, waiting)| waiting)
    }

    /// Shares with something that waits, the next to be served first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Standing, &K, &V)> {
        self.order.iter().filter_map(|(standing, key)| Some((*standing, key, self.get(key)?)))
    }

    /// All shares.
    pub(super) fn all(&self) -> impl Iterator<Item = (Standing, &K, &V)> {
        self.all.iter().map(|(key, (standing, waiting))| (*standing, key, waiting))
    }

    /// How many are served before an item with `within` others before it in its own share, if each share has its turn:
    /// from every share that comes first one more than from those that come after.
    pub(super) fn ahead(&self, key: &K, within: usize) -> usize {
        let mut before = true;
        let mut count = within;
        for (_, other, waiting) in self.in_order() {
            if other == key {
                before = false;
            } else {
                count += waiting.len().min(within + usize::from(before));
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Items = BTreeSet<u32>;

    fn add(shares: &mut Shares<char, Items>, key: char, items: impl IntoIterator<Item = u32>) {
        shares.change(&key, |_, waiting| waiting.extend(items));
    }

    /// Serves the next, which uses what it is given until the end.
    fn serve(shares: &mut Shares<char, Items>, turn: u64) -> (char, u32) {
        let (_, key, items) = shares.in_order().next().unwrap();
        let (key, item) = (*key, *items.first().unwrap());
        shares.change(&key, |standing, waiting| {
            waiting.remove(&item);
            *standing = Standing { in_use: standing.in_use + 1, served: turn };
        });
        (key, item)
    }

    #[test]
    fn a_long_backlog_leaves_every_other_share_its_turn() {
        let mut shares = Shares::default();
        add(&mut shares, 'a', 0..100);
        add(&mut shares, 'b', [200, 201]);
        let served: String = (1..=6).map(|turn| serve(&mut shares, turn).0).collect();
        assert_eq!(served, "ababaa");
    }

    #[test]
    fn with_one_machine_shares_take_turns() {
        let mut shares = Shares::default();
        add(&mut shares, 'a', 0..100);
        add(&mut shares, 'b', 100..200);
        let mut served = String::new();
        for turn in 1..=6 {
            let (key, _) = serve(&mut shares, turn);
            shares.change(&key, |standing, _| standing.in_use -= 1);
            served.push(key);
        }
        assert_eq!(served, "ababab");
    }

    #[test]
    fn who_uses_more_waits_until_the_others_have_as_much() {
        let mut shares = Shares::default();
        add(&mut shares, 'a', 0..10);
        for turn in 1..=3 {
            serve(&mut shares, turn);
        }
        add(&mut shares, 'b', 100..110);
        let served: String = (4..=8).map(|turn| serve(&mut shares, turn).0).collect();
        assert_eq!(served, "bbbab");
    }

    #[test]
    fn a_share_that_uses_and_wants_nothing_is_forgotten() {
        let mut shares = Shares::default();
        add(&mut shares, 'a', [1]);
        serve(&mut shares, 1);
        assert_eq!(shares.all().count(), 1);
        shares.change(&'a', |standing, _| standing.in_use -= 1);
        assert_eq!((shares.all().count(), shares.len()), (0, 0));
    }

    #[test]
    fn what_is_ahead_is_what_is_served_before() {
        let mut shares = Shares::default();
        add(&mut shares, 'a', [0, 1, 2]);
        add(&mut shares, 'b', [10]);
        add(&mut shares, 'c', [20, 21, 22, 23]);
        let told =
            [shares.ahead(&'a', 0), shares.ahead(&'c', 0), shares.ahead(&'c', 1), shares.ahead(&'c', 3)];
        let order: Vec<u32> = (1..=8).map(|turn| serve(&mut shares, turn).1).collect();
        assert_eq!(order, [0, 10, 20, 1, 21, 2, 22, 23]);
        assert_eq!(told, [0, 2, 4, 7]);
    }
}
