//! The logs of execs: bytes that grow at the end, read from anywhere.
//!
//! A log is a row of chunks, each of at most 256 KiB and compressed by itself. The index of chunks (first byte, first
//! line, time) is in the database. A small chunk is in its row; many or larger ones share an object of the blob store.
//! So a tiny log costs one row and no file, and reading any range decodes only the chunks that it touches.
//!
//! What [`LogWriter::durable`] says is durable is never lost. When a log is finished, its chunks are moved into one
//! object, in the background; a log that a crash kept from that reads the same.

mod chunk;
mod index;
mod live;
mod merged;
mod read;
mod seal;
mod writer;

use std::sync::{Arc, PoisonError};

use runtime::{Tasks, clock::SharedClock};
use tokio::sync::{Semaphore, watch};
use types::{ExecId, Timestamp};

use crate::{BlobError, Blobs, Database, ReadError, WriteError};

pub use index::MIGRATION_SQL;
pub use merged::{Merged, Part};
pub use writer::LogWriter;

/// The most bytes of a chunk, before compression.
pub const CHUNK_BYTES: usize = 256 << 10;

/// All logs. Clones are the same store.
#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

struct Inner {
    database: Database,
    blobs: Arc<dyn Blobs>,
    clock: SharedClock,
    tasks: Tasks,
    live: live::Registry,
    /// Sealing moves whole logs: one at a time, so that it stays in the background.
    sealing: Semaphore,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// Durable bytes.
    pub bytes: u64,
    /// Whether nothing follows.
    pub finished: bool,
}

/// What the index knows of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogInfo {
    /// Durable bytes.
    pub bytes: u64,
    /// Line ends in them.
    pub line_ends: u64,
    /// Whether nothing follows.
    pub finished: bool,
    /// When the last chunk was written.
    pub written: Timestamp,
}

/// A log was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Bytes are missing before those that were pushed.
    #[error("the log goes on at byte {expected}, not at {found}")]
    Gap {
        /// The position that is next.
        expected: u64,
        /// The position that was pushed.
        found: u64,
    },
    /// It was finished; nothing may follow.
    #[error("the log is finished at byte {0}")]
    Finished(u64),
    /// Another writer has taken over, or an earlier write failed: open a writer anew.
    #[error("this writer of the log is no longer good")]
    Superseded,
    /// What is stored is not what was written.
    #[error("the chunk of log `{exec}` at byte {start} is broken")]
    Corrupt {
        /// The log.
        exec: ExecId,
        /// The chunk.
        start: u64,
    },
    /// The index was not read.
    #[error("failed to read the index of the log")]
    Read(#[from] ReadError),
    /// The index was not written.
    #[error("failed to write the index of the log")]
    Write(#[from] WriteError),
    /// The bytes were not read or written.
    #[error("failed to reach the bytes of the log")]
    Blob(#[from] BlobError),
}

impl LogError {
    /// Whether the same may succeed later, with a new writer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Superseded => true,
            Self::Read(error) => error.is_transient(),
            Self::Write(error) => error.is_transient(),
            Self::Blob(error) => error.is_transient(),
            Self::Gap { .. } | Self::Finished(_) | Self::Corrupt { .. } => false,
        }
    }
}

impl LogStore {
    /// A store of logs. The owner of the database has [`MIGRATION_SQL`] among its migrations.
    pub fn new(database: Database, blobs: Arc<dyn Blobs>, clock: SharedClock, tasks: Tasks) -> Self {
        let sealing = Semaphore::new(1);
        Self(Arc::new(Inner { database, blobs, clock, tasks, live: live::Registry::default(), sealing }))
    }

    /// Goes on with a log, from its durable end. An earlier writer of it is superseded.
    pub async fn writer(&self, exec: ExecId) -> Result<LogWriter, LogError> {
        writer::open(&self.0, exec).await
    }

    /// What the index knows of a log. One that was never written has no bytes.
    pub async fn info(&self, exec: ExecId) -> Result<LogInfo, LogError> {
        Ok(index::info(&self.0.database, exec).await?)
    }

    /// How many durable bytes a log has.
    pub async fn len(&self, exec: ExecId) -> Result<u64, LogError> {
        Ok(self.info(exec).await?.bytes)
    }

    /// Follows a log as it grows. The receiver has the present state; after a state that is finished it closes.
    pub async fn subscribe(&self, exec: ExecId) -> Result<watch::Receiver<LogState>, LogError> {
        let receiver = self.0.live.subscribe(exec);
        let info = self.info(exec).await?;
        self.0.live.advance(exec, LogState { bytes: info.bytes, finished: info.finished });
        Ok(receiver)
    }

    /// Waits until nothing is done with a log: no writer is open, and sealing has ended.
    pub async fn settled(&self, exec: ExecId) {
        self.0.live.settled(exec).await;
    }

    /// Removes a log. One that is not there is fine; one that is being written must not be removed.
    pub async fn remove(&self, exec: ExecId) -> Result<(), LogError> {
        let objects = index::objects(&self.0.database, exec).await?;
        self.0.database.write(index::remove(exec)).await?;
        for object in objects {
            self.0.blobs.delete(&object).await?;
        }
        Ok(())
    }

    /// Removes objects that no chunk is in: what a crash left between writing one and naming it. Says how many. To be
    /// called now and then; logs that are being written are left alone.
    pub async fn sweep(&self) -> Result<usize, LogError> {
        let mut removed = 0;
        for entry in self.0.blobs.list(chunk::PREFIX).await? {
            let Some(exec) = chunk::exec_of(&entry.key) else { continue };
            if self.0.live.is_written(exec) {
                continue;
            }
            if !index::objects(&self.0.database, exec).await?.contains(&entry.key) {
                self.0.blobs.delete(&entry.key).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl std::fmt::Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").field("database", &self.0.database).finish_non_exhaustive()
    }
}

fn unpoisoned<T>(lock: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
