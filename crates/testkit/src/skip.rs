//! Says what a test left out, so that a skipped test is never mistaken for a passed one.

use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
};

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

/// The Python that has the packages of `examples/python`: `FARMER_PYTHON`, or `python3`. Says so if there is none.
pub fn python(test: &str) -> Option<String> {
    let python = std::env::var("FARMER_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import grpc, grpc_tools"]).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let how = "pip install -r examples/python/requirements.txt, and FARMER_PYTHON if it is not for `python3`";
    skipped(test, "grpcio", how);
    None
}
