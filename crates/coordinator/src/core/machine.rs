//! Machines and the leases on them. One live lease a machine; its fence is higher than that of any lease before.

use serde::{Deserialize, Serialize};
use types::{AttemptId, BuildNumber, ExecId, Fence, HostType, LeaseId, MachineName, Phase, Timestamp};

use super::{Health, SnapshotKey};

/// A machine that has been heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What it said of itself.
    pub info: MachineInfo,
    /// The connection that is open.
    pub connection: Option<Connection>,
    /// If it is away with a lease: when it is lost unless it comes back.
    pub lost_at: Timestamp,
    /// Since when it is in its state.
    pub since: Timestamp,
    /// Since when it is connected, if it is.
    pub connected: Timestamp,
    /// The lease that holds it.
    pub lease: Option<LeaseId>,
    /// The fence under which it is being cleaned.
    pub cleaning: Option<Fence>,
    /// What is wrong with it; empty when nothing is.
    pub problem: String,
    /// It takes no further lease.
    pub draining: bool,
    /// What became of its last commands.
    pub health: Health,
    /// Why it takes no work until a person says so; empty if it does.
    pub quarantine: String,
    /// It rests for a moment, until it is known whether it or a commit is to blame.
    pub suspected: bool,
}

/// One connection of a machine; a later one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineInfo {
    /// Its name.
    pub name: MachineName,
    /// What it serves, at least one.
    pub host_types: Vec<HostType>,
    /// The buildlet's version.
    pub version: String,
    /// For example `linux/amd64`.
    pub platform: String,
    /// How it is kept clean.
    pub reuse: String,
    /// Where builds work.
    pub work_folder: String,
    /// The buildlet's process.
    pub pid: u32,
}

/// The right of one attempt to use one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// Its fencing token.
    pub fence: Fence,
    /// The machine.
    pub machine: MachineName,
    /// What for.
    pub attempt: AttemptId,
    /// Main or helper.
    pub role: Role,
    /// What it does now.
    pub task: Task,
    /// Since when.
    pub task_since: Timestamp,
    /// When it was granted.
    pub granted: Timestamp,
    /// The command of make, named with the lease so that both are one write.
    pub make_exec: Option<ExecId>,
    /// The command of the only shard, likewise.
    pub test_exec: Option<ExecId>,
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes, then tests in list order.
    Main,
    /// Begins with the snapshot and takes the biggest shards.
    Helper,
}

/// What is done under a lease. Each may be repeated from the start, or re-attached to by the name of its command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Sends the source; first removes what is there if a fetch of a snapshot has failed.
    Source {
        /// Remove what is there.
        clean: bool,
    },
    /// Sends a snapshot.
    SnapshotFetch(SnapshotKey),
    /// Runs the make step.
    Make(ExecId),
    /// Stores what make left.
    SnapshotStore(SnapshotKey),
    /// Lists the tests.
    List(ExecId),
    /// Runs a shard.
    Shard(u32, ExecId),
    /// Waits for a shard to come back.
    Wait,
}

impl Machine {
    /// Whether it would take a lease if it had none.
    pub fn is_fit(&self) -> bool {
        self.connection.is_some()
            && self.problem.is_empty()
            && self.quarantine.is_empty()
            && !self.draining
            && !self.suspected
    }

    /// Whether it can take a lease.
    pub fn is_idle(&self) -> bool {
        self.is_fit() && self.lease.is_none() && self.cleaning.is_none()
    }

    /// The word for its state.
    pub fn state(&self) -> &'static str {
        if self.connection.is_none() {
            "lost"
        } else if self.lease.is_some() {
            "leased"
        } else if !self.problem.is_empty() {
            "broken"
        } else if !self.quarantine.is_empty() {
            "quarantined"
        } else if self.cleaning.is_some() {
            "cleaning"
        } else if self.draining {
            "draining"
        } else if self.suspected {
            "suspected"
        } else {
            "idle"
        }
    }
}

impl Role {
    /// The word for it, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Helper => "helper",
        }
    }
}

impl Task {
    /// The phase that it is.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Source { .. } => Phase::Source,
            Self::SnapshotFetch(_) => Phase::SnapshotFetch,
            Self::Make(_) => Phase::Make,
            Self::SnapshotStore(_) => Phase::SnapshotStore,
            Self::List(_) => Phase::List,
            Self::Shard(..) | Self::Wait => Phase::Test,
        }
    }

    /// The shard, from 1; 0 if it is none.
    pub fn shard(&self) -> u32 {
        match self {
            Self::Shard(number, _) => *number,
            _ => 0,
        }
    }

    /// Whether a machine that has forgotten everything can begin with it.
    pub fn is_first(&self) -> bool {
        matches!(self, Self::Source { .. } | Self::SnapshotFetch(_))
    }
}

impl Lease {
    /// What it works on, for example `48213.1.7`.
    pub fn works_on(&self) -> String {
        match self.task.shard() {
            0 => self.attempt.to_string(),
            shard => format!("{}.{shard}", self.attempt),
        }
    }

    /// The build.
    pub fn build(&self) -> BuildNumber {
        self.attempt.build
    }
}
