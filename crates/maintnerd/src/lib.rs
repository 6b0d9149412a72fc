#![doc = include_str!("../README.md")]

mod config;
mod events;
mod grpc;
mod import;
mod ledger;
mod mirror;
mod server;
mod sources;

pub use config::{Config, Limits};
pub use server::{BindError, Server};
