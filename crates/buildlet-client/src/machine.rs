//! What a machine says of itself, and who may use it.

use types::{Fence, HostType, LeaseId, MachineName, Timestamp};

use crate::ExecStatus;

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
    /// How execs are kept apart from the machine: none or namespaces.
    pub isolation: String,
    /// Why execs could read the machine's key; empty when they cannot.
    pub key_exposed: String,
    /// What keeps execs within their limits: cgroup v2, cgroup v1 or sampling.
    pub limits: String,
    /// What the machine's clock shows; none if it does not say.
    pub clock: Option<Timestamp>,
}

/// What ends when a machine is told to halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Halt {
    /// The buildlet.
    Exit,
    /// The machine, which comes back.
    Reboot,
    /// The machine, which does not.
    PowerOff,
}
