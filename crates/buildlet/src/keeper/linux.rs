//! The keeper on Linux: starts commands, ends all that comes of them, and outlives the buildlet just long enough to do so.
//!
//! A buildlet that is killed with SIGKILL can clean up nothing, so what must be cleaned up is never its own child. The
//! keeper is a process of the same binary with one thread. For each exec it forks a *warden*, which is a child
//! subreaper: every process that the command starts stays below the warden however often it forks and whatever
//! sessions it makes, so `waitpid` saying that there are no children proves that nothing is left.
//!
//! ```text
//! buildlet ── keeper ──┬─ warden ── command ── …        A warden ends its tree when its socket to the buildlet
//!                      └─ warden ── command ── …        closes. What a killed warden leaves falls to the keeper.
//! ```
//!
//! The keeper knows nothing: each request is one byte and some descriptors. What is to be run reaches the warden by
//! its own socket. Some wardens always wait for the next execs, so that no exec waits for a fork.

mod apart;
mod client;
mod descriptors;
mod fork;
mod message;
mod output;
mod process;
mod seal;
mod serve;
mod start;
mod warden;

pub(crate) use client::{Keeper, Warden, WardenReader, WardenWriter};
pub(crate) use process::{end_marked, is_exiting};
pub(crate) use serve::{SPARES, serve};
