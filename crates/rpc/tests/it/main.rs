//! Servers, channels, watches and reversed connections, over real sockets on this machine.

#![expect(clippy::unwrap_used, reason = "what surrounds the tests fails them like the tests themselves")]

mod calls;
mod farm;
mod identities;
mod lost;
mod mirror;
mod public;
mod relay;
mod reversed;
mod shutdown;
mod watches;
