#![doc = include_str!("../README.md")]

mod args;
mod config;
mod environment;
mod exec;
mod fetch;
mod folder;
mod grpc;
mod journal;
mod keeper;
mod lease;
mod machine;
mod orphan;
mod reverse;
mod server;
mod spool;
mod status;
mod tree;

pub use args::{Args, run};
pub use config::{Config, Contact, Reuse};
pub use server::Server;

/// The buildlet's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
