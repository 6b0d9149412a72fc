//! What a keeper is asked and what it tells, whatever stands behind it.

use std::{fs::File, io, time::Duration};

use serde::{Deserialize, Serialize};

use crate::platform::Handle;

/// How long a command has between SIGTERM and SIGKILL when it runs out of time, output or disk.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The keeper cannot be used; without it no exec can be started or ended.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "a keeper inside the buildlet cannot be lost")
)]
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// It could not be started.
    #[error("cannot start the keeper")]
    Start(#[source] io::Error),
    /// It does not answer.
    #[error("the keeper cannot be reached")]
    Lost(#[source] io::Error),
    /// It could not start a warden.
    #[error("the keeper could not start a warden")]
    NoWarden(#[source] io::Error),
    /// It could not show commands the new work folder.
    #[error("the keeper cannot use the new work folder: {0}")]
    Follow(String),
}

/// What comes with an exec.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there are terminals and control groups on Linux only")
)]
#[derive(Debug)]
pub(crate) struct Start {
    /// Where output goes.
    pub(crate) spool: File,
    /// Standard input, if there is any: the inner side of the terminal, if that is what it is.
    pub(crate) stdin: Option<Handle>,
    /// The other side of the terminal.
    pub(crate) terminal: Option<Handle>,
    /// The lists of control groups to join, unless that was done ahead.
    pub(crate) groups: Vec<Handle>,
}

/// What the keeper found that no warden looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Processes that were ended.
    pub(crate) strays: u32,
    /// Processes that could not be ended.
    pub(crate) remaining: u32,
}

/// A command, as the warden starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// What a program name with a separator is relative to, as the command sees it.
    pub(crate) work_folder: String,
    /// The working folder, relative to that.
    pub(crate) folder: String,
    /// Standard input comes with the request to start; else there is none.
    pub(crate) stdin: bool,
    /// Standard input is a terminal, whose other side comes too, and output goes there.
    pub(crate) terminal: bool,
    /// The command sees only what the keeper's seal shows.
    pub(crate) sealed: bool,
    /// The command gets namespaces of its own.
    pub(crate) apart: Option<Apart>,
    /// How long it may run.
    pub(crate) timeout_ms: u64,
    /// How many bytes it may write.
    pub(crate) max_output_bytes: u64,
}

/// What a command with namespaces of its own shares with the machine nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Apart {
    /// The network.
    pub(crate) network: bool,
}

/// Why an exec is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// Somebody called it off.
    Cancelled,
    /// It ran longer than it may.
    TimedOut,
    /// It wrote more than it may.
    TooMuchOutput,
    /// The coordinator was not heard from for too long.
    Abandoned,
    /// The disk is nearly full.
    DiskFull,
    /// It needs more memory than it may have.
    OutOfMemory,
    /// It starts more processes than it may.
    TooManyProcesses,
    /// The work folder holds more than it may.
    WorkFolderFull,
    /// The buildlet or its warden died.
    BuildletDied,
}

/// From the buildlet to a warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToWarden {
    /// Comes once, first.
    Start(Command),
    /// End it: SIGTERM, then SIGKILL after a grace; at once if that is zero.
    Stop { reason: StopReason, grace_ms: u64 },
    /// Send the command a signal.
    Signal { number: i32 },
}

/// From a warden to the buildlet. Bytes are those in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromWarden {
    /// The command runs.
    Started { pid: u32 },
    /// It could not be started. Nothing follows.
    NotStarted { reason: String },
    /// The spool holds so many bytes.
    Output { bytes: u64 },
    /// It has ended and so has all that it started. Nothing follows.
    Ended(Ended),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Its exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// Why we ended it, if we did.
    pub(crate) stopped: Option<StopReason>,
    /// All bytes it wrote.
    pub(crate) bytes: u64,
    /// How long it ran.
    pub(crate) elapsed_us: u64,
    /// Processes that it left behind and that were ended.
    pub(crate) leftovers: u32,
    /// Processes that could not be ended: they hang in the kernel.
    pub(crate) remaining: u32,
}

/// What commands see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// The work folder's path as they see it.
    pub(crate) work_folder: String,
    /// Why nothing is hidden from them; none if it is.
    pub(crate) open: Option<String>,
    /// Another folder may take the place of the work folder, if the keeper is asked to follow.
    pub(crate) follows: bool,
}

/// What a tree of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: u32,
    pub(crate) memory_bytes: u64,
}
