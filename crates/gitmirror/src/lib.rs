#![doc = include_str!("../README.md")]

mod archive;
mod bundle;
mod cache;
mod commits;
mod config;
mod diffs;
mod events;
mod fetch;
mod files;
mod follow;
mod git;
mod grpc;
mod hub;
mod keeper;
mod kept;
mod mirror;
mod objects;
mod origin;
mod push;
mod registry;
mod repository;
mod scan;
mod server;
mod tar;
mod tree;
mod watch;
mod web;

pub use config::{Config, LoadError, RepositoryConfig, Timings};
pub use git::{FindGitError, GitError, redact};
pub use origin::{Origin, ParseOriginError};
pub use server::{BindError, Handle, Server};
