//! Finds work: follows the mutation log, reads what a commit says about its builders, asks for builds.

mod changes;
mod commit;
mod follow;
mod mirror;
mod moves;
mod planner;
mod tries;

pub(crate) use changes::Project;
pub use commit::Commit;
pub(crate) use follow::Finder;
pub(crate) use mirror::Mirror;
pub use mirror::{Files, MirrorError};
pub(crate) use planner::{AtCommit, Planner, Wanted, known};
