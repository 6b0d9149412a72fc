//! The farm: what there is, what it does, what is waited for, what is wrong.

use serde::{Deserialize, Serialize};
use types::{
    BuildNumber, BuilderName, CommitHash, Fence, HostType, LeaseId, MachineName, Phase, RepositoryName,
    Timestamp,
};

use super::{Reuse, SessionView, State, Waiting};

/// The raw truth that operators quote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FarmView {
    /// `production`, `staging` or `local`.
    pub environment: String,
    /// The version of the farm.
    pub version: String,
    /// When the coordinator started.
    pub started: Timestamp,
    /// Builds that have ended since the farm was made.
    pub builds_ended: u64,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// Machines, by name.
    pub machines: Vec<MachineView>,
    /// What waits, in the order in which it will be served. May be cut.
    pub queue: Vec<QueueItem>,
    /// How much waits.
    pub queue_length: u64,
    /// Leases, oldest first.
    pub leases: Vec<LeaseView>,
    /// Debugging sessions, by name; then those that ended lately.
    #[serde(default)]
    pub sessions: Vec<SessionView>,
    /// Builds that ended lately, newest first.
    pub recent: Vec<RecentBuild>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Pools, by name.
    pub pools: Vec<PoolView>,
    /// How long each phase takes lately, in order.
    pub phases: Vec<PhaseStat>,
    /// The farm's own services, by name.
    pub services: Vec<ServiceHealth>,
    /// Repositories, by name.
    pub repositories: Vec<RepositoryStatus>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody must act.
    Error,
    /// The farm carries on, with less.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub text: String,
    /// What to do about it; may be empty.
    pub next_step: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What a machine is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Free.
    Idle,
    /// Held by a lease.
    Leased,
    /// Proving that it is clean.
    Cleaning,
    /// Not fit for work.
    Broken,
    /// Finishing, then gone.
    Draining,
    /// In quarantine: it takes no work until a person says so.
    Quarantined,
    /// Not heard of.
    Lost,
}

impl MachineState {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Leased => "leased",
            Self::Cleaning => "cleaning",
            Self::Broken => "broken",
            Self::Draining => "draining",
            Self::Quarantined => "in quarantine",
            Self::Lost => "lost",
        }
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineView {
    /// Its name.
    pub name: MachineName,
    /// The kinds of machine it can be.
    pub host_types: Vec<HostType>,
    /// Its pool, for example `reverse`.
    pub pool: String,
    /// What it is at.
    pub state: MachineState,
    /// Since when.
    pub since: Timestamp,
    /// What it works on, for example `48213.1.7`; empty when it does not.
    pub works_on: String,
    /// The build it works on.
    pub build: Option<BuildNumber>,
    /// As `buildlet --version` prints it.
    pub version: String,
    /// For example `linux/amd64`.
    pub platform: String,
    /// When it was last heard of.
    pub seen: Timestamp,
    /// Since when it is connected, if it is.
    #[serde(default)]
    pub connected: Option<Timestamp>,
    /// How it is kept clean.
    pub reuse: Reuse,
    /// What is wrong with it; empty when nothing is.
    pub problem: String,
    /// How to mend it; may be empty.
    pub next_step: String,
}

/// Something that waits for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueItem {
    /// The build.
    pub build: BuildNumber,
    /// What of it waits, for example `48213.1.7`.
    pub work: String,
    /// The builder.
    pub builder: BuilderName,
    /// The commit.
    pub commit: CommitHash,
    /// The first line of its message.
    pub subject: String,
    /// `release`, `interactive`, `try` or `batch`.
    pub class: String,
    /// Why.
    pub waiting: Waiting,
}

/// The right of one piece of work to use one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Its fencing token.
    pub fence: Fence,
    /// The machine.
    pub machine: MachineName,
    /// What for, for example `48213.1.7`.
    pub works_on: String,
    /// The build.
    pub build: Option<BuildNumber>,
    /// Its builder.
    #[serde(default)]
    pub builder: Option<BuilderName>,
    /// Its commit.
    #[serde(default)]
    pub commit: Option<CommitHash>,
    /// It is a try: of no commit that was submitted.
    #[serde(default)]
    pub is_try: bool,
    /// Since when.
    pub since: Timestamp,
    /// When it ends unless renewed.
    pub expires: Option<Timestamp>,
}

/// A build that ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentBuild {
    /// The build.
    pub number: BuildNumber,
    /// The builder.
    pub builder: BuilderName,
    /// The commit.
    pub commit: CommitHash,
    /// The first line of its message.
    pub subject: String,
    /// How it stands.
    pub state: State,
    /// What decided it; may be empty.
    pub reason: String,
    /// When it ended.
    pub ended: Timestamp,
    /// How long it ran.
    pub duration_ms: u64,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The file; absent if the farm runs on defaults.
    pub path: Option<String>,
    /// When what is in force was read.
    pub loaded: Timestamp,
    /// What is wrong with a later edit, one error each with file, line and column: the older one is in force.
    pub errors: Vec<String>,
    /// When that edit was seen.
    pub refused: Option<Timestamp>,
}

/// A pool of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name, for example `reverse`.
    pub name: String,
    /// What it is, in a few words.
    pub kind: String,
    /// How far it is trusted, for example `full` or `community`.
    pub tier: String,
    /// How many machines there should be; 0 if nobody says.
    pub expected: u64,
    /// How many are connected.
    pub connected: u64,
    /// How many of those work.
    pub busy: u64,
    /// How much waits for it.
    pub waiting: u64,
    /// What is wrong; empty when nothing is.
    pub problem: String,
}

/// How long a phase takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStat {
    /// The phase.
    pub phase: Phase,
    /// How many were measured.
    pub count: u64,
    /// Half took no longer.
    pub median_ms: u64,
    /// 95 of 100 took no longer.
    pub p95_ms: u64,
}

/// One of the farm's own services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// Its name.
    pub name: String,
    /// True if it answers.
    pub up: bool,
    /// In words: how far behind, why not; may be empty.
    pub detail: String,
}

/// A repository and how current the farm's copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Its name here.
    pub name: RepositoryName,
    /// Where it is.
    pub origin: String,
    /// When the farm last knew to be up to date.
    pub fetched: Option<Timestamp>,
    /// Where its build file comes from, for example `farmer.toml` or `a proposal for Cargo`.
    pub build_file: String,
    /// What is wrong; empty when nothing is.
    pub problem: String,
}
