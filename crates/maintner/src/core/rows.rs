//! An arena: rows that are found by index, the first of which may lie in a snapshot.
//!
//! What a snapshot holds is mapped and used where it lies; a row that is written to is copied by the kernel, page by
//! page, and for this process alone. What comes later is in memory of our own.

use std::ops::{Index, IndexMut, Range};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::map::Section;

/// What rows are made of: plain bytes, whatever they hold.
pub(super) trait Plain: FromBytes + IntoBytes + Immutable + Copy {}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

/// Rows by index.
#[derive(Debug)]
pub(super) struct Rows<T> {
    /// Those of a snapshot, as bytes: a multiple of the size of a row, and aligned to it.
    base: Section,
    /// How many these are.
    base_len: usize,
    own: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { base: Section::default(), base_len: 0, own: Vec::new() }
    }
}

impl<T: Plain> Rows<T> {
    /// The rows in a section of a snapshot. Nothing if it does not hold whole rows.
    pub(super) fn thaw(base: Section) -> Option<Self> {
        // An empty one is aligned to nothing.
        let base_len = if base.is_empty() { 0 } else { <[T]>::ref_from_bytes(&base).ok()?.len() };
        Some(Self { base, base_len, own: Vec::new() })
    }

    #[inline]
    fn base(&self) -> &[T] {
        <[T]>::ref_from_bytes(&self.base).unwrap_or_default()
    }

    #[inline]
    fn base_mut(&mut self) -> &mut [T] {
        <[T]>::mut_from_bytes(&mut self.base).unwrap_or_default()
    }

    /// The rows, in two parts of which either may be empty.
    pub(super) fn parts(&self) -> [&[T]; 2] {
        [self.base(), &self.own]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.base_len + self.own.len()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        if at < self.base_len { self.base().get(at) } else { self.own.get(at - self.base_len) }
    }

    /// Rows that were pushed one after the other. Those on both sides of the end of a snapshot are in no slice.
    #[inline]
    pub(super) fn slice(&self, range: Range<usize>) -> Option<&[T]> {
        if range.start < self.base_len {
            self.base().get(range)
        } else {
            self.own.get(range.start - self.base_len..range.end.checked_sub(self.base_len)?)
        }
    }

    #[inline]
    pub(super) fn slice_mut(&mut self, range: Range<usize>) -> Option<&mut [T]> {
        let base_len = self.base_len;
        if range.start < base_len {
            self.base_mut().get_mut(range)
        } else {
            self.own.get_mut(range.start - base_len..range.end.checked_sub(base_len)?)
        }
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.base().iter().chain(&self.own)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let base = <[T]>::mut_from_bytes(&mut self.base).unwrap_or_default();
        base.iter_mut().chain(&mut self.own)
    }

    #[inline]
    pub(super) fn push(&mut self, row: T) {
        self.own.push(row);
    }

    /// Adds so many equal rows.
    pub(super) fn fill(&mut self, count: usize, row: T) {
        self.own.resize(self.own.len() + count, row);
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.own.reserve(more);
    }
}

impl<T: Plain> Index<usize> for Rows<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        if at < self.base_len { &self.base()[at] } else { &self.own[at - self.base_len] }
    }
}

impl<T: Plain> IndexMut<usize> for Rows<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        let base_len = self.base_len;
        if at < base_len { &mut self.base_mut()[at] } else { &mut self.own[at - base_len] }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn rows_of_a_snapshot_are_changed_for_this_process_only() {
        let mut file = tempfile::tempfile().unwrap();
        let stored: Vec<u64> = (0..2000).collect();
        file.write_all(stored.as_bytes()).unwrap();
        let thaw = || Rows::<u64>::thaw(Section::map(&file, 0, 16_000).unwrap()).unwrap();
        let mut rows = thaw();
        rows.push(2000);
        rows.fill(2, 7);
        rows[5] = 50;
        rows[2001] = 8;
        assert_eq!((rows.len(), rows[5], rows[1999], rows[2000], rows[2001]), (2003, 50, 1999, 2000, 8));
        assert_eq!(rows.slice(3..6), Some(&[3, 4, 50][..]));
        assert_eq!(rows.slice(2000..2002), Some(&[2000, 8][..]));
        assert_eq!((rows.slice(1999..2001), rows.slice(2002..2004), rows.get(2003)), (None, None, None));
        rows.slice_mut(0..1).unwrap()[0] = 9;
        rows.slice_mut(2002..2003).unwrap()[0] = 9;
        assert_eq!((rows.iter().copied().next(), rows.iter().next_back()), (Some(9), Some(&9)));
        assert_eq!(thaw().parts().concat(), stored, "the file has changed");
    }

    #[test]
    fn a_section_that_is_not_whole_holds_no_rows() {
        assert!(Rows::<u64>::thaw(Section::default()).is_some_and(|rows| rows.len() == 0));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 20]).unwrap();
        assert!(Rows::<u64>::thaw(Section::map(&file, 0, 20).unwrap()).is_none());
    }
}
