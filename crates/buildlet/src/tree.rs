//! Trees of files: unpacked from archives, packed into them, and removed whatever they hold.

mod list;
mod pack;
mod pipe;
mod place;
mod unpack;
mod wipe;

pub(crate) use list::{Entry, Kind, ListError, list, size};
pub(crate) use pack::{PackError, pack};
pub(crate) use pipe::{ChunkWriter, Feeder, pipe};
pub(crate) use unpack::{Bounds, Format, UnpackError, unpack};
pub(crate) use wipe::{empty, mounts_below, mounts_with_flags, remove};
