//! What a log says, folded: GitHub's issues, Gerrit's changes, repositories with their refs, commits, and the results
//! of builds.
//!
//! Pure: no clock, no input or output, nothing that depends on chance. The same mutations in the same order give the
//! same corpus everywhere. Mutations are taken apart first ([`Batch`]), which many may do ahead and in any order, and
//! then applied one after the other, in two halves that share nothing. Things are rows in arenas and refer to each other
//! by index; equal texts are kept once; bodies, messages and diffs stay in the log.

mod builds;
mod commits;
mod corpus;
mod decode;
mod freeze;
mod gerrit;
mod github;
mod halves;
mod notes;
mod parse;
mod payloads;
mod pool;
mod rows;
mod strings;
mod table;
mod wire;

pub use builds::{Attempt, AttemptKey, ResultError, check_result};
pub use commits::{Commit, FileChange};
pub use corpus::{Corpus, Statistics};
pub use decode::Batch;
pub(crate) use freeze::FROZEN_VERSION;
pub use freeze::{Frozen, Sections};
pub use gerrit::{
    Change, Gerrit, InlineComment, Message, Meta, PatchSet, Project, Vote, change_of_ref, keeps_ref,
};
pub use github::{
    Assignment, Comment, Event, Github, Gone, Issue, Label, Milestone, MilestoneOf, Repository, Review, Team,
    User, diff,
};
pub(crate) use halves::Half;
pub use notes::{Role, Status};
pub use parse::{ParseCommitError, ParsedCommit, Person, parse_commit};
pub use wire::DecodeError;
