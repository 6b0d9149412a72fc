//! What can go wrong, named for the caller's choices.

use tonic::{Code, Status};

/// A call to a buildlet failed. The text is the buildlet's own unless it could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The buildlet cannot be reached. What the call did is not known.
    #[error("the buildlet cannot be reached: {0}")]
    Unavailable(String),
    /// The buildlet did not answer in time. What the call did is not known.
    #[error("the buildlet did not answer in time: {0}")]
    TimedOut(String),
    /// A newer lease holds the machine, or this one has ended.
    #[error("{0}")]
    StaleLease(String),
    /// The machine takes no lease: it is draining or not clean.
    #[error("{0}")]
    TakesNoLease(String),
    /// Something of the lease is left and cannot be removed.
    #[error("{0}")]
    NotClean(String),
    /// There is no such exec.
    #[error("{0}")]
    UnknownExec(String),
    /// That output was acknowledged and is gone.
    #[error("{0}")]
    Acknowledged(String),
    /// The path is not one beneath the work folder.
    #[error("{0}")]
    BadPath(String),
    /// The bytes are no archive, or one that would write outside its folder.
    #[error("{0}")]
    BadArchive(String),
    /// The buildlet could not fetch the archive now.
    #[error("{0}")]
    FetchFailed(String),
    /// The server refused the archive to the buildlet.
    #[error("{0}")]
    FetchRefused(String),
    /// The bytes are others than those wanted.
    #[error("{0}")]
    WrongDigest(String),
    /// The buildlet answered what it never should.
    #[error("the buildlet answered nonsense: {0}")]
    Malformed(String),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// The code, as gRPC names it.
        code: String,
        /// The reason, if it gave one.
        reason: String,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// True if the same call may succeed later, perhaps on another connection.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut(_) | Self::FetchFailed(_))
    }

    /// True if the connection is at fault rather than the call: the exec, if any, may well be running.
    pub fn is_connection_loss(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut(_))
    }

    /// True if the machine is somebody else's now, or nobody's.
    pub fn is_stale_lease(&self) -> bool {
        matches!(self, Self::StaleLease(_))
    }

    /// True if the buildlet has no such exec.
    pub fn is_unknown_exec(&self) -> bool {
        matches!(self, Self::UnknownExec(_))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        let reason = rpc::reason(&status).unwrap_or_default();
        match (reason.as_str(), status.code()) {
            ("STALE_LEASE", _) => Self::StaleLease(message),
            ("TAKES_NO_LEASE", _) => Self::TakesNoLease(message),
            ("NOT_CLEAN", _) => Self::NotClean(message),
            ("UNKNOWN_EXEC", _) => Self::UnknownExec(message),
            ("OUTPUT_ACKNOWLEDGED", _) => Self::Acknowledged(message),
            ("BAD_PATH", _) => Self::BadPath(message),
            ("BAD_ARCHIVE", _) => Self::BadArchive(message),
            ("FETCH_FAILED", _) => Self::FetchFailed(message),
            ("FETCH_REFUSED", _) => Self::FetchRefused(message),
            ("WRONG_DIGEST", _) => Self::WrongDigest(message),
            (_, Code::Unavailable) => Self::Unavailable(message),
            (_, Code::DeadlineExceeded) => Self::TimedOut(message),
            (_, code) => Self::Other { code: format!("{code:?}"), reason, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_error() {
        let error = |code, reason| Error::from(rpc::status(code, reason, "x"));
        assert!(error(Code::FailedPrecondition, "STALE_LEASE").is_stale_lease());
        assert!(error(Code::NotFound, "UNKNOWN_EXEC").is_unknown_exec());
        assert!(error(Code::Unavailable, "FETCH_FAILED").is_transient());
        assert!(!error(Code::Unavailable, "FETCH_FAILED").is_connection_loss());
        assert!(Error::from(Status::unavailable("gone")).is_connection_loss());
        assert!(!error(Code::FailedPrecondition, "FETCH_REFUSED").is_transient());
        assert!(matches!(error(Code::Internal, "DISK"), Error::Other { .. }));
    }
}
