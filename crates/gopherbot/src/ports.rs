//! What the bot needs from the world.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use types::CommitHash;

/// A commit at a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The repository's owner.
    pub owner: String,
    /// The repository's name.
    pub repository: String,
    /// The commit.
    pub commit: CommitHash,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.owner, self.repository, self.commit.short())
    }
}

/// Where people are spoken to.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Whether some comment on the commit contains the text. Looks at all of them, and may be repeated.
    async fn has_comment(&self, target: &Target, text: &str) -> Result<bool, HostError>;

    /// Comments on a commit. A second call comments twice; after an error the comment may be there all the same, so
    /// ask [`Host::has_comment`] before trying again.
    async fn comment(&self, target: &Target, body: &str) -> Result<(), HostError>;

    /// Whether nobody hears what is said here.
    fn is_rehearsal(&self) -> bool;
}

/// What a host says instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The commit or its repository is not there, or not for us. It will not come back.
    #[error("`{0}` is gone")]
    Gone(String),
    /// The host will not take it, now or later.
    #[error("the host refuses: {0}")]
    Refused(String),
    /// Too much was asked; nothing was done.
    #[error("the host asks to wait {} s", after.as_secs())]
    Limited {
        /// How long to wait.
        after: Duration,
    },
    /// The host does not know us, or not for this. Nothing was done; somebody must give us another token.
    #[error("the host does not accept the token: {0}")]
    Unauthorized(String),
    /// The host cannot be reached or failed. What was asked may have been done.
    #[error("the host failed: {0}")]
    Failed(String),
}

impl HostError {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Unauthorized(_) | Self::Failed(_))
    }
}
