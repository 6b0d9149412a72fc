//! Moves the chunks of a finished log into one object.
//!
//! A log that dripped has many small chunks; those written within some seconds become one. The new object is durable
//! before the first row names it, and the old ones go after the last row that named them. So a crash anywhere leaves a
//! log that reads the same.

use bytes::{Bytes, BytesMut};
use types::ExecId;

use super::{
    CHUNK_BYTES, Inner, LogError,
    chunk::{Chunk, Place, decode, encode, sealed_key},
    index,
    read::stored_bytes,
    writer::IN_ROWS,
};
use crate::Batch;

/// Chunks written further apart stay apart, so that the index can still say when a line was written.
const MERGED_MICROS: i64 = 10_000_000;
/// Rows that one batch replaces: more would make other writers wait.
const ROWS_AT_ONCE: usize = 128;

/// A run of chunks that become one.
type Run = Vec<Chunk>;

pub(super) async fn seal(store: &Inner, exec: ExecId) {
    let Ok(_permit) = store.sealing.acquire().await else { return };
    if let Err(error) = try_seal(store, exec).await {
        tracing::warn!(exec.id = %exec, "failed to seal log {exec}, which stays as it is: {error}");
    }
}

async fn try_seal(store: &Inner, exec: ExecId) -> Result<(), LogError> {
    let chunks = index::all(&store.database, exec).await?;
    let old = index::objects(&store.database, exec).await?;
    let count = chunks.len();
    let runs = runs(chunks);
    if runs.len() == count && old.len() <= 1 {
        return Ok(());
    }
    let key = sealed_key(exec);
    let mut writer = store.blobs.writer(&key).await?;
    let mut sealed: Vec<(Run, Chunk, Bytes)> = Vec::new();
    let mut position = 0;
    for run in runs {
        let (mut chunk, bytes) = join(store, exec, &run).await?;
        let stored = bytes.len() as u64;
        chunk.place = Place::Object { key: key.clone(), position, stored };
        position += stored;
        writer.write(bytes.clone()).await?;
        // Kept only while all may still fit into rows.
        let kept = if position <= IN_ROWS as u64 { bytes } else { Bytes::new() };
        sealed.push((run, chunk, kept));
    }
    if position <= IN_ROWS as u64 {
        drop(writer);
        for (_, chunk, bytes) in &mut sealed {
            chunk.place = Place::Row(std::mem::take(bytes));
        }
    } else {
        writer.commit().await?;
    }
    for some in sealed.chunks(ROWS_AT_ONCE) {
        let mut batch = Batch::new();
        for (_, chunk, _) in some {
            // An empty last chunk has no bytes and still a row.
            index::remove_range(&mut batch, exec, chunk.start, chunk.end().max(chunk.start + 1));
            index::insert(&mut batch, exec, chunk);
        }
        store.database.write(batch).await?;
    }
    for object in old.iter().filter(|object| **object != key) {
        store.blobs.delete(object).await?;
    }
    Ok(())
}

fn runs(chunks: Vec<Chunk>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for chunk in chunks {
        let fits = |run: &Run| {
            let bytes: u64 = run.iter().map(|chunk| chunk.bytes).sum();
            bytes + chunk.bytes <= CHUNK_BYTES as u64 && chunk.written.0 - run[0].written.0 <= MERGED_MICROS
        };
        match runs.last_mut() {
            Some(run) if fits(run) => run.push(chunk),
            _ => runs.push(vec![chunk]),
        }
    }
    runs
}

/// A run as one chunk, with its compressed bytes. A single chunk is taken as it is.
async fn join(store: &Inner, exec: ExecId, run: &[Chunk]) -> Result<(Chunk, Bytes), LogError> {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    let limit = run.len() as u64;
    let full = index::covering(&store.database, exec, first.start, last.start + 1, limit).await?;
    let mut stored = stored_bytes(store.blobs.as_ref(), &full).await?;
    let joined = Chunk {
        bytes: last.end() - first.start,
        lines: last.line + last.lines - first.line,
        finished: last.finished,
        ..first.clone()
    };
    if run.len() == 1 {
        return Ok((joined, stored.pop().unwrap_or_default()));
    }
    let mut raw = BytesMut::new();
    for (chunk, stored) in full.iter().zip(&stored) {
        let bytes = decode(stored, chunk.bytes);
        raw.extend_from_slice(&bytes.ok_or(LogError::Corrupt { exec, start: chunk.start })?);
    }
    let broken = |_| LogError::Corrupt { exec, start: first.start };
    let (bytes, _) = encode(raw.freeze()).await.map_err(broken)?;
    Ok((joined, bytes))
}
