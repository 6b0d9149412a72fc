//! A store of blobs: bytes by key, written whole, never changed.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

/// Reads a blob from its start.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// Where bytes rest. Keys are paths of plain words (see [`check_key`]). Every call may be repeated.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Writes a blob; when this returns it is durable and visible. In place of a blob of that key, if there is one:
    /// readers see the old one or the new one. After an error either may be there.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError>;
    /// Begins to write a blob of unknown size. Nothing is visible before `commit`.
    async fn writer(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError>;
    /// Some of a blob. What lies beyond its end is left out.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError>;
    /// A blob from its start.
    async fn open(&self, key: &str) -> Result<BlobReader, BlobError>;
    /// How many bytes a blob has.
    async fn size(&self, key: &str) -> Result<u64, BlobError>;
    /// Removes a blob; one that is not there is fine.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
    /// All blobs whose keys begin with `prefix`, in the order of their keys.
    async fn list(&self, prefix: &str) -> Result<Vec<BlobEntry>, BlobError>;
}

/// Writes one blob. Dropped without `commit` it leaves nothing.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;
    /// Makes the blob durable and visible. Says how many bytes it has.
    async fn commit(self: Box<Self>) -> Result<u64, BlobError>;
}

/// A blob in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobEntry {
    /// Its key.
    pub key: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A store of blobs did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob `{0}`")]
    NotFound(String),
    /// A key that no store takes.
    #[error(
        "`{0}` is not a key: words of letters, digits, `.`, `_` and `-`, parted by `/`, none beginning with `.`"
    )]
    BadKey(String),
    /// The disk or the network failed.
    #[error("failed to {action} blob `{key}`")]
    Io {
        /// What was done.
        action: &'static str,
        /// The blob.
        key: String,
        /// Why it failed.
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl BlobError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// Whether the blob is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

/// Whether every store takes this key: words of letters, digits, `.`, `_` and `-`, parted by `/`, none beginning with
/// `.`, at most 200 bytes in a word and 900 in all.
pub fn check_key(key: &str) -> Result<(), BlobError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let word = |word: &str| {
        !word.is_empty() && word.len() <= 200 && !word.starts_with('.') && word.bytes().all(allowed)
    };
    if key.len() <= 900 && key.split('/').all(word) {
        Ok(())
    } else {
        Err(BlobError::BadKey(key.chars().take(100).collect()))
    }
}
