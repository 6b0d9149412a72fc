//! The mutation log on disk: one writer, one order, any number of readers.
//!
//! A folder of segments. Each holds records as Go's maintner frames them ([`record`]), so that its logs are read as
//! they are and its programs read ours. The last segment grows; the others are frozen, and chained by hash in the
//! manifest. What was appended is visible to readers only when it is durable, and its prefix never changes.

mod batch;
mod bucket;
mod copy;
mod error;
mod files;
mod filter;
mod import;
mod index;
mod layout;
mod manifest;
mod open;
mod publish;
mod reader;
pub mod record;
mod remote;
mod state;
mod token;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use api::maintpb::Mutation;
use bytes::Bytes;
use prost::Message;
use tokio::sync::{oneshot, watch};

pub use batch::{Batch, BatchBuilder, MAX_BATCH_BYTES, MAX_BATCH_MUTATIONS};
pub use bucket::{Bucket, BucketError, FolderBucket, Object, ObjectBucket, OpenBucketError, Put, Version};
pub use error::{AppendError, OpenError, ReadError};
pub use files::{SegmentFile, segment_files};
pub use filter::{Filter, Kind};
pub use import::{ImportError, import};
pub use layout::is_log_file;
pub use publish::{Content, Published};
pub use reader::Reader;
pub use record::RecordError;
pub use remote::Shared as SharedLog;
pub use token::{HistoryId, ParseTokenError, ResumeToken};
pub use verify::{Problem, Report, verify};

use state::Shared;
use writer::Writer;

/// The largest mutation that is accepted, so that it fits a gRPC message with its surroundings.
pub const MAX_MUTATION_BYTES: usize = 15 * 1024 * 1024;

/// How a log is kept. The defaults are right for production.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment is frozen before it grows beyond this, unless one record alone is larger.
    pub max_segment_bytes: u64,
    /// How much of the end of the log stays in memory for readers that have caught up.
    pub recent_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_segment_bytes: 16 * 1024 * 1024, recent_bytes: 4 * 1024 * 1024 }
    }
}

/// How far the log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// The number of mutations.
    pub position: u64,
    /// The bytes of all segments.
    pub bytes: u64,
}

/// A handle to the open log. The folder is let go by [`Log::close`], or soon after the last handle is gone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    queue: writer::Queue,
}

impl Log {
    /// Opens the log in `dir`, makes it if there is none, and takes the folder for this process. Folders written by
    /// Go's maintner are adopted as they are. Blocks on the disk.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::start(dir, options, open::open(dir)?)
    }

    /// As [`Self::open`], for a log that rests in a bucket: what is acknowledged is durable there, and the folder is a
    /// copy for readers. A log that is only in the folder is brought into an empty bucket. Blocks, also for the length
    /// of the lease if another led that may be dead.
    pub fn open_shared(dir: &Path, options: Options, shared: &SharedLog) -> Result<Self, OpenError> {
        Self::start(dir, options, open::open_shared(dir, shared)?)
    }

    fn start(dir: &Path, options: Options, opened: open::Opened) -> Result<Self, OpenError> {
        let open::Opened { manifest, segments, growing, lock, remote } = opened;
        let extent = Extent {
            position: segments.iter().map(|segment| segment.mutations).sum(),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
        };
        let (durable, follow) = watch::channel(extent);
        let shared = Arc::new(Shared::new(dir, manifest.history, segments, options.recent_bytes, follow));
        let writer = Writer::new(
            Arc::clone(&shared),
            manifest,
            growing,
            durable,
            (lock, remote),
            options.max_segment_bytes,
        );
        let queue = writer.start().map_err(|source| OpenError::Io {
            action: "start the writer of",
            path: dir.into(),
            source,
        })?;
        Ok(Self { shared, queue })
    }

    /// Which history this is: another log, or the same folder adopted anew, has another.
    pub fn history(&self) -> HistoryId {
        self.shared.history
    }

    /// How far the log reaches durably.
    pub fn extent(&self) -> Extent {
        *self.shared.durable.borrow()
    }

    /// Where the log is kept.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Follows the extent as it grows. Ends when the writer has.
    pub fn subscribe(&self) -> watch::Receiver<Extent> {
        self.shared.durable.clone()
    }

    /// Lets the folder go, when all that was enqueued is durable. Later appends are refused.
    pub async fn close(&self) {
        let mut durable = self.subscribe();
        let _ = self.queue.send(writer::Request::Close).await; // a writer that has ended is closed already
        while durable.changed().await.is_ok() {}
    }

    /// The token of a position in this log.
    pub fn token(&self, position: u64) -> ResumeToken {
        ResumeToken { history: self.history(), position }
    }

    /// Appends in the order given and answers with the position after them when they, and all that was appended
    /// before, are durable. An empty list waits for what is on its way. After an error the log takes no more: what was
    /// not answered may or may not be in it, and opening it again tells.
    pub async fn append(&self, mutations: &[Mutation]) -> Result<u64, AppendError> {
        self.enqueue(mutations.iter().map(encode).collect()).await?.durable().await
    }

    /// As [`Self::append`], but answers when the mutations have their place in the order: what is enqueued later
    /// comes later. Waits while the queue is full.
    pub async fn enqueue(&self, encoded: Vec<Bytes>) -> Result<Pending, AppendError> {
        if let Some(large) = encoded.iter().find(|one| one.len() > MAX_MUTATION_BYTES) {
            return Err(AppendError::TooLarge { bytes: large.len() });
        }
        let (done, receiver) = oneshot::channel();
        self.queue
            .send(writer::Request::Append(writer::Append { encoded, done }))
            .await
            .map_err(|_| AppendError::Closed)?;
        Ok(Pending(receiver))
    }

    /// A reader of everything after the first `position` mutations.
    pub fn reader(&self, position: u64) -> Reader {
        self.filtered(position, Filter::default())
    }

    /// A reader of those after the first `position` mutations that pass a filter.
    pub fn filtered(&self, position: u64, filter: Filter) -> Reader {
        Reader::new(Arc::clone(&self.shared), position, filter)
    }

    /// Calls `each` with the number and bytes of every durable mutation from `position` on. Blocks on the disk.
    pub fn replay(&self, position: u64, each: impl FnMut(u64, &[u8])) -> Result<(), ReadError> {
        reader::replay(&self.shared, position, each)
    }
}

/// Mutations that have their place in the order but may not be durable yet.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<u64, AppendError>>);

impl Pending {
    /// Waits until they are durable. Answers with the position after them.
    pub async fn durable(self) -> Result<u64, AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Closed))
    }
}

/// A mutation as it is written to the log.
pub fn encode(mutation: &Mutation) -> Bytes {
    mutation.encode_to_vec().into()
}

/// The path of a file of the log in `dir`, for messages.
fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}
