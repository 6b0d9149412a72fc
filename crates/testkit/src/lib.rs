#![doc = include_str!("../README.md")]

pub mod browser;
pub mod farm;
mod fuzz;
pub mod gerrit;
pub mod git;
pub mod go;
pub mod postgres;
mod real;
pub mod skip;

pub use farm::{Farm, Options};
pub use fuzz::fuzz;
pub use gerrit::Gerrit;
pub use git::Repository;
pub use postgres::Postgres;
pub use skip::{long, skipped};
