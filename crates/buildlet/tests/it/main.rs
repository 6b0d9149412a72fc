//! A real buildlet process, called over real connections.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod execs;
mod leases;
mod processes;
mod trees;
