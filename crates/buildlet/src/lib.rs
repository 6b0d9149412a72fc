#![doc = include_str!("../README.md")]

mod args;
#[cfg_attr(not(target_os = "linux"), path = "no_cgroup.rs")]
mod cgroup;
mod command;
mod config;
mod doctor;
mod enroll;
mod environment;
mod exec;
mod fetch;
mod folder;
#[cfg(test)]
mod fuzz;
mod golang;
mod grpc;
mod input;
mod journal;
mod keeper;
mod keys;
mod lease;
mod machine;
#[cfg(any(windows, test))]
mod names;
mod orphan;
mod platform;
mod renewal;
mod reverse;
mod server;
mod spool;
mod stage0;
mod tree;

pub use args::{Args, run};
pub use command::{Command, command_line, run_command};
pub use config::{Config, Contact, Isolation, Reuse, Tier};
pub use keys::{Credentials, Keys};
pub use server::Server;

/// What decides in a buildlet, for the simulator's machines.
#[doc(hidden)]
pub mod testing {
    pub use crate::{
        exec::{End, How},
        journal::{Entry, Past, PastExec},
        keeper::StopReason,
        lease::{Admission, Fencing, Lease, Purpose, Refusal},
    };
}

/// The buildlet's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
