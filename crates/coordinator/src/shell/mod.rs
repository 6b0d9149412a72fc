//! The shell around the core: one task owns the state, makes rows durable, then performs what the core wants.

mod actor;
mod adapters;
mod command;
mod hub;
mod machines;
mod outbox;
mod perform;
mod runner;
mod session;
mod snapshots;

pub(crate) use actor::{Actor, Ground, Handle, Inbox, Stopped};
pub(crate) use adapters::FarmLogs;
pub(crate) use hub::{Change, Hub};
pub(crate) use machines::Machines;
pub(crate) use outbox::Outbox;
pub use perform::Tuning;
pub(crate) use perform::{Performer, Worker};
pub(crate) use snapshots::blob as snapshot_blob;
