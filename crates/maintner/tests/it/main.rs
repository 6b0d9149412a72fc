//! The log on a real disk, with real processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod adopt;
mod bad;
mod comments;
mod corpus;
mod crash;
mod dump;
mod log;
mod properties;
mod shared;

use api::maintpb::{GithubIssueMutation, Mutation};
use maintner::{Log, Options};

/// A mutation that carries a number, and as many more bytes.
pub(crate) fn numbered(number: u64, padding: usize) -> Mutation {
    let title = format!("{number:08}{}", "x".repeat(padding));
    Mutation { github_issue: Some(GithubIssueMutation { title, ..Default::default() }), ..Default::default() }
}

/// The number that a mutation carries.
pub(crate) fn number_of(mutation: &Mutation) -> u64 {
    mutation.github_issue.as_ref().unwrap().title[..8].parse().unwrap()
}

/// Small segments, and little in memory, so that a few mutations touch everything.
pub(crate) fn small() -> Options {
    Options { max_segment_bytes: 2000, recent_bytes: 500 }
}

/// All numbers of the log from a position on.
pub(crate) fn numbers(log: &Log, position: u64) -> Vec<u64> {
    let mut all = Vec::new();
    log.replay(position, |_, bytes| {
        all.push(number_of(&prost::Message::decode(bytes).unwrap()));
    })
    .unwrap();
    all
}
