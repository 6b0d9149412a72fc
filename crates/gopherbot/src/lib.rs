#![doc = include_str!("../README.md")]

mod actor;
mod bot;
mod config;
pub mod core;
mod dry_run;
mod github_host;
mod intents;
mod ports;
mod server;

pub use config::{Config, Limits, TASKS};
pub use dry_run::DryRun;
pub use github_host::GithubHost;
pub use ports::{Host, HostError, Target};
pub use server::{BindError, Server};
