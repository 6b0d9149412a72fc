//! Debugging sessions: people who hold a machine for themselves.

use serde::{Deserialize, Serialize};
use types::{BuilderName, HostType, MachineName, SessionName, Timestamp};

use super::Waiting;

/// What a session is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It waits for a machine.
    Waiting,
    /// Its machine is made ready.
    Preparing,
    /// It is used.
    Ready,
    /// It is over.
    Ended,
}

impl SessionState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Ended => "ended",
        }
    }
}

/// A debugging session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// What people call it.
    pub name: SessionName,
    /// Whose it is.
    pub owner: String,
    /// Its owner's word for some that belong together; empty if it is alone.
    pub group: String,
    /// The kind of machine.
    pub host: HostType,
    /// The builder whose environment it has.
    pub builder: Option<BuilderName>,
    /// The build, attempt or shard that it repeats; empty if none.
    pub repeats: String,
    /// What it is at.
    pub state: SessionState,
    /// Its machine.
    pub machine: Option<MachineName>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ends unless it is used.
    pub expires: Timestamp,
    /// Why it waits.
    pub waiting: Option<Waiting>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended; may be empty.
    pub reason: String,
}
