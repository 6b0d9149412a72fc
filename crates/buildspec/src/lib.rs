#![doc = include_str!("../README.md")]

mod build_file;
mod build_file_toml;
mod detect;
mod farm;
mod farm_toml;
mod glob;
pub mod plan;
mod preset;
pub mod script;
mod tries;

pub use build_file::{BuildFile, Builder, Offer, OfferedHost, Snapshot, Tests};
pub use detect::{Detected, detect};
pub use farm::{
    Environment, Farm, GerritProject, GithubRepository, Gopherbot, Host, Limits, Listen, Policy, Purpose,
    Records, Repository, Reuse, Services, Tier, TlsPaths, Webhook,
};
pub use glob::{Glob, ParseGlobError};
pub use preset::{PRESETS, preset};
pub use tries::{Tries, TryOn};
