//! A hash table of indices into an arena: five bytes or so for each entry, whatever the keys.

/// Open addressing with linear probing. Keys live in the arena; the caller hashes and compares them.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// An index plus one; zero is free. The length is a power of two.
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// The entry with this hash for which `is` says yes.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(index) = self.slots[at].checked_sub(1) {
            if is(index) {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Adds an entry that is not in the table yet. `hash_of` tells the hash of those that are.
    pub(super) fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![0; (old.len() * 2).max(16)];
            for slot in old.into_iter().filter(|slot| *slot != 0) {
                self.place(hash_of(slot - 1), slot);
            }
        }
        self.place(hash, index + 1);
        self.used += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_also_when_their_hashes_collide() {
        let hash = |index: u32| u64::from(index / 7);
        let mut table = Table::default();
        for index in 0..1000 {
            assert_eq!(table.find(hash(index), |other| other == index), None);
            table.insert(hash(index), index, hash);
        }
        for index in 0..1000 {
            assert_eq!(table.find(hash(index), |other| other == index), Some(index));
        }
        assert_eq!(table.find(5, |other| other == 5000), None);
    }
}
