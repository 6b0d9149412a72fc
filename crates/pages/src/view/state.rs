//! Words that several views share.

use serde::{Deserialize, Serialize};
use types::{CommitHash, Outcome, Timestamp};

/// How a build, a shard or a cell of the grid stands. Shown as a glyph and a colour and a word, always all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    Passed,
    /// A command failed.
    Failed,
    /// A command ran longer than it may.
    TimedOut,
    /// The farm could not do the work.
    Infrastructure,
    /// It passed, but not at once.
    Flaky,
    /// It will run; a [`Waiting`] says what it waits for.
    Waiting,
    /// It runs.
    Running,
    /// Policy says not to.
    Skipped,
    /// Called off.
    Cancelled,
    /// Nobody asked for it.
    NotBuilt,
}

impl State {
    /// All of them, in the order of the legend.
    pub const ALL: &[Self] = &[
        Self::Passed,
        Self::Failed,
        Self::TimedOut,
        Self::Infrastructure,
        Self::Flaky,
        Self::Running,
        Self::Waiting,
        Self::Skipped,
        Self::Cancelled,
        Self::NotBuilt,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Infrastructure => "infrastructure fault",
            Self::Flaky => "passed, flaky",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Skipped => "skipped by policy",
            Self::Cancelled => "cancelled",
            Self::NotBuilt => "not built",
        }
    }

    /// The one character for it.
    pub const fn glyph(self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed => "✕",
            Self::TimedOut => "◔",
            Self::Infrastructure => "!",
            Self::Flaky => "≈",
            Self::Waiting => "○",
            Self::Running => "▸",
            Self::Skipped => "»",
            Self::Cancelled => "⊘",
            Self::NotBuilt => "–",
        }
    }

    /// True if the commit is to blame as far as anybody knows.
    pub const fn is_red(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }

    /// True if it ended with something to say about the commit.
    pub const fn is_verdict(self) -> bool {
        matches!(self, Self::Passed | Self::Flaky | Self::Failed | Self::TimedOut)
    }

    /// True while it may still change by itself.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

impl From<Outcome> for State {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed => Self::Failed,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Infrastructure => Self::Infrastructure,
            Outcome::Skipped => Self::Skipped,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// A commit as people recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRef {
    /// Its hash.
    pub hash: CommitHash,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
}

/// Why something waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// `NO_MACHINE`, `ALL_BUSY`, `BEHIND_OTHERS`, `BACKING_OFF`, `PAUSED`, `SHARDS_RUNNING`, …
    pub code: String,
    /// The same in words, with names and numbers.
    pub text: String,
    /// What would end the wait, in words; may be empty.
    pub unblock: String,
    /// Since when.
    pub since: Timestamp,
    /// Its place in the queue, from 1.
    pub position: Option<u64>,
    /// How much longer, if anybody can tell.
    pub eta_ms: Option<u64>,
}

/// How the machine is kept clean between builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// Made for one build, destroyed after it.
    Never,
    /// Proven clean before the next build.
    Wiped,
    /// Not cleaned.
    Shared,
}

impl Reuse {
    /// The word for it, as in `farm.toml`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Wiped => "wiped",
            Self::Shared => "shared",
        }
    }

    /// What it means for a build, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Never => "a fresh machine for each build",
            Self::Wiped => "wiped and proven clean between builds",
            Self::Shared => "shared: nothing is cleaned between builds",
        }
    }
}

/// Data that is older than it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// When the data was last known to be right.
    pub since: Timestamp,
    /// What is in the way, in words.
    pub why: String,
}
