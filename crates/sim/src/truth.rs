//! What really happened, as no part of the farm knows it: what each command wrote and how it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use bytes::Bytes;
use coordinator::core::BuildEnd;
use types::{BuildNumber, ExecId, LeaseId, MachineName, Outcome};

use crate::{
    context::lock,
    project::{Tree, Verdict},
};

/// The longest that tests may take, in milliseconds, as the builders of [`crate::project`] say.
pub(crate) const TEST_MILLIS: u64 = 180_000;

/// What happened.
#[derive(Default)]
pub(crate) struct Truth {
    execs: Mutex<BTreeMap<ExecId, Started>>,
    cancelled: Mutex<BTreeSet<BuildNumber>>,
    harmed: Mutex<BTreeSet<BuildNumber>>,
}

/// A command that was started.
#[derive(Debug, Clone)]
struct Started {
    machine: MachineName,
    lease: LeaseId,
    output: Bytes,
    /// How much of it was written in the end.
    written: Option<u64>,
}

impl Truth {
    /// A command starts; the error says why it must not.
    pub(crate) fn start(
        &self,
        exec: ExecId,
        (machine, lease): (&MachineName, LeaseId),
        output: Bytes,
    ) -> Result<(), String> {
        let started = Started { machine: machine.clone(), lease, output, written: None };
        match lock(&self.execs).insert(exec, started) {
            None => Ok(()),
            Some(before) => Err(format!(
                "command {exec} was started under {} on {} and again on {machine}",
                before.lease, before.machine
            )),
        }
    }

    /// A command has ended.
    pub(crate) fn end(&self, exec: ExecId, written: u64) {
        if let Some(started) = lock(&self.execs).get_mut(&exec) {
            started.written = Some(written);
        }
    }

    /// What is wrong with a finished log, if something is.
    pub(crate) fn wrong_log(&self, exec: ExecId, log: &[u8]) -> Option<String> {
        let execs = lock(&self.execs);
        let Some(started) = execs.get(&exec) else {
            return Some(format!("the log of {exec} is finished, and it never ran"));
        };
        let written = started.written.unwrap_or(0) as usize;
        let output = &started.output[..written.min(started.output.len())];
        (log != output).then(|| {
            format!("command {exec} wrote {} bytes and its log has {} others", output.len(), log.len())
        })
    }

    /// Somebody called a build off.
    pub(crate) fn cancel(&self, number: BuildNumber) {
        lock(&self.cancelled).insert(number);
    }

    /// A command of a build failed by the fault of its machine.
    pub(crate) fn harm(&self, number: BuildNumber) {
        lock(&self.harmed).insert(number);
    }

    /// What is wrong with the end of a build, if something is.
    pub(crate) fn wrong_end(&self, end: &BuildEnd, tree: &Tree, faults: bool) -> Option<String> {
        let right = match end.outcome {
            Outcome::Cancelled => lock(&self.cancelled).contains(&end.attempt.build),
            Outcome::Infrastructure => faults,
            // Where nothing else ran it, nobody can know better.
            Outcome::Failed if lock(&self.harmed).contains(&end.attempt.build) => true,
            outcome => allowed(tree, end.key.builder.as_str()).contains(&outcome),
        };
        let what =
            || format!("build {} ended {} and should not: {}", end.attempt.build, end.outcome, end.reason);
        (!right).then(what)
    }
}

/// How a build may end when nothing disturbs it.
fn allowed(tree: &Tree, builder: &str) -> Vec<Outcome> {
    if builder == "farmer.toml" {
        return vec![Outcome::Failed];
    }
    let of = |verdict: Verdict| match verdict {
        Verdict::Passes | Verdict::Flakes => None,
        Verdict::Fails => Some(Outcome::Failed),
        Verdict::Hangs => Some(Outcome::TimedOut),
    };
    if let Some(outcome) = of(tree.make) {
        return vec![outcome];
    }
    if builder == "bare" {
        return vec![Outcome::Passed];
    }
    if builder != "plain"
        && let Some(outcome) = of(tree.list)
    {
        return vec![outcome];
    }
    let mut bad: Vec<Outcome> = tree.tests.iter().filter_map(|test| of(test.verdict)).collect();
    let flakes = tree.tests.iter().any(|test| test.verdict == Verdict::Flakes);
    if tree.run(&[], 0).0 > TEST_MILLIS {
        bad.push(Outcome::TimedOut);
        let harmless =
            |test: &crate::project::Test| matches!(test.verdict, Verdict::Passes | Verdict::Flakes);
        if builder != "plain" && tree.tests.iter().all(harmless) {
            // Only if one shard has too many of them.
            bad.push(Outcome::Passed);
        }
    }
    match (bad.is_empty(), flakes) {
        (true, false) => vec![Outcome::Passed],
        (true, true) => vec![Outcome::Passed, Outcome::Failed],
        (false, false) => bad,
        (false, true) => bad.into_iter().chain([Outcome::Failed]).collect(),
    }
}
