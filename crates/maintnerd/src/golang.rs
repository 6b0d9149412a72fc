//! What the programs of the Go project ask: its releases, the changes to be tried, its dashboard.
//!
//! All of it follows from the corpus, by the rules that the project has for the names of its branches and tags. Pure;
//! `grpc/compat.rs` serves it.

mod dashboard;
mod releases;
#[cfg(test)]
pub(crate) mod testing;
mod work;

use maintner::{Corpus, core::Project};

pub(crate) use dashboard::{DashboardError, dashboard};
pub(crate) use releases::{TooFewReleases, supported};
pub(crate) use work::{ANSWERS, ASKS, find_work, waits};

/// Where the project's changes are reviewed.
const HOST: &str = "go.googlesource.com";
/// The project that is Go itself.
const MAIN: &str = "go";
/// The branch that everything lands on first.
const DEVELOPMENT: &str = "master";

/// One of the project's Gerrit projects, by its name without the host.
fn project<'a>(corpus: &'a Corpus, name: &str) -> Option<Project<'a>> {
    corpus.gerrit().project(&format!("{HOST}/{name}"))
}

/// All of them with their names without the host, by name.
fn projects(corpus: &Corpus) -> impl Iterator<Item = (&str, Project<'_>)> {
    corpus.gerrit().projects().filter_map(|project| {
        let name = project.name().strip_prefix(HOST)?.strip_prefix('/')?;
        Some((name, project))
    })
}

/// The branches of a project without `refs/heads/`, by name.
fn branches<'a>(project: &Project<'a>) -> impl Iterator<Item = (&'a str, types::CommitHash)> + use<'a> {
    project.refs().filter_map(|(name, commit)| Some((name.strip_prefix("refs/heads/")?, commit)))
}
