//! What there is to build with.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, HostType, RepositoryName, Timestamp};

use super::{Reuse, State};

/// Builders above hosts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BuildersView {
    /// Builders, by name.
    pub builders: Vec<BuilderView>,
    /// Hosts, by name.
    pub hosts: Vec<HostView>,
}

/// A builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuilderView {
    /// Its name.
    pub name: BuilderName,
    /// What it builds.
    pub repository: RepositoryName,
    /// The kind of machine it runs on.
    pub host: HostType,
    /// The machines that it asks for beside the main one.
    pub helpers: u32,
    /// Who looks after it.
    pub owners: Vec<String>,
    /// Issues that explain known failures.
    pub known_issues: Vec<String>,
    /// Its newest build that ended.
    pub last: Option<LastBuild>,
}

/// A build, in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBuild {
    /// The build.
    pub number: BuildNumber,
    /// How it ended.
    pub state: State,
    /// When.
    pub ended: Timestamp,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its name.
    pub name: HostType,
    /// Where its machines come from, for example `reverse`.
    pub pool: String,
    /// How far it is trusted, for example `full` or `community`.
    pub tier: String,
    /// How its machines are kept clean.
    pub reuse: Reuse,
    /// How many machines there should be; 0 if nobody says.
    pub expected: u64,
    /// How many are connected.
    pub connected: u64,
    /// How much waits for one.
    #[serde(default)]
    pub waiting: u64,
    /// Who looks after them.
    pub owners: Vec<String>,
    /// What they have, for example `linux`.
    pub tags: Vec<String>,
    /// What is wrong and what to do; may be empty.
    pub problem: String,
}
