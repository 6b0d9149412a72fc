//! Says what a test left out, so that a skipped test is never mistaken for a passed one.

use std::{fs::OpenOptions, io::Write};

/// Notes that a test, or a part of one, was skipped: on standard error, and in the file that `FARMER_SKIPS` names,
/// which the test command prints at its end. `how` says how to get what was missing.
#[expect(clippy::print_stderr, reason = "a test speaks to whoever runs it")]
pub fn skipped(test: &str, missing: &str, how: &str) {
    let line = format!("skipped: {test}: no {missing}: {how}");
    eprintln!("{line}");
    let Some(file) = std::env::var_os("FARMER_SKIPS") else { return };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
        // One write for each line: several test programs share the file.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Whether a long test runs that takes about this many minutes: `FARMER_LONG` says how long one may take.
pub fn long(minutes: u32) -> bool {
    let bound = std::env::var("FARMER_LONG").ok().and_then(|bound| bound.parse().ok());
    bound.is_some_and(|bound: u32| minutes <= bound)
}
