//! Why something about a session cannot be done.

use types::{AttemptId, BuildNumber, BuilderName, HostType, MachineName, ParseNameError, SessionName};

use super::Owner;
use crate::{records::load::LoadError, shell::Stopped, view::ViewError};

/// Why something about a session cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// There was none of that name.
    #[error("there is no session `{0}`: `farmer gomote list` shows those that there are")]
    Unknown(SessionName),
    /// It is over.
    #[error("session `{0}` has ended: {1}")]
    Ended(SessionName, String),
    /// It has no machine yet.
    #[error("session `{0}` has no machine yet: wait for it with `farmer gomote ping --wait {0}`")]
    NotReady(SessionName),
    /// Its machine is not connected.
    #[error(
        "machine `{1}` of session `{0}` is not connected: it comes back, or the session ends in a few seconds"
    )]
    Away(SessionName, MachineName),
    /// One person has enough.
    #[error("`{0}` has as many sessions as one person may: end one with `farmer gomote destroy`")]
    TooMany(Owner),
    /// Its machines run only what was reviewed.
    #[error("machines of `{0}` are lent by volunteers and run only what was reviewed: choose another")]
    Community(HostType),
    /// No repository has such a builder.
    #[error("there is no builder `{0}`; {1}")]
    UnknownBuilder(BuilderName, String),
    /// The farm has no such kind of machine.
    #[error("there is no host type `{0}`; {1}")]
    UnknownHost(HostType, String),
    /// There is no such build.
    #[error("there is no build {0}")]
    UnknownBuild(BuildNumber),
    /// The build has no such attempt, or none at all.
    #[error("build {} has no attempt {}", .0.build, .0.attempt)]
    UnknownAttempt(AttemptId),
    /// The attempt has no such shard.
    #[error("attempt {0} has no shard {1}")]
    UnknownShard(AttemptId, u32),
    /// The request is wrong.
    #[error("{0}")]
    Bad(String),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// The machine could not do it.
    #[error(transparent)]
    Machine(#[from] buildlet_client::Error),
    /// The builds cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The rows cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
