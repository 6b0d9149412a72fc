//! Why a call was not done.

use std::io;

use crate::{
    fetch::FetchError,
    folder::{BadPath, FolderError},
    keeper::KeeperError,
    lease::Refusal,
    tree::{ListError, PackError, UnpackError},
};

/// A call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The lease is not the machine's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The lease ended while the call was in progress.
    #[error("the lease ended meanwhile")]
    Ended,
    /// Something of the last lease is left.
    #[error("the machine is not clean: {0}")]
    NotClean(String),
    /// The path is not beneath the work folder.
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// There is no such folder.
    #[error("there is no folder `{0}`")]
    NoFolder(String),
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such exec.
    #[error("there is no exec `{0}`")]
    UnknownExec(types::ExecId),
    /// That output was acknowledged.
    #[error("output before {acknowledged} was acknowledged and is gone, so {offset} cannot be read")]
    Acknowledged { offset: u64, acknowledged: u64 },
    /// The archive cannot be unpacked.
    #[error("{0}")]
    BadArchive(String),
    /// The archive did not all come.
    #[error("the archive was broken off")]
    BrokenOff,
    /// The archive cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The keeper cannot be used.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The command reads no more.
    #[error("the exec takes no input")]
    InputClosed,
    /// It has no terminal.
    #[error("the exec has no terminal")]
    NoTerminal,
    /// Nothing listens there.
    #[error("cannot connect to port {port}")]
    PortClosed { port: u16, source: io::Error },
    /// Execs have a network of their own.
    #[error("the ports of execs cannot be reached: they have a network of their own")]
    NoNetwork,
    /// The machine's owner did not say how.
    #[error("this machine cannot be {0}: its buildlet was not told how")]
    NotAllowed(&'static str),
    /// The disk.
    #[error("cannot {what}")]
    Disk { what: String, source: io::Error },
    /// The buildlet is ending.
    #[error("the buildlet is shutting down")]
    ShuttingDown,
}

impl CallError {
    /// A failure of the disk while doing something.
    pub(super) fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { what: what.into(), source }
    }
}

impl From<FolderError> for CallError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Bad(bad) => Self::BadPath(bad),
            FolderError::Missing(path) => Self::NoFolder(path),
            FolderError::Io { path, source } => Self::Disk { what: format!("use `{path}`"), source },
        }
    }
}

impl From<UnpackError> for CallError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(_) => Self::BadArchive(error.to_string()),
            UnpackError::BrokenOff => Self::BrokenOff,
            UnpackError::Write { path, source } => Self::Disk { what: format!("write `{path}`"), source },
        }
    }
}

impl From<ListError> for CallError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Read { path, source } => Self::Disk { what: format!("list `{path}`"), source },
            ListError::Untaken => Self::Ended,
        }
    }
}

impl From<PackError> for CallError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Read { path, source } => Self::Disk { what: format!("pack `{path}`"), source },
            PackError::Write(source) => Self::Disk { what: "pack the folder".to_owned(), source },
        }
    }
}
