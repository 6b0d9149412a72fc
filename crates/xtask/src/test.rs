//! Every check and test, in one command: what a developer, CI and the README run.
//!
//! Nothing is left out in silence. A step or a test that cannot run here says what is missing; tests do so by a line in
//! the file that `FARMER_SKIPS` names. The last line counts: every test, and every other step as one.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{codegen, ports, say, sim, stopwatch::Stopwatch, tidy};

/// How long the long run of the simulator takes, in release mode.
const SIMULATED_MINUTES: u32 = 10;
/// The release of buf that lints `proto/`.
const BUF: &str = "@bufbuild/buf@1.75.0";

/// How many tests did what; a step without tests of its own counts as one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// How a step ended.
enum Ended {
    Passed,
    Failed(String),
    Skipped(String),
    Tested { counts: Counts, succeeded: bool },
}

struct Run<'r> {
    root: &'r Path,
    long: Option<u32>,
    skips: &'r Path,
}

type Step = (&'static str, fn(&Run<'_>) -> anyhow::Result<Ended>);

const STEPS: &[Step] = &[
    ("format", |run| cargo(run, &["fmt", "--all", "--check", "--", "-l"], &[])),
    ("code generation", |run| ours(codegen::run(run.root, true))),
    ("tidy", |run| ours(tidy::run(run.root, false))),
    ("buf lint", buf),
    ("clippy", |run| {
        cargo(run, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
    }),
    ("documentation", |run| {
        let arguments = ["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
        cargo(run, &arguments, &[("RUSTDOCFLAGS", "-D warnings")])
    }),
    // Tests of the whole farm start them.
    ("binaries", |run| cargo(run, &["build", "--locked", "--workspace", "--bins"], &[])),
    ("tests", tests),
    ("ports", |run| {
        let Some(minutes) = run.long else {
            return Ok(Ended::Skipped("`cargo xtask test --long` runs agents of other systems".to_owned()));
        };
        let left_out = ports::test(run.root, minutes)?;
        Ok(if left_out.is_empty() { Ended::Passed } else { Ended::Skipped(left_out.join("; ")) })
    }),
    ("simulator", |run| {
        let long = run.long.is_some_and(|minutes| minutes >= SIMULATED_MINUTES);
        let seeds = if long { "10000" } else { "60" };
        ours(sim::run(run.root, long, &["--seeds".to_owned(), seeds.to_owned()]))
    }),
];

/// Runs all steps, also after one failed, and fails if any did.
pub(crate) fn run(root: &Path, long: Option<u32>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let skips = folder.path().join("skips");
    let run = Run { root, long, skips: &skips };
    let total = Stopwatch::start();
    let (mut counts, mut failed, mut skipped) = (Counts::default(), Vec::new(), Vec::new());
    for (name, step) in STEPS {
        say(&format!("==> {name}"));
        let watch = Stopwatch::start();
        let ended = step(&run).unwrap_or_else(|error| Ended::Failed(format!("{error:#}")));
        say(&format!("    {name}: {} in {}", describe(&ended), seconds(watch.elapsed())));
        counts = counts + count(&ended);
        match ended {
            Ended::Failed(_) | Ended::Tested { succeeded: false, .. } => failed.push(*name),
            Ended::Skipped(reason) => skipped.push(format!("skipped: {name}: {reason}")),
            Ended::Passed | Ended::Tested { .. } => {}
        }
    }
    let of_tests = fs::read_to_string(&skips).unwrap_or_default();
    skipped.extend(of_tests.lines().map(ToOwned::to_owned));
    counts.skipped += of_tests.lines().count();
    summary(&skipped, long, total.elapsed(), counts);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn summary(skipped: &[String], long: Option<u32>, took: Duration, counts: Counts) {
    for line in skipped {
        say(line);
    }
    if long.is_none() {
        say("skipped: the long tests: `cargo xtask test --long` runs them too");
    }
    say(&format!("all steps took {}", seconds(took)));
    say(&format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped));
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Passed => "ok".to_owned(),
        Ended::Failed(reason) => format!("FAILED: {reason}"),
        Ended::Skipped(reason) => format!("skipped: {reason}"),
        Ended::Tested { counts, succeeded } => {
            let word = if *succeeded { "ok" } else { "FAILED" };
            format!("{word}: {} passed, {} failed, {} ignored", counts.passed, counts.failed, counts.skipped)
        }
    }
}

fn count(ended: &Ended) -> Counts {
    match ended {
        Ended::Passed => Counts { passed: 1, ..Counts::default() },
        Ended::Failed(_) => Counts { failed: 1, ..Counts::default() },
        Ended::Skipped(_) => Counts { skipped: 1, ..Counts::default() },
        // A test program that does not compile or dies has no count of its own.
        Ended::Tested { counts, succeeded } if !succeeded && counts.failed == 0 => {
            Counts { failed: 1, ..*counts }
        }
        Ended::Tested { counts, .. } => *counts,
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn ours(result: anyhow::Result<()>) -> anyhow::Result<Ended> {
    result.map(|()| Ended::Passed)
}

fn cargo(run: &Run<'_>, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Ended> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(run.root).envs(environment.iter().copied()).stdin(Stdio::null());
    let status = command.status().context("run cargo")?;
    Ok(if status.success() { Ended::Passed } else { Ended::Failed(format!("cargo {}", arguments[0])) })
}

fn buf(run: &Run<'_>) -> anyhow::Result<Ended> {
    let npx = |arguments: &[&str]| {
        let mut command = Command::new("npx");
        command.args(["--yes", BUF]).args(arguments).current_dir(run.root.join("proto")).stdin(Stdio::null());
        command
    };
    match npx(&["--version"]).output() {
        Err(_) => Ok(Ended::Skipped("no `npx` on the PATH: install Node.js".to_owned())),
        Ok(output) if !output.status.success() => {
            Ok(Ended::Skipped(format!("`npx` could not fetch {BUF}: it needs the npm registry")))
        }
        Ok(_) => {
            let status = npx(&["lint"]).status().context("run buf")?;
            Ok(if status.success() { Ended::Passed } else { Ended::Failed("buf lint".to_owned()) })
        }
    }
}

/// Runs the tests, shows their output as it comes, and adds up what each test program counted.
fn tests(run: &Run<'_>) -> anyhow::Result<Ended> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).current_dir(run.root);
    command.env("FARMER_SKIPS", run.skips).stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(minutes) = run.long {
        command.env("FARMER_LONG", minutes.to_string());
    }
    let mut child = command.spawn().context("run cargo")?;
    let output = BufReader::new(child.stdout.take().context("read the tests' output")?);
    let mut counts = Counts::default();
    for line in output.split(b'\n') {
        let line = line.context("read the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        say(&line);
        counts = counts + result_of(&line).unwrap_or_default();
    }
    let succeeded = child.wait().context("wait for cargo")?.success();
    Ok(Ended::Tested { counts, succeeded })
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_of(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = numbers.split("; ").find_map(|part| part.trim().strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_test_programs_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.12s";
        assert_eq!(result_of(line), Some(Counts { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(result_of("test a::b ... ok"), None);
    }

    #[test]
    fn a_test_run_that_fails_without_a_count_is_a_failure() {
        let counts = Counts { passed: 7, failed: 0, skipped: 0 };
        assert_eq!(count(&Ended::Tested { counts, succeeded: false }).failed, 1);
        assert_eq!(count(&Ended::Tested { counts, succeeded: true }), counts);
    }
}
