//! One build.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, HostType, MachineName, Phase, RepositoryName, Timestamp};

use super::{CommitRef, Reuse, State, Waiting};

/// One attempt of a build, and what is known beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildView {
    /// The build.
    pub number: BuildNumber,
    /// The attempt that steps, shards and failures are of, from 1; 0 before the first began.
    pub attempt: u32,
    /// All attempts, oldest first.
    pub attempts: Vec<AttemptLine>,
    /// The builder.
    pub builder: BuilderName,
    /// The kind of machine it asks for.
    pub host: HostType,
    /// The root repository.
    pub repository: RepositoryName,
    /// The branch that it was found on; absent for a try.
    pub branch: Option<String>,
    /// True for a try of something not submitted.
    pub is_try: bool,
    /// What is built.
    pub commit: CommitRef,
    /// How the attempt stands.
    pub state: State,
    /// How much is done, 0 to 100, while it runs.
    pub percent: Option<u8>,
    /// What it does now; absent once it has ended.
    pub phase: Option<Phase>,
    /// What decided the outcome, in one line; empty when it passed.
    pub reason: String,
    /// Whose fault it seems to be, in a sentence, if anybody can tell.
    pub likely_cause: Option<String>,
    /// How many tests; absent before they are listed.
    pub tests: Option<TestCount>,
    /// When the build was accepted.
    pub created: Timestamp,
    /// When the attempt began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it waits for.
    pub waiting: Option<Waiting>,
    /// What failed, the most telling first.
    pub failures: Vec<Failure>,
    /// What was done, where and when, in order.
    pub steps: Vec<StepView>,
    /// The shards, by number.
    pub shards: Vec<ShardView>,
    /// What became of the snapshot of the made tree.
    pub snapshot: Option<Snapshot>,
    /// How the machines of this host are kept clean.
    pub reuse: Reuse,
    /// The machines it used.
    pub machines: Vec<MachineUse>,
    /// How large the log is.
    pub log: LogSummary,
    /// The same commit on other builders.
    pub elsewhere: Vec<Elsewhere>,
    /// The build of this builder at the commit before.
    pub previous: Option<BuildNumber>,
    /// The build of this builder at the commit after.
    pub next: Option<BuildNumber>,
    /// What happened to it that people should know, oldest first: who called it off, which machine was lost.
    pub notes: Vec<String>,
    /// True if [`crate::Source::cancel`] would do something.
    pub can_cancel: bool,
}

/// How many tests there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCount {
    /// All.
    pub total: u64,
    /// Those that failed.
    pub failed: u64,
}

/// An attempt, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLine {
    /// From 1.
    pub number: u32,
    /// How it stands.
    pub state: State,
    /// In one line.
    pub reason: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A step such as `make`, or a test, or `shard 3`.
    pub name: String,
    /// The test, if it is of one alone: its history is at `/test/NAME`.
    #[serde(default)]
    pub test: Option<String>,
    /// `Failed`, `TimedOut`, `Infrastructure` or `Flaky`.
    pub state: State,
    /// The shard, if it is of one.
    pub shard: Option<u32>,
    /// Where it ran.
    pub machine: Option<MachineName>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// More in words; may be empty.
    pub detail: String,
    /// True if it is the first failure of its kind here, false if not, absent if nobody knows.
    pub is_new: Option<bool>,
    /// The issue that explains it.
    pub known: Option<KnownIssue>,
    /// The telling lines of its log, in order, at most 40. Numbers may leap: the page shows where.
    pub lines: Vec<LogLine>,
}

impl Failure {
    /// The line of the log to look at.
    pub fn telling_line(&self) -> Option<u64> {
        self.lines.iter().find(|line| line.hit).or(self.lines.first()).map(|line| line.number)
    }
}

/// An issue that explains a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownIssue {
    /// For example `issue 51122`.
    pub text: String,
    /// Where it is; a link only if it begins with `https://` or `http://`.
    pub url: String,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number in the merged log, from 1.
    pub number: u64,
    /// Its text without the line feed.
    pub text: String,
    /// True if it says what went wrong.
    pub hit: bool,
}

/// Something done on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// What.
    pub phase: Phase,
    /// Where; absent while no machine has it.
    pub machine: Option<MachineName>,
    /// Which shard.
    pub shard: Option<u32>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it stands.
    pub state: State,
    /// In words: an error, a size, a count. May be empty.
    pub detail: String,
}

/// Some of the tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardView {
    /// From 1.
    pub number: u32,
    /// How it stands.
    pub state: State,
    /// The first tests of it.
    pub tests: Vec<String>,
    /// How many tests it has.
    pub test_count: u64,
    /// Where it runs or ran last.
    pub machine: Option<MachineName>,
    /// How often it was begun.
    pub tries: u32,
    /// When it began last.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it waits or had to be repeated; may be empty.
    pub note: String,
    /// The line of the merged log where its output begins.
    pub line: Option<u64>,
}

/// What became of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Made, reused or neither.
    pub r#use: SnapshotUse,
    /// How large it is.
    pub bytes: Option<u64>,
    /// The build that made it, when reused.
    pub from: Option<BuildNumber>,
    /// Why there is none, or more; may be empty.
    pub detail: String,
}

/// Where a snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotUse {
    /// This build made it.
    Made,
    /// Another build made it.
    Reused,
    /// There is none.
    None,
}

/// A machine of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineUse {
    /// The machine.
    pub name: MachineName,
    /// True for the one that makes, false for a helper.
    pub main: bool,
    /// For example `lost: no heartbeat for 3 s`; may be empty.
    pub note: String,
}

/// How large a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogSummary {
    /// Bytes.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// True once nothing will be added.
    pub finished: bool,
}

/// The same commit on another builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The builder.
    pub builder: BuilderName,
    /// Its build.
    pub build: Option<BuildNumber>,
    /// How it stands.
    pub state: State,
}
