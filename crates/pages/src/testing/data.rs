//! Invented data: small for tests that compare words, large for tests that measure.

mod build;
mod change;
mod farm;
mod grid;
mod history;

use std::time::Duration;

use types::{CommitHash, Timestamp};

pub(super) use self::{
    build::{FAILURE_LINE, sections},
    farm::empty_farm,
};
pub use self::{
    build::{RUNNING, failed_build, log_text, running_build, show_more, waiting_build},
    change::change,
    farm::{builders, farm},
    grid::{generated_grid, small_grid},
    history::{builder_history, machine_history, test_history},
};
use crate::view::CommitRef;

/// The time in the invented farm: 2026-11-20 13:00:00 UTC.
pub const NOW: Timestamp = Timestamp::from_seconds(1_795_179_600);

pub(super) const SUBJECTS: &[&str] = &[
    "net/http: keep the deadline of a reused connection",
    "cmd/compile: fold constant shifts of small types",
    "runtime: park idle workers before a cycle starts",
    "crypto/tls: reject a renegotiated certificate chain",
    "os: resolve a relative root beneath the directory handle",
    "testing: print the seed of a failed fuzz run",
    "encoding/json: report the offset of a truncated string",
    "sync: make the cleanup of pools incremental",
    "archive/zip: bound the size of the directory",
    "strings: speed up IndexAny on long sets",
    "time: read zone files of version 4",
    "net: close the resolver's sockets on cancel",
];
const AUTHORS: &[&str] = &["Ada", "Grace", "Ken", "Barbara", "Edsger"];

/// A log of numbered lines: `line 1`, `line 2`, and so on.
pub fn numbered_lines(count: u64) -> String {
    let mut text = String::new();
    for line in 1..=count {
        text.push_str("line ");
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// A sequence of numbers that looks random and is always the same.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("invented names are valid")
}

pub(super) fn before(seconds: u64) -> Timestamp {
    NOW - Duration::from_secs(seconds)
}

pub(super) fn commit(at: usize, seconds: u64) -> CommitRef {
    let mut dice = Dice(at as u64 + 17);
    let mut bytes = [0; 20];
    for byte in &mut bytes {
        *byte = dice.roll(256) as u8;
    }
    CommitRef {
        hash: CommitHash::from_bytes(bytes),
        subject: SUBJECTS[at % SUBJECTS.len()].to_owned(),
        author: AUTHORS[at * 3 % AUTHORS.len()].to_owned(),
        time: before(seconds),
    }
}
