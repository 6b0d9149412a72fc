#![doc = include_str!("../README.md")]

pub mod client;
pub mod core;
pub mod generate;
pub mod log;

pub use client::{FollowError, Start, Update, follow};
pub use core::{Attempt, Commit, Corpus, ParsedCommit, parse_commit};
pub use log::{Batch, Log, Options, ResumeToken};
