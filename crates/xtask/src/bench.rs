//! Benchmarks by name.

use std::{path::Path, process::Command};

use anyhow::{Context, bail, ensure};

use crate::say;

/// Each benchmark: its name, what it measures, and what cargo runs for it.
const BENCHES: &[(&str, &str, &[&str])] = &[
    (
        "archives",
        "gitmirror: archives of a small tree and of a large one",
        &["bench", "-p", "gitmirror", "--bench", "archives"],
    ),
    (
        "corpus",
        "maintner: a log of the Go project's scale replayed, frozen and asked",
        &["bench", "-p", "maintner", "--bench", "corpus"],
    ),
    ("exec", "buildlet: execs started and their output", &["bench", "-p", "buildlet", "--bench", "exec"]),
    (
        "farm",
        "a whole farm: latency, throughput, output, idle",
        &["bench", "-p", "farm-tests", "--bench", "farm"],
    ),
    (
        "fanout",
        "maintnerd: a thousand readers of the stream, filtered and whole, and one that stops",
        &["bench", "-p", "maintnerd", "--bench", "fanout"],
    ),
    ("log", "maintner: the mutation log, appended and read", &["bench", "-p", "maintner", "--bench", "log"]),
    ("logs", "store: logs of builds, one large and many small", &["bench", "-p", "store", "--bench", "logs"]),
    (
        "makespan",
        "coordinator: tests of a build on many machines, against longest-first",
        &["bench", "-p", "coordinator", "--bench", "makespan"],
    ),
    (
        "machines",
        "coordinator: a thousand machines that dial in, and come back",
        &["bench", "-p", "coordinator", "--bench", "machines"],
    ),
    (
        "push",
        "maintnerd: from a ref's move at gitmirror to its mutation with a reader",
        &["bench", "-p", "maintnerd", "--bench", "push"],
    ),
    (
        "records",
        "coordinator: trivial builds decided and persisted, on SQLite and PostgreSQL",
        &["bench", "-p", "coordinator", "--bench", "records"],
    ),
    (
        "refs",
        "gitmirror: from a commit to its ref in the stream",
        &["bench", "-p", "gitmirror", "--bench", "latency"],
    ),
    (
        "rpc",
        "rpc: calls and streams over TLS, dialled and reversed",
        &["bench", "-p", "rpc", "--bench", "calls"],
    ),
    (
        "schedule",
        "coordinator: a decision of the core with 200,000 builds waiting",
        &["bench", "-p", "coordinator", "--bench", "schedule"],
    ),
    (
        "trees",
        "buildlet: the Go tree written and read, beside tar, gzip and zstd",
        &["bench", "-p", "buildlet", "--bench", "trees"],
    ),
];

/// Runs those that are named, or lists all.
pub(crate) fn run(root: &Path, names: &[String]) -> anyhow::Result<()> {
    if names.is_empty() {
        for (name, what, _) in BENCHES {
            say(&format!("{name:12} {what}"));
        }
        return Ok(());
    }
    for name in names {
        let Some((_, what, command)) = BENCHES.iter().find(|(known, ..)| known == name) else {
            bail!("no benchmark is called `{name}`: `cargo xtask bench` lists them");
        };
        say(&format!("{name}: {what}"));
        let status = Command::new(env!("CARGO")).args(*command).current_dir(root).status();
        ensure!(status.context("run cargo")?.success(), "benchmark `{name}` failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_of_the_tree_has_a_name() {
        let metadata =
            cargo_metadata::MetadataCommand::new().current_dir(crate::root()).no_deps().exec().unwrap();
        let mut found = Vec::new();
        for package in metadata.workspace_packages() {
            for target in package.targets.iter().filter(|target| target.is_bench()) {
                found.push(
                    ["bench", "-p", package.name.as_str(), "--bench", &target.name]
                        .map(str::to_owned)
                        .to_vec(),
                );
            }
        }
        let mut listed: Vec<Vec<String>> =
            BENCHES.iter().map(|(_, _, command)| command.iter().map(ToString::to_string).collect()).collect();
        found.sort();
        listed.sort();
        assert_eq!(listed, found);
    }
}
