//! A real buildlet process, called over real connections.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod groups;
mod harness;
mod office;
mod puppet;

mod conformance;
mod enroll;
mod execs;
mod leases;
mod limits;
mod processes;
mod seals;
mod sessions;
mod stage0;
mod trees;
