#![doc = include_str!("../README.md")]

mod config;
mod grpc;
mod log;
mod server;
mod signature;
mod webhook;

pub use config::{Config, LoadError, read_secret};
pub use server::{BindError, Server};
