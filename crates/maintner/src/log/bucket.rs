//! Where a log rests that is to outlive its machine: a bucket of objects.
//!
//! All that is asked of it is to write an object only if there is none, or only if it is as it was: what keeps two
//! writers apart is built on that (`remote.rs`). Calls block; the log makes them from threads of its own.

mod folder;
mod objects;

use std::fmt;

use bytes::Bytes;

pub use folder::FolderBucket;
pub use objects::{ObjectBucket, OpenBucketError};

/// Objects by key. Every call may be repeated.
pub trait Bucket: fmt::Display + Send + Sync + 'static {
    /// An object, if there is one.
    fn read(&self, key: &str) -> Result<Option<Object>, BucketError>;
    /// Writes an object if there is none of this key. When this returns it is durable. After an error it may be there.
    fn create(&self, key: &str, bytes: Bytes) -> Result<Put, BucketError>;
    /// Writes an object if it is still of this version. As [`Self::create`] else.
    fn replace(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, BucketError>;
    /// All keys that begin with `prefix`, in order.
    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError>;
    /// Removes an object; one that is not there is fine.
    fn delete(&self, key: &str) -> Result<(), BucketError>;
}

/// What tells one content of an object from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(super) String);

/// An object as it was read.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it holds.
    pub bytes: Bytes,
    /// Which content this is.
    pub version: Version,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It was written, and is of this version now.
    Done(Version),
    /// Another object is there, or another version.
    Lost,
}

/// A bucket did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} `{key}` of the bucket: {what}")]
pub struct BucketError {
    /// What was tried.
    pub action: &'static str,
    /// On which object.
    pub key: String,
    /// What the bucket said, with its causes.
    pub what: String,
}

impl BucketError {
    fn new(action: &'static str, key: &str, error: &dyn std::error::Error) -> Self {
        let mut what = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !what.contains(&text) {
                what = format!("{what}: {text}");
            }
            source = cause.source();
        }
        Self { action, key: key.into(), what }
    }
}
