//! What the writer tells the readers: the segments, the end of the log, and how far it is durable.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sha2::{Digest as _, Sha224};
use tokio::sync::watch;

use super::{
    Batch, Extent, Filter, HistoryId, ReadError,
    filter::Mark,
    index::{self, SparseIndex},
    layout::Digest,
};

/// One segment, as far as it is durable.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// The number of its first mutation in the log.
    pub(super) first: u64,
    pub(super) mutations: u64,
    pub(super) bytes: u64,
    /// Of what is durable. Taken to its end only when somebody asks.
    pub(super) digest: SegmentDigest,
    /// The growing segment stays open, so that a reader does not look for it under a name it no longer has.
    pub(super) file: Option<Arc<File>>,
    /// A frozen segment is indexed when first asked for a place inside it.
    pub(super) index: Option<SparseIndex>,
}

/// The SHA-224 of a segment.
#[derive(Debug, Clone)]
pub(super) enum SegmentDigest {
    Growing(Sha224),
    Frozen(Digest),
}

impl SegmentDigest {
    pub(super) fn value(&self) -> Digest {
        match self {
            Self::Growing(hasher) => hasher.clone().finalize().into(),
            Self::Frozen(digest) => *digest,
        }
    }
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.first + self.mutations
    }
}

/// A place to read from.
pub(super) struct Place {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// A record begins here, and this is its number.
    pub(super) offset: u64,
    pub(super) number: u64,
    /// Where the durable part of the segment ends, in bytes and mutations.
    pub(super) limit: u64,
    pub(super) end: u64,
}

/// Shared by the writer and all readers.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) history: HistoryId,
    /// Closed when the writer has ended.
    pub(super) durable: watch::Receiver<Extent>,
    state: RwLock<State>,
}

/// What one write brought, as it is kept for readers that have caught up.
pub(super) struct Recent {
    pub(super) batch: Batch,
    /// One for each mutation.
    pub(super) marks: Vec<Mark>,
}

struct State {
    segments: Vec<Segment>,
    /// The end of the log, without a gap.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    max_recent_bytes: usize,
}

impl Shared {
    pub(super) fn new(
        dir: &Path,
        history: HistoryId,
        segments: Vec<Segment>,
        max_recent_bytes: usize,
        durable: watch::Receiver<Extent>,
    ) -> Self {
        let state = State { segments, recent: VecDeque::new(), recent_bytes: 0, max_recent_bytes };
        Self { dir: dir.into(), history, durable, state: RwLock::new(state) }
    }

    // A panic while the lock is held cannot leave the lists half changed in a way that matters: each is replaced or
    // extended by one call. So a poisoned lock is taken as it is.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the segments as they are now.
    pub(super) fn with_segments<T>(&self, see: impl FnOnce(&[Segment]) -> T) -> T {
        see(&self.read().segments)
    }

    /// The mutations from `position` on that pass, as far as they travel together, if they are still in memory.
    pub(super) fn recent(&self, position: u64, filter: &Filter) -> Option<Batch> {
        let state = self.read();
        let at = state.recent.partition_point(|recent| recent.batch.range().end <= position);
        let mut rest = state.recent.range(at..);
        let first = &rest.next().filter(|recent| recent.batch.range().start <= position)?;
        if !filter.is_all() {
            let mut batch = Batch::empty(position);
            for next in state.recent.range(at..) {
                if !batch.join_filtered(&next.batch, &next.marks, filter) {
                    break;
                }
            }
            return Some(batch);
        }
        let mut batch = first.batch.starting_at(position);
        for next in rest {
            if !batch.join(&next.batch) {
                break;
            }
        }
        Some(batch)
    }

    /// Where to read the mutation with this number, which must be durable. Blocks on the disk.
    pub(super) fn place(&self, position: u64) -> Result<Place, ReadError> {
        loop {
            let (at, segment) = {
                let state = self.read();
                let at = state.segments.partition_point(|segment| segment.end() <= position);
                (at, state.segments[at].clone())
            };
            let Segment { path, first, bytes, file, .. } = segment.clone();
            let file = match file {
                Some(file) => file,
                None => {
                    File::open(&path).map_err(|source| ReadError::Open { path: path.clone(), source })?.into()
                }
            };
            let Some(index) = &segment.index else {
                // Frozen, so the index stays right however long it takes to build.
                let index = index::build(file, &path, bytes)?;
                self.write().segments[at].index = Some(index);
                continue;
            };
            let (number, offset) = index.floor(position - first);
            return Ok(Place {
                file,
                offset,
                number: first + number,
                limit: bytes,
                end: segment.end(),
                path,
            });
        }
    }

    /// Makes what was appended to the growing segment known to readers, but not yet how far it is durable.
    pub(super) fn grow(&self, bytes: u64, hasher: &Sha224, offsets: &[u64], batches: Vec<Recent>) {
        let mut state = self.write();
        let growing = state.segments.last_mut().expect("there is always a growing segment");
        for offset in offsets {
            let number = growing.mutations;
            growing.index.get_or_insert_default().note(number, *offset);
            growing.mutations += 1;
        }
        growing.bytes = bytes;
        growing.digest = SegmentDigest::Growing(hasher.clone());
        for recent in batches {
            state.recent_bytes += recent.batch.len();
            state.recent.push_back(recent);
        }
        while state.recent_bytes > state.max_recent_bytes && state.recent.len() > 1 {
            let old = state.recent.pop_front().map_or(0, |recent| recent.batch.len());
            state.recent_bytes -= old;
        }
    }

    /// The growing segment has its final name, and another grows.
    pub(super) fn freeze(&self, path: PathBuf, digest: Digest, next: PathBuf, file: Arc<File>) {
        let mut state = self.write();
        let frozen = state.segments.last_mut().expect("there is always a growing segment");
        frozen.path = path;
        frozen.digest = SegmentDigest::Frozen(digest);
        frozen.file = None;
        let first = frozen.end();
        state.segments.push(Segment {
            path: next,
            first,
            mutations: 0,
            bytes: 0,
            digest: SegmentDigest::Growing(Sha224::new()),
            file: Some(file),
            index: Some(SparseIndex::default()),
        });
    }
}
