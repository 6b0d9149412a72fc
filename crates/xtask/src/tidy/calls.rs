//! Calls that have one home: tasks are spawned by `runtime::Tasks`, and wall time is read by `runtime`'s clock. And one
//! that has none: a channel without a bound.

use super::{
    Problem,
    tokens::{Kind, Tokens},
    tree::Tree,
};

/// Where wall time may be read.
const CLOCKS: &[&str] = &["crates/runtime/src/clock.rs", "crates/xtask/src/stopwatch.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (file, tokens) in tree.sources() {
        for path in tokens.resolved() {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            if matches!(segments[..], ["tokio", "spawn"] | ["tokio", "task", "spawn"]) {
                problems.push(Problem::new(
                    &file.path,
                    path.line,
                    "bare `tokio::spawn`: use `runtime::Tasks`, so that a task that panics or ends early is noticed",
                ));
            }
            if matches!(segments[..], [.., "unbounded_channel"] | [.., "mpsc", "unbounded"]) {
                let message =
                    "a channel without a bound: bound it, and write down what happens when it is full";
                problems.push(Problem::new(&file.path, path.line, message));
            }
            if reads_clock(&segments) && !CLOCKS.contains(&file.path.as_str()) {
                problems.push(wall_clock(&file.path, path.line, &segments.join("::")));
            }
        }
        for line in since_epoch(tokens) {
            problems.push(wall_clock(&file.path, line, "UNIX_EPOCH.elapsed"));
        }
    }
    problems
}

fn wall_clock(file: &str, line: usize, call: &str) -> Problem {
    Problem::new(
        file,
        line,
        format!("`{call}` reads the clock: use `runtime::Clock`, or `tokio::time` for intervals"),
    )
}

/// Whether a path is a call that reads a clock. `tokio::time::Instant` is none: tests can pause it.
fn reads_clock(path: &[&str]) -> bool {
    match path {
        ["std", "time", "SystemTime" | "Instant", "now"]
        // Not imported by name: a star brought it.
        | ["SystemTime" | "Instant", "now"]
        | ["jiff", "Timestamp" | "Zoned", "now"]
        | ["chrono", "Utc" | "Local", "now"] => true,
        [.., last] => *last == "clock_gettime",
        [] => false,
    }
}

fn since_epoch(tokens: &Tokens) -> Vec<usize> {
    let is_read = |at: &usize| tokens.punct(at + 1, '.') && tokens.ident(at + 2) == Some("elapsed");
    let epochs = (0..tokens.all.len()).filter(|at| tokens.is(*at, &Kind::Ident("UNIX_EPOCH".to_owned())));
    epochs.filter(is_read).map(|at| tokens.all[at].line).collect()
}
