//! From a folder of segments to a corpus, as fast as the machine allows.
//!
//! Three kinds of work, and whichever thread is free takes the first that can be done: to apply what is next to one half
//! of the fold, to apply it to the other, or to cut the next piece off the log and take it apart. Finding the records of a
//! piece is a hop from header to header and done by one thread at a time; what is in them is taken apart by the thread
//! that found them, which has them near then. One thread is enough, and of two none waits while there is work.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;

use crate::{
    Corpus,
    core::{Batch, DecodeError, Half},
    log::{
        OpenError, RecordError, SegmentFile,
        record::{Frames, Torn},
        segment_files,
    },
};

/// About how many bytes of log make a piece.
const PIECE: usize = 512 * 1024;
/// How many pieces may be ready before the first is applied: what bounds the memory. Few, so that they are still near when
/// they are applied; more threads than that have nothing to do, since the fold takes as long as taking all apart.
const AHEAD: usize = 4;

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
struct Shared<'a, 'c> {
    state: Mutex<State<'a, 'c>>,
    changed: Condvar,
    segments: &'a [Segment<'a>],
}

struct State<'a, 'c> {
    /// Where the next piece begins. Nothing while somebody cuts it.
    cutter: Option<Cutter<'a>>,
    /// The number of the next piece to cut.
    next: usize,
    /// Pieces that were taken apart, until both halves have them.
    ready: BTreeMap<usize, Arc<Batch<'a>>>,
    chains: [Chain<'c>; 2],
    /// Batches that were applied: their memory is used again.
    spare: Vec<Batch<'a>>,
    /// How many pieces are to be applied, once that is known: all are cut, or one could not be read.
    end: Option<usize>,
    /// What is wrong with the piece at the end.
    failed: Option<ReplayError>,
    torn: u64,
}

/// A half of the fold, to which pieces are applied one after the other.
struct Chain<'c> {
    /// Nothing while somebody applies a piece to it.
    half: Option<Box<dyn Half + 'c>>,
    /// The number of the next piece.
    next: usize,
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

impl<'a, 'c> State<'a, 'c> {
    /// A half that nobody has, and the piece that is next for it. Answers also which half it is.
    fn take_half(&mut self) -> Option<(usize, Box<dyn Half + 'c>, Arc<Batch<'a>>)> {
        let end = self.end.unwrap_or(usize::MAX);
        self.chains.iter_mut().enumerate().find_map(|(which, chain)| {
            let batch = self.ready.get(&chain.next).filter(|_| chain.next < end && chain.half.is_some())?;
            Some((which, chain.half.take()?, batch.clone()))
        })
    }

    /// The half that was taken has the piece now.
    fn give_half(&mut self, which: usize, half: Box<dyn Half + 'c>, batch: Arc<Batch<'a>>) {
        drop(batch);
        let chain = &mut self.chains[which];
        let number = chain.next;
        *chain = Chain { half: Some(half), next: number + 1 };
        if self.applied() > number {
            self.spare.extend(self.ready.remove(&number).and_then(Arc::into_inner));
        }
    }

    /// How many pieces both halves have.
    fn applied(&self) -> usize {
        self.chains.iter().map(|chain| chain.next).min().unwrap_or(0)
    }

    fn take_cutter(&mut self) -> Option<Cutter<'a>> {
        let may_cut = self.end.is_none() && self.next < self.applied() + AHEAD;
        self.cutter.take_if(|_| may_cut)
    }

    /// Nothing from this piece on is applied.
    fn end_at(&mut self, number: usize, failed: Option<ReplayError>) {
        if self.end.is_none_or(|end| number < end) {
            (self.end, self.failed) = (Some(number), failed);
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.applied() >= end)
    }
}

impl<'a, 'c> Shared<'a, 'c> {
    fn lock(&self) -> MutexGuard<'_, State<'a, 'c>> {
        // Whoever panicked took the whole replay down with it: the scope of threads passes that on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what can be done until all is.
    fn work(&self) {
        let _lets_go = LetsGo(self);
        let mut state = self.lock();
        while !state.is_over() {
            if let Some((which, mut half, batch)) = state.take_half() {
                drop(state);
                half.apply(&batch);
                state = self.lock();
                state.give_half(which, half, batch);
                self.changed.notify_all();
            } else if let Some(cutter) = state.take_cutter() {
                drop(state);
                self.cut(cutter);
                state = self.lock();
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Cuts a piece, and takes it apart while somebody else may cut the next.
    fn cut(&self, mut cutter: Cutter<'a>) {
        let cut = cutter.cut(self.segments);
        let mut state = self.lock();
        state.cutter = Some(cutter);
        let number = state.next;
        match cut {
            Cut::Piece(piece) => {
                state.next += 1;
                let spare = state.spare.pop().unwrap_or_default();
                drop(state);
                self.changed.notify_all();
                let decoded = self.decode(&piece, spare);
                state = self.lock();
                match decoded {
                    Ok(batch) => drop(state.ready.insert(number, Arc::new(batch))),
                    Err(error) => state.end_at(number, Some(error)),
                }
            }
            Cut::End => state.end_at(number, None),
            Cut::Torn(bytes) => {
                state.torn = bytes;
                state.end_at(number, None);
            }
            Cut::Failed(error) => state.end_at(number, Some(error)),
        }
        drop(state);
        self.changed.notify_all();
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
}

/// Lets the others go when a thread panics: what it had is never given back.
struct LetsGo<'s, 'a, 'c>(&'s Shared<'a, 'c>);

impl Drop for LetsGo<'_, '_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().end_at(0, None);
            self.0.changed.notify_all();
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

/// Answers how many bytes at the end are no whole record yet.
fn apply_all(corpus: &mut Corpus, segments: &[Segment<'_>], threads: usize) -> Result<u64, ReplayError> {
    let (github, git) = corpus.halves();
    // The half that takes longer comes first.
    let halves: [Box<dyn Half + '_>; 2] = [Box::new(git), Box::new(github)];
    let state = State {
        cutter: Some(Cutter::default()),
        next: 0,
        ready: BTreeMap::new(),
        chains: halves.map(|half| Chain { half: Some(half), next: 0 }),
        spare: Vec::new(),
        end: None,
        failed: None,
        torn: 0,
    };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), segments };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(state.torn), Err)
}
