//! One chunk: compressed by itself, with what the index keeps of it.

use bytes::Bytes;
use types::{ExecId, Timestamp};

use super::LogInfo;

/// Where objects of logs are.
pub(super) const PREFIX: &str = "logs/";
/// Fast rather than small: logs shrink well at any level.
const LEVEL: i32 = 1;
/// Compressing less than this takes less than going to another thread.
const INLINE_WORK: usize = 16 << 10;

/// What the index keeps of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Position of the first byte.
    pub(super) start: u64,
    /// Bytes before compression.
    pub(super) bytes: u64,
    /// Line ends before it.
    pub(super) line: u64,
    /// Line ends in it.
    pub(super) lines: u64,
    /// When it was written.
    pub(super) written: Timestamp,
    /// Whether it is the last one of a finished log.
    pub(super) finished: bool,
    /// Where it is.
    pub(super) place: Place,
}

/// Where the compressed bytes of a chunk are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In its row.
    Row(Bytes),
    /// In an object, from a position on, so many.
    Object { key: String, position: u64, stored: u64 },
    /// In its row, which was read without them.
    Unread,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes
    }

    pub(super) fn info(&self) -> LogInfo {
        LogInfo {
            bytes: self.end(),
            line_ends: self.line + self.lines,
            finished: self.finished,
            written: self.written,
        }
    }
}

/// The object of the chunks of a log from `start` on. The first two digits part the objects into 256 folders; they are
/// the last of the id, since the first are the time.
pub(super) fn object_key(exec: ExecId, start: u64) -> String {
    let id = exec.0.simple().to_string();
    format!("{PREFIX}{}/{id}-{start}", &id[id.len() - 2..])
}

/// The object of a whole log.
pub(super) fn sealed_key(exec: ExecId) -> String {
    let id = exec.0.simple().to_string();
    format!("{PREFIX}{}/{id}-sealed", &id[id.len() - 2..])
}

/// Whose object it is.
pub(super) fn exec_of(key: &str) -> Option<ExecId> {
    key.rsplit('/').next()?.split('-').next()?.parse().ok()
}

/// Line ends in some bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// The compressed bytes, and how many line ends the bytes have.
pub(super) async fn encode(raw: Bytes) -> std::io::Result<(Bytes, u64)> {
    let small = raw.len() <= INLINE_WORK;
    let work = move || Ok((zstd::bulk::compress(&raw, LEVEL)?.into(), count_lines(&raw)));
    if small { work() } else { tokio::task::spawn_blocking(work).await? }
}

/// The bytes, if the compressed ones hold exactly so many.
pub(super) fn decode(stored: &[u8], bytes: u64) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok()?;
    zstd::bulk::decompress(stored, bytes).ok().filter(|raw| raw.len() == bytes)
}
