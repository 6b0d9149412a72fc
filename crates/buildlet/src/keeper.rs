//! The keeper: starts commands and ends all that comes of them. On Linux it is a process of its own (`linux.rs` says why and
//! how); elsewhere it lives in the buildlet (`inside.rs`), and knows as much of what a command has started as the system
//! tells. What is asked of either is the same.

mod contract;
mod program;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as here;

// On Linux it is only tested.
#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(target_os = "linux", expect(dead_code, reason = "what serves other systems is only tested here"))]
mod inside;
#[cfg(not(target_os = "linux"))]
use inside as here;

pub use contract::StopReason;
pub(crate) use contract::{Apart, Command, Ended, FromWarden, GRACE, KeeperError, Start, ToWarden, View};
#[cfg(target_os = "linux")]
pub(crate) use here::is_exiting;
pub(crate) use here::{Keeper, SPARES, Warden, WardenReader, WardenWriter, end_marked, serve};
