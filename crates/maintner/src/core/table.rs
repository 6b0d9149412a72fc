//! A hash table of indices into an arena: whatever the keys, they live in the arena.

use std::ops::{Deref, DerefMut};

use zerocopy::FromBytes as _;

use crate::map::Section;

/// Open addressing with linear probing. A slot holds a part of the hash, so that most comparisons never leave it.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The lower half is an index plus one, zero is free; the upper half is the lower half of the hash. The length is
    /// a power of two.
    slots: Slots,
    used: usize,
}

/// A table of at least so many slots has a mapping of its own.
const LARGE: usize = 1 << 17;

/// The slots of a table: few in memory of our own, many in a mapping, which may be one of a snapshot.
#[derive(Debug)]
enum Slots {
    Own(Vec<u64>),
    Mapped(Section),
}

impl Slots {
    fn free(len: usize) -> Self {
        let section = if len >= LARGE { Section::zeros(len * size_of::<u64>()).ok() } else { None };
        section.map_or_else(|| Self::Own(vec![0; len]), Self::Mapped)
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for Slots {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        match self {
            Self::Own(slots) => slots,
            Self::Mapped(section) => <[u64]>::ref_from_bytes(section).unwrap_or_default(),
        }
    }
}

impl DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Own(slots) => slots,
            Self::Mapped(section) => <[u64]>::mut_from_bytes(section).unwrap_or_default(),
        }
    }
}

impl Table {
    /// The table of so many entries in a section of a snapshot. Nothing if it is none.
    pub(super) fn thaw(section: Section, used: usize) -> Option<Self> {
        let slots = Slots::Mapped(section);
        let len = slots.len();
        let is_table = len == 0 && used == 0 || len.is_power_of_two() && used * 4 <= len * 3;
        is_table.then_some(Self { slots, used })
    }

    /// What [`Self::thaw`] makes the table from.
    pub(super) fn slots(&self) -> &[u64] {
        &self.slots
    }

    /// Has room for so many entries without growing.
    pub(super) fn reserve(&mut self, entries: usize) {
        let wanted = (entries * 4).div_ceil(3).next_power_of_two();
        if wanted > self.slots.len() {
            self.resize(wanted);
        }
    }

    /// The entry with this hash for which `is` says yes.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let slots: &[u64] = &self.slots;
        let mask = slots.len().checked_sub(1)?;
        let mut at = hash as u32 as usize & mask;
        while slots[at] != 0 {
            let slot = slots[at];
            if (slot >> 32) as u32 == hash as u32 && is(slot as u32 - 1) {
                return Some(slot as u32 - 1);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Some entry with nearly this hash, probably the right one.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> Option<u32> {
        let slots: &[u64] = &self.slots;
        let mask = slots.len().checked_sub(1)?;
        (slots[hash as u32 as usize & mask] as u32).checked_sub(1)
    }

    /// The entry with this hash for which `is` says yes; if there is none, `new` becomes one. Answers also whether it
    /// did.
    #[inline]
    pub(super) fn find_or_insert(&mut self, hash: u64, new: u32, is: impl Fn(u32) -> bool) -> (u32, bool) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(16));
        }
        let slots: &mut [u64] = &mut self.slots;
        let mask = slots.len() - 1;
        let mut at = hash as u32 as usize & mask;
        while slots[at] != 0 {
            let slot = slots[at];
            if (slot >> 32) as u32 == hash as u32 && is(slot as u32 - 1) {
                return (slot as u32 - 1, false);
            }
            at = (at + 1) & mask;
        }
        slots[at] = hash << 32 | u64::from(new + 1);
        self.used += 1;
        (new, true)
    }

    /// Adds an entry that is not in the table yet.
    pub(super) fn insert(&mut self, hash: u64, index: u32) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(16));
        }
        self.place(hash << 32 | u64::from(index + 1));
        self.used += 1;
    }

    fn resize(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.slots, Slots::free(len));
        for slot in old.iter().filter(|slot| **slot != 0) {
            self.place(*slot);
        }
    }

    #[inline]
    fn place(&mut self, slot: u64) {
        let slots: &mut [u64] = &mut self.slots;
        let mask = slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while slots[at] != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = slot;
    }
}

/// Mixes numbers to a hash that is the same everywhere.
#[inline]
pub(super) fn mix(first: u64, second: u64) -> u64 {
    let product = u128::from(first ^ 0x9e37_79b9_7f4a_7c15) * u128::from(second ^ 0xd6e8_feb8_6659_fd93);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of some bytes, the same everywhere. The last words may overlap: to copy what is left of a text together takes
/// longer than all the rest.
#[inline]
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let word = |eight: Option<&[u8; 8]>| eight.map_or(0, |eight| u64::from_le_bytes(*eight));
    // Spread, so that a byte of the text does not undo it.
    let mut hash = mix(bytes.len() as u64, 0);
    let Some(last) = bytes.last_chunk() else {
        return mix(hash, short_word(bytes));
    };
    let mut rest = bytes;
    while rest.len() > 16 {
        hash = mix(hash ^ word(rest.first_chunk()), word(rest[8..].first_chunk()));
        rest = &rest[16..];
    }
    mix(hash ^ word(rest.first_chunk()), word(Some(last)))
}

/// All of less than eight bytes in one word.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let half = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
    match (bytes, bytes.first_chunk(), bytes.last_chunk()) {
        (_, Some(first), Some(last)) => half(first) << 32 | half(last),
        ([first, middle @ .., last], ..) => {
            let middle = middle.first().copied().unwrap_or(0);
            u64::from(*first) << 16 | u64::from(middle) << 8 | u64::from(*last)
        }
        ([only], ..) => u64::from(*only),
        ([], ..) => 0,
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
            table.insert(hash(index), index);
        }
        for index in 0..1000 {
            assert_eq!(table.find(hash(index), |other| other == index), Some(index));
            assert_eq!(table.find_or_insert(hash(index), 9999, |other| other == index), (index, false));
        }
        assert_eq!(table.find_or_insert(hash(1000), 1000, |other| other == 1000), (1000, true));
        assert_eq!(table.find(hash(1000), |other| other == 1000), Some(1000));
        assert_eq!(table.find(5, |other| other == 5000), None);
    }

    #[test]
    fn hashes_depend_on_every_byte_and_on_the_length() {
        let mut hashes = Vec::new();
        for len in 0..60 {
            let mut text = vec![0; len];
            hashes.push(hash_bytes(&text));
            for at in 0..len {
                for value in [1, b'a', 255] {
                    text[at] = value;
                    hashes.push(hash_bytes(&text));
                }
                text[at] = 0;
            }
        }
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }
}
