//! Reads any range of a log, and finds lines and times in it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use types::{ExecId, Timestamp};

use super::{
    LogError, LogStore,
    chunk::{Chunk, Place, count_lines, decode},
    index,
};
use crate::Blobs;

/// Chunks that one query brings, so that reading a long range holds few compressed ones.
const CHUNKS_AT_ONCE: u64 = 32;

impl LogStore {
    /// The durable bytes of a range. What lies beyond the end is left out. All of them are held in memory: read a large
    /// log in pieces.
    pub async fn read(&self, exec: ExecId, range: Range<u64>) -> Result<Bytes, LogError> {
        let mut read = BytesMut::new();
        let mut next = range.start;
        while next < range.end {
            let piece = match self.read_piece(exec, next..range.end).await {
                // The chunks were moved since the index was read: where to is in the index by now.
                Err(LogError::Blob(error)) if error.is_not_found() => {
                    self.read_piece(exec, next..range.end).await?
                }
                piece => piece?,
            };
            if piece.is_empty() {
                break;
            }
            next += piece.len() as u64;
            if next >= range.end && read.is_empty() {
                return Ok(piece.into());
            }
            read.extend_from_slice(&piece);
        }
        Ok(read.freeze())
    }

    /// The number, from 0, of the line that a byte is in. Beyond the end it is that of the end.
    pub async fn line_of(&self, exec: ExecId, byte: u64) -> Result<u64, LogError> {
        let Some(chunk) = index::at(&self.0.database, exec, byte).await? else { return Ok(0) };
        let before = self.read(exec, chunk.start..byte.min(chunk.end())).await?;
        Ok(chunk.line + count_lines(&before))
    }

    /// Where a line, counted from 0, begins; None if the log has not come so far.
    pub async fn byte_of_line(&self, exec: ExecId, line: u64) -> Result<Option<u64>, LogError> {
        if line == 0 {
            return Ok(Some(0));
        }
        let Some(chunk) = self.chunk_of_line_end(exec, line).await? else { return Ok(None) };
        let bytes = self.read(exec, chunk.start..chunk.end()).await?;
        let nth = usize::try_from(line - chunk.line - 1).unwrap_or(usize::MAX);
        let end = memchr::memchr_iter(b'\n', &bytes).nth(nth);
        Ok(end.map(|end| chunk.start + end as u64 + 1))
    }

    /// How many lines a log has. A last one without its end counts.
    pub async fn lines(&self, exec: ExecId) -> Result<u64, LogError> {
        let info = self.info(exec).await?;
        let last = self.read(exec, info.bytes.saturating_sub(1)..info.bytes).await?;
        Ok(info.line_ends + u64::from(last.first().is_some_and(|byte| *byte != b'\n')))
    }

    /// When a byte was written; None if it was not yet.
    pub async fn time_of(&self, exec: ExecId, byte: u64) -> Result<Option<Timestamp>, LogError> {
        let chunk = index::at(&self.0.database, exec, byte).await?;
        Ok(chunk.filter(|chunk| byte < chunk.end()).map(|chunk| chunk.written))
    }

    /// The chunk that holds the `line`th line end. Line ends before a chunk grow with its start, so that halving the
    /// bytes finds it by the primary key alone.
    async fn chunk_of_line_end(&self, exec: ExecId, line: u64) -> Result<Option<Chunk>, LogError> {
        let Some(last) = index::last(&self.0.database, exec).await? else { return Ok(None) };
        if last.line + last.lines < line {
            return Ok(None);
        }
        let (mut low, mut high) = (0, last.end());
        loop {
            let middle = low + (high - low) / 2;
            let Some(chunk) = index::at(&self.0.database, exec, middle).await? else { return Ok(None) };
            if chunk.line >= line {
                high = chunk.start;
            } else if chunk.line + chunk.lines < line {
                low = chunk.end();
            } else {
                return Ok(Some(chunk));
            }
        }
    }

    /// Some bytes from the front of a range; none at the end of the log.
    async fn read_piece(&self, exec: ExecId, range: Range<u64>) -> Result<Vec<u8>, LogError> {
        let chunks = index::covering(&self.0.database, exec, range.start, range.end, CHUNKS_AT_ONCE).await?;
        let stored = stored_bytes(self.0.blobs.as_ref(), &chunks).await?;
        let work = move || {
            let mut bytes = Vec::new();
            for (chunk, stored) in chunks.iter().zip(stored) {
                let raw = decode(&stored, chunk.bytes);
                let raw = raw.ok_or(LogError::Corrupt { exec, start: chunk.start })?;
                let end = range.end.clamp(chunk.start, chunk.end()) - chunk.start;
                let start = range.start.clamp(chunk.start, chunk.end()) - chunk.start;
                bytes.extend_from_slice(&raw[start as usize..end.max(start) as usize]);
            }
            Ok(bytes)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(bytes) => bytes,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// The compressed bytes of each chunk. Neighbours in an object are read at once.
pub(super) async fn stored_bytes(blobs: &dyn Blobs, chunks: &[Chunk]) -> Result<Vec<Bytes>, LogError> {
    let mut stored = Vec::with_capacity(chunks.len());
    while let Some(chunk) = chunks.get(stored.len()) {
        match &chunk.place {
            Place::Row(bytes) => stored.push(bytes.clone()),
            Place::Unread => stored.push(Bytes::new()),
            Place::Object { key, position, .. } => {
                let run = neighbours(&chunks[stored.len()..]);
                let end = position + run.iter().sum::<u64>();
                let mut bytes = blobs.read(key, *position..end).await?;
                for size in run {
                    let size = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
                    stored.push(bytes.split_to(size));
                }
            }
        }
    }
    Ok(stored)
}

/// The sizes of the chunks that follow one another in the object of the first; at least one.
fn neighbours(chunks: &[Chunk]) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut next: Option<(&str, u64)> = None;
    for chunk in chunks {
        let Place::Object { key, position, stored } = &chunk.place else { break };
        if next.is_some_and(|next| next != (key.as_str(), *position)) {
            break;
        }
        sizes.push(*stored);
        next = Some((key, position + stored));
    }
    sizes
}
