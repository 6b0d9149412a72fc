#![doc = include_str!("../README.md")]

mod config;
pub mod core;
mod doors;
mod engine;
mod enrol;
mod find;
mod grpc;
#[doc(hidden)]
pub mod ports;
mod records;
mod releases;
mod review;
mod server;
mod sessions;
mod settings;
mod shell;
mod snapshots;
mod ssh;
#[doc(hidden)]
pub mod testing;
mod view;

pub use config::{CERTIFICATE_LIFETIME, Config, ConfigError};
pub use server::{BindError, Server};
