#![doc = include_str!("../README.md")]

mod config;
pub mod core;
mod find;
mod grpc;
mod records;
mod server;
mod settings;
mod shell;
mod snapshots;
mod view;

pub use config::{Config, ConfigError};
pub use server::{BindError, Server};
