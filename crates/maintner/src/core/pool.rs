//! Many small lists in one piece of memory, each in a place that has room for a power of two.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::rows::{Plain, Rows};

/// A list in a [`Pool`]. The default is an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct List {
    start: u32,
    /// The upper eight bits are the logarithm of the room, the others the length.
    shape: u32,
}

const LENGTH: u32 = 0x00ff_ffff;

impl List {
    pub(super) fn len(self) -> usize {
        (self.shape & LENGTH) as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The logarithm of the room; nothing if there is no room yet.
    fn class(self) -> Option<usize> {
        (self.shape > 0).then_some((self.shape >> 24) as usize)
    }
}

/// Lists of one kind of thing. A list that outgrows its place moves, and another takes the place.
#[derive(Debug)]
pub(super) struct Pool<T> {
    pub(super) cells: Rows<T>,
    /// Places that are free, by the logarithm of their room.
    pub(super) free: Vec<Vec<u32>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { cells: Rows::default(), free: Vec::new() }
    }
}

impl<T: Plain> Pool<T> {
    /// A list that reaches beyond the pool, as one of a damaged snapshot might, is empty.
    #[inline]
    pub(super) fn get(&self, list: List) -> &[T] {
        let start = list.start as usize;
        self.cells.slice(start..start + list.len()).unwrap_or_default()
    }

    pub(super) fn get_mut(&mut self, list: List) -> &mut [T] {
        let start = list.start as usize;
        self.cells.slice_mut(start..start + list.len()).unwrap_or_default()
    }

    pub(super) fn push(&mut self, list: &mut List, value: T) {
        self.insert(list, list.len(), value);
    }

    /// Puts a value at a place up to the end. Takes time in proportion to what comes after it.
    pub(super) fn insert(&mut self, list: &mut List, at: usize, value: T) {
        let len = list.len();
        if list.class().is_none_or(|class| len == 1 << class) {
            self.grow(list, value);
        }
        list.shape += 1;
        let cells = self.get_mut(*list);
        cells.copy_within(at..len, at + 1);
        cells[at] = value;
    }

    /// Takes the value at a place out.
    pub(super) fn remove(&mut self, list: &mut List, at: usize) {
        self.get_mut(*list).copy_within(at + 1.., at);
        list.shape -= 1;
    }

    /// Empties a list and gives its place away.
    pub(super) fn clear(&mut self, list: &mut List) {
        self.give(*list);
        *list = List::default();
    }

    fn give(&mut self, list: List) {
        if let Some(class) = list.class() {
            if self.free.len() <= class {
                self.free.resize(class + 1, Vec::new());
            }
            self.free[class].push(list.start);
        }
    }

    fn grow(&mut self, list: &mut List, filler: T) {
        let class = list.class().map_or(0, |class| class + 1);
        let start = if let Some(free) = self.free.get_mut(class).and_then(Vec::pop) {
            free as usize
        } else {
            let start = self.cells.len();
            self.cells.fill(1 << class, filler);
            start
        };
        let new = List { start: start as u32, shape: (class as u32) << 24 | list.len() as u32 };
        // The two places do not overlap, but may lie in different parts of the cells.
        for at in 0..list.len() {
            let cell = self.cells[list.start as usize + at];
            self.cells[start + at] = cell;
        }
        self.give(*list);
        *list = new;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_what_vectors_are(steps in proptest::collection::vec((0usize..5, 0u8..8, any::<u16>()), 0..300)) {
            let mut pool = Pool::default();
            let mut lists = [List::default(); 5];
            let mut vectors: [Vec<u16>; 5] = Default::default();
            for (which, what, value) in steps {
                let (list, vector) = (&mut lists[which], &mut vectors[which]);
                let at = value as usize % (vector.len() + 1);
                match what {
                    0 => {
                        pool.clear(list);
                        vector.clear();
                    }
                    1 | 2 if at < vector.len() => {
                        pool.remove(list, at);
                        vector.remove(at);
                    }
                    _ => {
                        pool.insert(list, at, value);
                        vector.insert(at, value);
                    }
                }
                for (list, vector) in lists.iter().zip(&vectors) {
                    prop_assert_eq!(pool.get(*list), &vector[..]);
                    prop_assert_eq!(list.is_empty(), vector.is_empty());
                }
            }
        }
    }
}
