//! What can go wrong with a log, named for what the caller can do.

use std::{io, path::PathBuf, sync::Arc};

use super::{bucket::BucketError, record::RecordError};

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the log in `{}` is held by process {process}: stop that first, or use another data folder",
        dir.display()
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The number of the process, as it wrote it.
        process: String,
    },
    /// Another leads the log in a bucket, and lives.
    #[error("the log in `{bucket}` is led by `{holder}`: stop that first, or use another bucket")]
    Led {
        /// The bucket.
        bucket: String,
        /// Who, as it calls itself.
        holder: String,
    },
    /// The bucket cannot be used.
    #[error("cannot use the log: {what}")]
    Bucket {
        /// What is wrong with it.
        what: String,
    },
    /// A later version of this program wrote the manifest.
    #[error("`{}` is of version {found}, and this program knows {known}: use a later program", path.display())]
    NewerVersion {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// The manifest cannot be read.
    #[error(
        "`{}` is damaged ({what}): bring it back from a backup, or remove it, and the segments are adopted anew",
        path.display()
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file is missing, or there is one too many, or one is not what its name or the manifest says.
    #[error("`{}` {what}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A record is damaged, and not only the last.
    #[error("the log is damaged")]
    Record(#[from] RecordError),
    /// The disk said no.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Nothing was appended, or it is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// No mutation may be so large. Nothing was appended.
    #[error("a mutation of {bytes} bytes is too large for the log")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The disk said no. Whether the mutations are in the log is not known, and it takes no more until opened again.
    #[error("the log takes no more: cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// The bucket said no. As [`Self::Io`] else.
    #[error("the log takes no more")]
    Bucket(#[from] BucketError),
    /// Another has taken over. What was not acknowledged may be in the log.
    #[error("the log takes no more: another leads it now in `{bucket}`")]
    Deposed {
        /// The bucket.
        bucket: String,
    },
    /// The log failed earlier, or is closing.
    #[error("the log is closed")]
    Closed,
}

/// Mutations cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A record is damaged.
    #[error("the log is damaged")]
    Record(#[from] RecordError),
    /// A segment cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The segment.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A segment ends before the mutations it should hold.
    #[error("`{}` lacks its last {missing} mutations", path.display())]
    Short {
        /// The segment.
        path: PathBuf,
        /// How many are missing.
        missing: u64,
    },
    /// The writer has ended, and everything was read.
    #[error("the log is closed")]
    Closed,
}
