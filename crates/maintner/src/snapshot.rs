//! The corpus of a log's frozen segments in a file, so that a start need not read them all.
//!
//! The file names the segments it was made from and carries a checksum of each of its parts. Whatever does not match,
//! be it one bit, makes it worthless: then the log is read from its beginning, and a new one can be written. It is
//! never the only place of anything.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task;
use tokio_util::sync::CancellationToken;

use crate::{
    Corpus, Log, ReplayError, Replayed,
    core::{FROZEN_VERSION, Frozen},
    log::{SegmentFile, segment_files},
    map,
    replay::{replay_segments, threads},
};

/// The name of the file, beside the segments.
pub const FILE: &str = "corpus.snapshot";
const MAGIC: [u8; 8] = *b"FARMCORP";
/// Where each part begins: a multiple of this, so that it can be used where it lies.
const ALIGNMENT: usize = 64;
/// How much of both ends of a segment tells it from another of the same name and length.
const EDGE: usize = 4096;

/// What comes first in the file, after the magic and its own length and checksum.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    /// Of the machine that wrote it: the parts are its memory.
    little_endian: bool,
    segments: Vec<Source>,
    sections: Vec<Section>,
}

/// A segment that the corpus was made from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    name: String,
    bytes: u64,
    /// The checksum of its first and last bytes.
    edges: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Section {
    tag: u32,
    /// After the header.
    offset: usize,
    len: usize,
    checksum: u32,
}

/// How a corpus was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// How many segments did not have to be read.
    pub from_snapshot: usize,
    /// What was read of the others.
    pub replayed: Replayed,
}

/// A snapshot cannot be written. The log and an earlier snapshot are as they were.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The log cannot be read.
    #[error("cannot read the log for a snapshot")]
    Replay(#[from] ReplayError),
    /// The disk said no.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// The corpus of the log in `dir`: from the snapshot, if there is one that fits, and from the segments after it.
/// Nobody needs to hold the log. Blocks.
pub fn open(dir: &Path) -> Result<(Corpus, Opened), ReplayError> {
    open_segments(dir, &segment_files(dir)?)
}

fn open_segments(dir: &Path, segments: &[SegmentFile]) -> Result<(Corpus, Opened), ReplayError> {
    let path = dir.join(FILE);
    let loaded = load(&path, segments).unwrap_or_else(|why| {
        if path.exists() {
            tracing::warn!("`{}` is of no use ({why}): the log is read from its beginning", path.display());
        }
        None
    });
    let (mut corpus, from_snapshot) = loaded.unwrap_or_default();
    let rest = &segments[from_snapshot..];
    corpus.reserve(rest.iter().map(|segment| segment.bytes).sum());
    let replayed = replay_segments(&mut corpus, rest, threads())?;
    Ok((corpus, Opened { from_snapshot, replayed }))
}

/// The corpus in the file, and how many segments it covers. Nothing if there is no file; otherwise why it is of no use.
fn load(path: &Path, segments: &[SegmentFile]) -> Result<Option<(Corpus, usize)>, &'static str> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let bytes = map::frozen(&file).map_err(|_| "cannot be mapped")?;
    let (header, body) = read_header(&bytes)?;
    if header.version != FROZEN_VERSION || header.little_endian != cfg!(target_endian = "little") {
        return Err("was written by another version or on another kind of machine");
    }
    let covered = header.segments.len();
    let own = segments.get(..covered).ok_or("covers segments that are not there")?;
    let start = bytes.len() - body.len();
    let (sections, attached) = thread::scope(|scope| {
        let attached = scope.spawn(|| attach(own, &header.segments));
        let sections = map_sections(&file, start, body.len(), &header.sections);
        let attached = attached.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, &'static str>((sections?, attached?))
    })?;
    let corpus = Corpus::thaw(sections, attached).ok_or("makes no sense")?;
    Ok(Some((corpus, covered)))
}

/// The contents of the segments, if they are those that the snapshot was made from.
fn attach(segments: &[SegmentFile], sources: &[Source]) -> Result<Vec<Bytes>, &'static str> {
    let attach = |(segment, source): (&SegmentFile, &Source)| {
        let bytes = segment.load().map_err(|_| "covers a segment that cannot be read")?;
        if segment.grows || describe(segment, &bytes) != *source {
            return Err("covers another segment");
        }
        Ok(bytes)
    };
    segments.iter().zip(sources).map(attach).collect()
}

/// Maps and checks all sections, with all processors, the longest first so that none is left alone with it.
fn map_sections(
    file: &File,
    start: usize,
    len: usize,
    sections: &[Section],
) -> Result<Vec<(u32, map::Section)>, &'static str> {
    let mut order: Vec<&Section> = sections.iter().collect();
    order.sort_by_key(|section| std::cmp::Reverse(section.len));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut mapped = Vec::new();
        while let Some(section) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if section.offset.checked_add(section.len).is_none_or(|end| end > len) {
                return Err("is cut short");
            }
            let offset = (start + section.offset) as u64;
            let bytes = map::Section::map(file, offset, section.len).map_err(|_| "cannot be mapped")?;
            if crc32fast::hash(&bytes) != section.checksum {
                return Err("is damaged");
            }
            mapped.push((section.tag, bytes));
        }
        Ok(mapped)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads()).map(|_| scope.spawn(work)).collect();
        let mut all = work()?;
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// The header, and all that comes after it.
fn read_header(bytes: &[u8]) -> Result<(Header, &[u8]), &'static str> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or("is no snapshot")?;
    let (len, rest) = rest.split_first_chunk().ok_or("is cut short")?;
    let (checksum, rest) = rest.split_first_chunk().ok_or("is cut short")?;
    let len = u32::from_le_bytes(*len) as usize;
    let header = rest.get(..len).ok_or("is cut short")?;
    if crc32fast::hash(header) != u32::from_le_bytes(*checksum) {
        return Err("is damaged");
    }
    let header = serde_json::from_slice(header).map_err(|_| "has a header of another version")?;
    let body = bytes.get(body_start(len)..).ok_or("is cut short")?;
    Ok((header, body))
}

fn body_start(header: usize) -> usize {
    (MAGIC.len() + 8 + header).next_multiple_of(ALIGNMENT)
}

fn describe(segment: &SegmentFile, bytes: &Bytes) -> Source {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..bytes.len().min(EDGE)]);
    hasher.update(&bytes[bytes.len().saturating_sub(EDGE)..]);
    Source { name: segment.name.clone(), bytes: segment.bytes, edges: hasher.finalize() }
}

/// Makes the corpus of the frozen segments in `dir`, with the help of the snapshot that is there, and writes it. Does
/// nothing if the snapshot covers all of them already. Answers how many it covers. Blocks; takes as much memory as a
/// corpus does.
pub fn write(dir: &Path) -> Result<usize, SnapshotError> {
    let mut segments = segment_files(dir).map_err(ReplayError::from)?;
    segments.retain(|segment| !segment.grows);
    let (corpus, opened) = open_segments(dir, &segments)?;
    if opened.from_snapshot < segments.len() {
        let path = dir.join(FILE);
        store(&corpus, &segments, &path).map_err(|source| SnapshotError::Io { path, source })?;
    }
    Ok(segments.len())
}

fn store(corpus: &Corpus, segments: &[SegmentFile], path: &Path) -> io::Result<()> {
    let frozen =
        corpus.freeze().ok_or_else(|| io::Error::other("the corpus is not that of the segments alone"))?;
    let mut sources = Vec::with_capacity(segments.len());
    for segment in segments {
        let bytes = segment.load().map_err(io::Error::other)?;
        sources.push(describe(segment, &bytes));
    }
    let mut offset = 0usize;
    let section = |frozen: &Frozen<'_>| {
        let mut checksum = crc32fast::Hasher::new();
        frozen.parts.iter().for_each(|part| checksum.update(part));
        let section = Section { tag: frozen.tag, offset, len: len(frozen), checksum: checksum.finalize() };
        offset = (offset + section.len).next_multiple_of(ALIGNMENT);
        section
    };
    let header = Header {
        version: FROZEN_VERSION,
        little_endian: cfg!(target_endian = "little"),
        segments: sources,
        sections: frozen.iter().map(section).collect(),
    };
    let header = serde_json::to_vec(&header)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    // Another process may write one too: each its own, and the last that is renamed stays.
    let temporary = dir.join(format!("{FILE}.{}", std::process::id()));
    let written = write_file(&temporary, &header, &frozen).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // what failed is told, and the next attempt writes it anew
    }
    written
}

fn len(frozen: &Frozen<'_>) -> usize {
    frozen.parts.iter().map(|part| part.len()).sum()
}

fn write_file(path: &Path, header: &[u8], frozen: &[Frozen<'_>]) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    file.write_all(&MAGIC)?;
    file.write_all(&(header.len() as u32).to_le_bytes())?;
    file.write_all(&crc32fast::hash(header).to_le_bytes())?;
    file.write_all(header)?;
    let mut padding = body_start(header.len()) - MAGIC.len() - 8 - header.len();
    for section in frozen {
        file.write_all(&[0; ALIGNMENT][..padding])?;
        for part in &section.parts {
            file.write_all(part)?;
        }
        padding = len(section).next_multiple_of(ALIGNMENT) - len(section);
    }
    file.into_inner()?.sync_all()
}

/// Writes a snapshot when this much of the log is not in the last one.
pub(crate) const WORTH_IT: u64 = 128 * 1024 * 1024;

/// Keeps the snapshot of a log young, until cancelled. One that cannot be written is only said: it is never needed.
pub async fn keep(log: Log, cancel: CancellationToken) {
    let mut extent = log.subscribe();
    let mut covered = covered(log.dir());
    while !cancel.is_cancelled() {
        let bytes = extent.borrow_and_update().bytes;
        if bytes >= covered + WORTH_IT {
            let dir = log.dir().to_owned();
            match task::spawn_blocking(move || write(&dir)).await {
                Ok(Ok(segments)) => {
                    tracing::info!("wrote a snapshot of {segments} segments of the mutation log");
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot write a snapshot: {error}"
                    );
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return, // the runtime is going down
            }
            covered = bytes;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = extent.changed() => if changed.is_err() { return },
        }
    }
}

/// How many bytes of log the snapshot in `dir` says it covers; whether it is right will be seen when it is used.
pub(crate) fn covered(dir: &Path) -> u64 {
    let header = || {
        let bytes = map::frozen(&File::open(dir.join(FILE)).ok()?).ok()?;
        let (header, _) = read_header(&bytes).ok()?;
        Some(header.segments.iter().map(|segment| segment.bytes).sum())
    };
    header().unwrap_or(0)
}

#[cfg(test)]
mod tests;
