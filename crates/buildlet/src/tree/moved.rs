//! What both ways of removing trees do about depth. Each level costs a descriptor, so what lies too deep is moved to the
//! top, under a name of its own, and removed from there.

use std::io;

/// How deep a removal descends before it moves what lies below.
pub(super) const DEPTH: usize = 64;

/// What a removal has moved and not yet removed. What a build gave such a name is not in it, and stays.
#[derive(Debug, Default)]
pub(super) struct Moved {
    names: Vec<String>,
    next: usize,
}

impl Moved {
    /// Moves something by `rename`, which answers whether the name was free.
    pub(super) fn add(&mut self, rename: impl Fn(&str) -> io::Result<bool>) -> io::Result<()> {
        loop {
            let name = format!(".wiping-{}", self.next);
            self.next += 1;
            if rename(&name)? {
                self.names.push(name);
                return Ok(());
            }
        }
    }

    /// The next to remove, which may add to what there is.
    pub(super) fn take(&mut self) -> Option<String> {
        self.names.pop()
    }
}

/// That something cannot be removed.
pub(super) fn failed(name: impl std::fmt::Display, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("cannot remove `{name}`: {error}"))
}
