//! In the place of control groups where there are none: there is no group to make, so there is none to bound.

use std::{io, path::Path};

use crate::{exec::Limits, keeper::StopReason, platform::Handle};

/// The groups that this buildlet may make: none.
#[derive(Debug, Default)]
pub(crate) struct Groups;

/// A group, which there is none of.
#[derive(Debug)]
pub(crate) enum Group {}

impl Groups {
    /// What the system lets this process do.
    pub(crate) fn find(_state: &Path) -> Self {
        Self
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(&self) {}

    /// What bounds execs: nothing that is known here.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        None
    }

    /// A group of what limits bound.
    pub(crate) fn make(&self, _limits: &Limits) -> io::Result<Option<Group>> {
        Ok(None)
    }

    /// Has a group bound what limits bound.
    pub(crate) fn extend(&self, group: &mut Group, _limits: &Limits) -> io::Result<()> {
        match *group {}
    }
}

impl Group {
    /// Sets the limits.
    pub(crate) fn bound(&self, _limits: &Limits) -> io::Result<()> {
        match *self {}
    }

    /// What a process writes to that joins it.
    pub(crate) fn lists(&self) -> io::Result<Vec<Handle>> {
        match *self {}
    }

    /// Which limit was hit.
    pub(crate) fn hit(&self) -> Option<StopReason> {
        match *self {}
    }
}
