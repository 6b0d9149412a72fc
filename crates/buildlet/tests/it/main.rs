//! A real buildlet process, called over real connections.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod conformance;
mod execs;
mod leases;
mod limits;
mod processes;
mod seals;
mod sessions;
mod trees;
