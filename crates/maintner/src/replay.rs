//! From a folder of segments to a corpus, as fast as the machine allows.
//!
//! The records of a segment are found by one thread at a time, which is a hop from header to header. What is in them is
//! taken apart by the thread that found them, which has them near then, and applied in order by the thread that called.
//! While a piece that is next is not ready, that thread takes one apart itself, so one thread is enough, and none ever
//! waits for long.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;

use crate::{
    Corpus,
    core::{Batch, DecodeError},
    log::{
        OpenError, RecordError, SegmentFile,
        record::{Frames, Torn},
        segment_files,
    },
};

/// About how many bytes of log make a piece.
const PIECE: usize = 512 * 1024;
/// How many pieces may be ready before the first is applied: what bounds the memory.
const AHEAD: usize = 16;

/// A log cannot be read into a corpus.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file is missing, or cannot be read.
    #[error("cannot read the log")]
    Open(#[from] OpenError),
    /// A record is damaged.
    #[error("the log is damaged")]
    Record(#[from] RecordError),
    /// What is in a record is no mutation.
    #[error("the record at {offset} of `{}` cannot be decoded", path.display())]
    Decode {
        /// The segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Mutations that were applied.
    pub mutations: u64,
    /// Bytes of log that hold them.
    pub bytes: u64,
}

/// Reads the log in `dir` into a new corpus, with as many threads as there are processors. Nobody needs to hold the
/// log. A last record that is not whole yet, since somebody is writing it, is left out. Blocks.
pub fn replay(dir: &Path) -> Result<(Corpus, Replayed), ReplayError> {
    let segments = segment_files(dir)?;
    let mut corpus = Corpus::default();
    corpus.reserve(segments.iter().map(|segment| segment.bytes).sum());
    let replayed = replay_segments(&mut corpus, &segments, threads())?;
    Ok((corpus, replayed))
}

/// As many as there are processors.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Applies all that these segments hold, in order, with so many threads. After an error the corpus holds what came
/// before it. Blocks.
pub fn replay_segments(
    corpus: &mut Corpus,
    segments: &[SegmentFile],
    threads: usize,
) -> Result<Replayed, ReplayError> {
    let mut loaded = Vec::with_capacity(segments.len());
    let mut bytes = 0;
    for file in segments {
        let contents = file.load()?;
        bytes += contents.len() as u64;
        loaded.push(Segment { file, base: corpus.attach(contents.clone()), contents });
    }
    let before = corpus.statistics().mutations;
    let torn = apply_all(corpus, &loaded, threads)?;
    corpus.settle();
    Ok(Replayed { mutations: corpus.statistics().mutations - before, bytes: bytes - torn })
}

/// A segment in memory.
struct Segment<'a> {
    file: &'a SegmentFile,
    /// The address of its first byte in the corpus.
    base: u64,
    contents: Bytes,
}

/// Shared by all threads.
struct Shared<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
    segments: &'a [Segment<'a>],
}

struct State<'a> {
    /// Where the next piece begins. Nothing while somebody cuts it.
    cutter: Option<Cutter<'a>>,
    /// The number of the next piece to cut, and of the next to apply.
    next: usize,
    applied: usize,
    ready: BTreeMap<usize, Result<Batch<'a>, ReplayError>>,
    /// Batches that were applied: their memory is used again.
    spare: Vec<Batch<'a>>,
    /// Cutting is over: all pieces are cut, or one could not be.
    ended: bool,
    failed: Option<ReplayError>,
    torn: u64,
}

/// Cuts the log into pieces of whole records.
#[derive(Default)]
struct Cutter<'a> {
    segment: usize,
    frames: Option<Frames<'a>>,
    /// Up to where the segment was brought near.
    near: usize,
}

/// What came of cutting.
enum Cut {
    Piece(Piece),
    /// There is no more.
    End,
    /// So many bytes at the end are no whole record yet.
    Torn(u64),
    Failed(ReplayError),
}

/// Records of one segment: where their payloads lie in it.
struct Piece {
    segment: usize,
    payloads: Vec<std::ops::Range<usize>>,
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        // Whoever panicked took the whole replay down with it: the scope of threads passes that on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts a piece, while others go on. Nothing if there is none, or if somebody else is cutting.
    fn cut(&self, mut state: MutexGuard<'_, State<'a>>) -> Option<(usize, Piece, Batch<'a>)> {
        let mut cutter = state.cutter.take().filter(|_| !state.ended)?;
        drop(state);
        let cut = cutter.cut(self.segments);
        let mut state = self.lock();
        state.cutter = Some(cutter);
        state.ended |= !matches!(cut, Cut::Piece(_));
        let piece = match cut {
            Cut::Piece(piece) => {
                state.next += 1;
                Some((state.next - 1, piece, state.spare.pop().unwrap_or_default()))
            }
            Cut::End => None,
            Cut::Torn(bytes) => {
                state.torn = bytes;
                None
            }
            Cut::Failed(error) => {
                state.failed = Some(error);
                None
            }
        };
        drop(state);
        self.changed.notify_all();
        piece
    }

    fn decode(&self, piece: &Piece, mut batch: Batch<'a>) -> Result<Batch<'a>, ReplayError> {
        let segment = &self.segments[piece.segment];
        batch.clear();
        for payload in &piece.payloads {
            let at = segment.base + payload.start as u64;
            batch.add(at, &segment.contents[payload.clone()]).map_err(|source| ReplayError::Decode {
                path: segment.file.path.clone(),
                offset: payload.start as u64,
                source,
            })?;
        }
        Ok(batch)
    }

    /// Takes pieces apart until there are none.
    fn help(&self) {
        loop {
            let mut state = self.lock();
            while !state.ended && (state.cutter.is_none() || state.next >= state.applied + AHEAD) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((number, piece, spare)) = self.cut(state) else { return };
            let decoded = self.decode(&piece, spare);
            self.lock().ready.insert(number, decoded);
            self.changed.notify_all();
        }
    }

    /// The next piece in order, taken apart by somebody. `before` is the one that was applied last.
    fn next(&self, number: usize, before: Batch<'a>) -> Option<Result<Batch<'a>, ReplayError>> {
        let mut state = self.lock();
        state.spare.push(before);
        state.applied = number;
        self.changed.notify_all();
        loop {
            if let Some(ready) = state.ready.remove(&number) {
                return Some(ready);
            }
            // While somebody has it, this thread takes a later one apart: then both always have something to do.
            if !state.ended && state.cutter.is_some() && state.next < number + AHEAD {
                if let Some((other, piece, spare)) = self.cut(state) {
                    let decoded = self.decode(&piece, spare);
                    if other == number {
                        return Some(decoded);
                    }
                    self.lock().ready.insert(other, decoded);
                }
                state = self.lock();
                continue;
            }
            if state.ended && state.next <= number {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<'a> Cutter<'a> {
    fn cut(&mut self, segments: &'a [Segment<'a>]) -> Cut {
        while let Some(segment) = segments.get(self.segment) {
            let frames = self.frames.get_or_insert_with(|| Frames::new(&segment.contents));
            let start = frames.offset();
            self.near = bring_near(&segment.contents, self.near, start + PIECE);
            let mut payloads = Vec::with_capacity(PIECE / 512);
            while frames.offset() - start < PIECE {
                match frames.read() {
                    Ok(Some(payload)) => payloads.push(payload),
                    Ok(None) => break,
                    // What was read before it is a piece; then it is met again.
                    Err(_) if !payloads.is_empty() => break,
                    Err(torn) => return self.end_torn(segments, torn),
                }
            }
            if !payloads.is_empty() {
                return Cut::Piece(Piece { segment: self.segment, payloads });
            }
            *self = Self { segment: self.segment + 1, ..Self::default() };
        }
        Cut::End
    }

    /// The end of a segment that grows may be missing, and nothing else.
    fn end_torn(&self, segments: &[Segment<'_>], torn: Torn) -> Cut {
        let segment = &segments[self.segment];
        let last = self.segment + 1 == segments.len();
        if torn.is_cut && segment.file.grows && last {
            Cut::Torn((segment.contents.len() - torn.offset) as u64)
        } else {
            Cut::Failed(torn.error(&segment.file.path).into())
        }
    }
}

/// Reads a part of a segment once, line by line of the cache, for which the processor need not wait: whoever hops from
/// header to header waits for each. Answers with where it ended.
fn bring_near(contents: &[u8], start: usize, end: usize) -> usize {
    const LINE: usize = 64;
    let end = end.min(contents.len());
    let lines = contents.get(start..end).unwrap_or_default().iter().step_by(LINE);
    std::hint::black_box(lines.fold(0, |touched, byte| touched ^ byte));
    end.max(start)
}

fn apply_in_order(corpus: &mut Corpus, shared: &Shared<'_>) -> Result<(), ReplayError> {
    let (mut number, mut before) = (0, Batch::default());
    while let Some(batch) = shared.next(number, before) {
        before = batch?;
        corpus.apply_batch(&before);
        number += 1;
    }
    Ok(())
}

/// Answers how many bytes at the end are no whole record yet.
fn apply_all(corpus: &mut Corpus, segments: &[Segment<'_>], threads: usize) -> Result<u64, ReplayError> {
    let state = State {
        cutter: Some(Cutter::default()),
        next: 0,
        applied: 0,
        ready: BTreeMap::new(),
        spare: Vec::new(),
        ended: false,
        failed: None,
        torn: 0,
    };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), segments };
    let applied = thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| shared.help());
        }
        let applied = apply_in_order(corpus, &shared);
        shared.lock().ended = true;
        shared.changed.notify_all();
        applied
    });
    let mut state = shared.lock();
    match (applied, state.failed.take()) {
        (Err(error), _) | (Ok(()), Some(error)) => Err(error),
        (Ok(()), None) => Ok(state.torn),
    }
}
