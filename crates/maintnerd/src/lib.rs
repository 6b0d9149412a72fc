#![doc = include_str!("../README.md")]

mod config;
mod events;
mod golang;
mod grpc;
mod import;
mod ledger;
mod logs;
mod mirror;
mod server;
mod sources;

pub use config::{Config, Limits};
pub use logs::{LogsConfig, logs_router};
pub use server::{BindError, Server};
