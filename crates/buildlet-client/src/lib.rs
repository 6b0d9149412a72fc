#![doc = include_str!("../README.md")]

mod client;
mod convert;
mod error;
mod exec;
mod machine;
mod port;
mod tree;

pub use client::BuildletClient;
pub use error::Error;
pub use exec::{EndedByUs, ExecEnd, ExecEvent, ExecEvents, ExecSpec, ExecStatus, How, Terminal};
pub use machine::{Halt, Lease, Status};
pub use port::PortBytes;
pub use tree::{ArchiveFormat, Changes, Fetched, TreeChunks, TreeEntry, TreeEntryKind, changes};
