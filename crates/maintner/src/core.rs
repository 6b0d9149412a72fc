//! What a log says, folded: repositories with their refs, commits, and the results of builds.
//!
//! Pure: no clock, no input or output, nothing that depends on chance. The same mutations in the same order give the
//! same corpus everywhere. Kinds of mutations that are not modelled are counted and skipped.

mod builds;
mod commits;
mod corpus;
mod parse;
mod strings;
mod table;

pub use builds::{Attempt, AttemptKey, ResultError, check_result};
pub use commits::Commit;
pub use corpus::{Corpus, Statistics};
pub use parse::{ParseCommitError, ParsedCommit, Person, parse_commit};
