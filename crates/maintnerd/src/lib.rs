#![doc = include_str!("../README.md")]

mod audit;
mod config;
mod events;
mod gerrit;
mod github;
mod golang;
mod grpc;
mod import;
mod ledger;
mod logs;
mod mirror;
mod notes;
mod pace;
mod server;
mod sources;
mod subject;
mod votes;

pub use self::github::GithubRepository;
pub use config::{Config, Limits};
pub use logs::{LogsConfig, logs_router};
pub use server::{BindError, Server};
