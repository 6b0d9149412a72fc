#![doc = include_str!("../README.md")]

mod config;
mod gerrit;
mod grpc;
mod log;
mod server;
mod signature;
mod webhook;

pub use config::{Config, LoadError};
pub use server::{BindError, Server};
