#![doc = include_str!("../README.md")]

pub mod client;
pub mod core;
pub mod follower;
pub mod generate;
pub mod log;
mod map;
pub mod replay;
pub mod search;
pub mod snapshot;
pub mod tries;

pub use client::{FollowError, Start, Update, follow, follow_filtered};
pub use core::{Attempt, Change, Commit, Corpus, Issue, ParsedCommit, parse_commit};
pub use follower::{Follower, FollowerError, News};
pub use log::{Batch, Log, Options, ResumeToken};
pub use replay::{ReplayError, Replayed, replay};
