//! gitmirror with real git repositories, over its real port.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

mod archives;
mod bundles;
mod commits;
mod events;
mod files;
mod outages;
mod refs;
mod remotes;
mod settings;
mod world;
