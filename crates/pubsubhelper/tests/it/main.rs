//! pubsubhelper over its real ports.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

mod examples;
mod stream;
mod webhook;
mod world;
