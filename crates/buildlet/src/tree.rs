//! Trees of files: unpacked from archives, packed into them, and removed whatever they hold.

mod pack;
mod pipe;
mod unpack;
mod wipe;

pub(crate) use pack::{PackError, pack};
pub(crate) use pipe::{ChunkWriter, Feeder, pipe};
pub(crate) use unpack::{Format, UnpackError, unpack};
pub(crate) use wipe::{empty, mounts_below, remove};
