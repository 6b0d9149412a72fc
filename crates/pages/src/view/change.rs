//! A change under review and what was tried of it.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, CommitHash, RepositoryName, Timestamp};

use super::{State, Waiting};

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its number at its review host.
    pub number: u32,
    /// Where it is reviewed; empty if the repository is not tried any more.
    pub review: String,
    /// What was tried of it, the newest first. May be cut; never empty.
    pub tries: Vec<TryView>,
}

/// What was tried of one patch set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TryView {
    /// The patch set.
    pub patch_set: u32,
    /// Its commit.
    pub commit: CommitHash,
    /// The first line of its message; empty if nothing was built.
    pub subject: String,
    /// What it was made on; absent if it has no parent.
    pub base: Option<CommitHash>,
    /// How it stands.
    pub state: TryState,
    /// Since when it was tried.
    pub begun: Timestamp,
    /// Until when.
    pub ended: Option<Timestamp>,
    /// The builders, in order.
    pub builds: Vec<TriedBuild>,
    /// What could not be done as it was asked.
    pub notes: Vec<String>,
    /// What was said to reviewers, or is to be.
    pub words: Vec<WordView>,
}

/// How a try stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TryState {
    /// It goes on.
    Running,
    /// Everything passed.
    Passed,
    /// Something failed.
    Failed,
    /// Nothing failed, and not everything was built to its end.
    Unfinished,
    /// The change no longer asked for it.
    Superseded,
}

/// A builder of a try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriedBuild {
    /// The build.
    pub number: BuildNumber,
    /// The builder.
    pub builder: BuilderName,
    /// How it stands.
    pub state: State,
    /// How much is done, while it runs.
    pub percent: Option<u8>,
    /// What decided; may be empty.
    pub reason: String,
    /// What it waits for, if it does.
    pub waiting: Option<Waiting>,
    /// How the builder ended at what the patch set was made on; absent if nobody knows.
    pub at_base: Option<State>,
}

/// Something said to reviewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordView {
    /// `begun`, `failing` or `ended`.
    pub word: String,
    /// When it was said, or was seen not to be needed; absent while it waits.
    pub said: Option<Timestamp>,
    /// What became of it.
    pub note: String,
}

impl TryState {
    /// As a build's state, for the glyph.
    pub const fn state(self) -> State {
        match self {
            Self::Running => State::Running,
            Self::Passed => State::Passed,
            Self::Failed => State::Failed,
            Self::Unfinished => State::Infrastructure,
            Self::Superseded => State::Cancelled,
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "is being tried",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unfinished => "was not built to its end",
            Self::Superseded => "was called off",
        }
    }
}

impl TryView {
    /// How it stands, in a sentence: whether the change may be submitted, as far as the farm knows.
    pub fn verdict(&self) -> String {
        let all = self.builds.len();
        let builders = |count: usize| format!("{count} builder{}", if count == 1 { "" } else { "s" });
        let red = self.builds.iter().filter(|build| build.state.is_red());
        let (failed, too) = (red.clone().count(), red.filter(|build| build.fails_at_base()).count());
        let at_base = match (failed, too) {
            (_, 0) => "",
            (failed, too) if failed == too => ", as at its base",
            _ => ", some as at its base",
        };
        let what = match self.state {
            TryState::Passed => format!("passed on {}", builders(all)),
            TryState::Failed => format!("failed on {failed} of {}{at_base}", builders(all)),
            TryState::Unfinished if all == 0 => "was not tried: no builder is there for it".to_owned(),
            TryState::Unfinished => "was not built to its end: this says nothing about it".to_owned(),
            TryState::Superseded => "was called off".to_owned(),
            TryState::Running => {
                let left = self.builds.iter().filter(|build| build.state.is_active()).count();
                let so_far = if failed > 0 { format!(", {failed} failed{at_base}") } else { String::new() };
                format!("is being tried: {left} of {} to go{so_far}", builders(all))
            }
        };
        format!("Patch set {} {what}", self.patch_set)
    }
}

impl TriedBuild {
    /// Whether its builder failed before the change already.
    pub fn fails_at_base(&self) -> bool {
        self.at_base.is_some_and(State::is_red)
    }
}
