//! Trees of files: unpacked from archives, packed into them, and removed whatever they hold.

mod list;
mod moved;
mod pack;
mod pipe;
mod place;
mod unpack;
#[cfg(target_os = "linux")]
mod wipe;
// On Linux it is only tested.
#[cfg(any(test, not(target_os = "linux")))]
mod wipe_plain;

pub(crate) use list::{Entry, Kind, ListError, list, size};
pub(crate) use pack::{PackError, pack};
pub(crate) use pipe::{ChunkWriter, Feeder, pipe};
pub(crate) use unpack::{Bounds, Format, UnpackError, unpack};
#[cfg(target_os = "linux")]
pub(crate) use wipe::{empty, mounts_below, mounts_with_flags, remove};
#[cfg(not(target_os = "linux"))]
pub(crate) use wipe_plain::{empty, remove};
