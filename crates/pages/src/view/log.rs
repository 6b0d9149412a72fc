//! A log: never whole, always a window.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, RepositoryName};

use super::{CommitRef, State};

/// What is known of a log without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInfo {
    /// The build.
    pub build: BuildNumber,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub attempts: u32,
    /// The builder.
    pub builder: BuilderName,
    /// The repository.
    pub repository: RepositoryName,
    /// What is built.
    pub commit: CommitRef,
    /// How the attempt stands.
    pub state: State,
    /// How many bytes there are now.
    pub bytes: u64,
    /// How many lines there are now; an unended last line counts.
    pub lines: u64,
    /// True once nothing will be added.
    pub finished: bool,
    /// The parts of the merged log, in its order.
    pub sections: Vec<LogSection>,
    /// The line to open at when it failed, from 1.
    pub failure_line: Option<u64>,
}

/// A part of a log: the output of one exec, of a step or a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSection {
    /// For example `make` or `shard 3`.
    pub name: String,
    /// Its first line, from 1.
    pub first_line: u64,
    /// How many lines it has now.
    pub lines: u64,
    /// How it stands.
    pub state: State,
    /// How long it took.
    pub duration_ms: Option<u64>,
}

/// The beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// The line's number, from 1.
    pub line: u64,
    /// The first byte of the line in the merged log.
    pub byte: u64,
}
