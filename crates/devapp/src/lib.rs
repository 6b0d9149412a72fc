#![doc = include_str!("../README.md")]

mod config;
pub mod core;
mod page;
mod recent;
mod server;

pub use config::Config;
pub use server::{BindError, Server};
