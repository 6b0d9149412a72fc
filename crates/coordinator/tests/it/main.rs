//! The coordinator as its neighbours see it: real sockets, certificates, database and shell commands; gitmirror,
//! maintnerd and the buildlets are fakes that keep the contract.

#![expect(clippy::unwrap_used, reason = "a failed step of a test fails the test")]

mod buildlet;
mod builds;
mod enrolment;
mod farm;
mod mutations;
mod pages;
mod peers;
mod releases;
mod restart;
mod sessions;
