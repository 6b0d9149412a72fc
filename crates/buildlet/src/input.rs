//! What an exec reads, as it comes: a pipe or a terminal.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{ExecInput, resize};

// On Linux it is only tested.
#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(target_os = "linux", expect(dead_code, reason = "what serves other systems is only tested here"))]
mod plain;
#[cfg(not(target_os = "linux"))]
pub(crate) use plain::{ExecInput, resize};

use std::io;

/// Input was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The command reads no more, or never did.
    #[error("the exec takes no input")]
    Closed,
    /// Bytes between what was sent before and this are missing.
    #[error("the exec has taken {taken} bytes of input, so there is a gap before {offset}")]
    Gap { taken: u64, offset: u64 },
    /// The system.
    #[error("cannot write the input")]
    Io(#[source] io::Error),
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}
