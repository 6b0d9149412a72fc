#![doc = include_str!("../README.md")]

mod budget;
mod client;
mod error;
mod link;

pub use client::{Client, Fetched, Options, Reply, Token, segment};
pub use error::Error;
