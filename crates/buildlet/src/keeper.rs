//! The keeper: starts commands and ends all that comes of them. On Linux it is a process of its own (`linux.rs` says why and
//! how); elsewhere it lives in the buildlet (`inside.rs`), and knows as much of what a command has started as the system
//! tells. What is asked of either is the same.

mod contract;
mod inside;
mod program;

#[cfg(target_os = "linux")]
mod either;
#[cfg(target_os = "linux")]
mod linux;

pub use contract::StopReason;
pub(crate) use contract::{Apart, Command, Ended, FromWarden, GRACE, KeeperError, Start, ToWarden, View};
#[cfg(target_os = "linux")]
pub(crate) use either::{Keeper, Warden, WardenReader, WardenWriter};
#[cfg(not(target_os = "linux"))]
pub(crate) use inside::{Keeper, SPARES, Warden, WardenReader, WardenWriter, end_marked, serve};
#[cfg(target_os = "linux")]
pub(crate) use linux::{SPARES, end_marked, is_exiting, serve};
