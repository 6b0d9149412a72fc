#![doc = include_str!("../README.md")]

mod client;
mod convert;
mod error;
mod exec;
mod tree;

pub use client::BuildletClient;
pub use error::Error;
pub use exec::{EndedByUs, ExecEnd, ExecEvent, ExecEvents, ExecSpec, ExecStatus, How};
pub use tree::{ArchiveFormat, Fetched, TreeChunks};

use std::time::Duration;

use types::{Fence, HostType, LeaseId, MachineName, Timestamp};

/// The right to use a machine, as each call that changes something names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Its fencing token.
    pub fence: Fence,
}

/// What a machine is and what runs on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The machine's name, stable over restarts.
    pub machine: MachineName,
    /// Host types that it serves.
    pub host_types: Vec<HostType>,
    /// The buildlet's version.
    pub version: String,
    /// As Go names it, for example `linux/amd64`.
    pub platform: String,
    /// The work folder's absolute path.
    pub work_folder: String,
    /// The lease that holds the machine; none when idle.
    pub lease: Option<Lease>,
    /// Execs of that lease, oldest first.
    pub execs: Vec<ExecStatus>,
    /// How the machine is kept clean: never, wiped or shared.
    pub reuse: String,
    /// Free bytes where the work folder is.
    pub free_disk_bytes: u64,
    /// The load average over one minute.
    pub load: f64,
    /// The process id of the buildlet.
    pub pid: u32,
    /// Logical processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// When the buildlet started.
    pub started: Timestamp,
    /// True when it takes no further lease.
    pub draining: bool,
    /// Why it takes no lease though it is not draining; empty when it does.
    pub broken: String,
}

/// How long the ending of an exec may take: the grace, the kill and what the network adds.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a large tree may take to be fetched, written or wiped.
const TREE_TIMEOUT: Duration = Duration::from_mins(10);
