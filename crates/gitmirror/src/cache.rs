//! Small objects that were read lately. Most files of a commit are those of the one before, so most builds of a busy
//! repository are served without asking git.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use types::CommitHash;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

/// An object of git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) data: Bytes,
}

/// Larger ones are not kept.
pub(crate) const LARGEST: usize = 32 << 10;
/// What an entry costs beside its data.
const OVERHEAD: usize = 128;

/// A cache with two generations: what is used while it is in the old one moves to the young one; when that is full,
/// the old one is dropped. Approximates least-recently-used without a list.
pub(crate) struct Cache {
    generations: Mutex<Generations>,
    /// Of one generation, bytes.
    capacity: usize,
}

/// The mirror that an object is of, so that no repository shows what only another holds.
type Key = (u32, CommitHash);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Object>,
    old: HashMap<Key, Object>,
    young_bytes: usize,
}

impl Cache {
    /// Holds up to so many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { generations: Mutex::default(), capacity: capacity / 2 }
    }

    /// An object, if it is there.
    pub(crate) fn read(&self, mirror: u32, name: CommitHash) -> Option<Object> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(object) = generations.young.get(&(mirror, name)) {
            return Some(object.clone());
        }
        let object = generations.old.remove(&(mirror, name))?;
        self.insert(&mut generations, (mirror, name), object.clone());
        Some(object)
    }

    /// Keeps an object, if it is small. Commits and trees may be part of a larger buffer; it is copied out.
    pub(crate) fn keep(&self, mirror: u32, name: CommitHash, object: &Object) {
        if object.data.len() > LARGEST {
            return;
        }
        let object = Object { kind: object.kind, data: Bytes::copy_from_slice(&object.data) };
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut generations, (mirror, name), object);
    }

    fn insert(&self, generations: &mut Generations, key: Key, object: Object) {
        let size = object.data.len() + OVERHEAD;
        if generations.young_bytes + size > self.capacity {
            generations.old = mem::take(&mut generations.young);
            generations.young_bytes = 0;
        }
        if generations.young.insert(key, object).is_none() {
            generations.young_bytes += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> CommitHash {
        CommitHash::from_bytes([number; 20])
    }

    fn blob(size: usize) -> Object {
        Object { kind: Kind::Blob, data: vec![0; size].into() }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let cache = Cache::new(20 * (100 + OVERHEAD));
        for number in 0..100 {
            cache.keep(0, name(number), &blob(100));
            assert!(cache.read(0, name(0)).is_some(), "{number}");
        }
        assert!(cache.read(0, name(99)).is_some());
        assert!(cache.read(0, name(50)).is_none());
    }

    #[test]
    fn mirrors_do_not_see_each_others_objects_and_large_ones_are_not_kept() {
        let cache = Cache::new(1 << 20);
        cache.keep(1, name(1), &blob(5));
        cache.keep(1, name(2), &blob(LARGEST + 1));
        assert!(cache.read(1, name(1)).is_some());
        assert!(cache.read(2, name(1)).is_none());
        assert!(cache.read(1, name(2)).is_none());
    }
}
