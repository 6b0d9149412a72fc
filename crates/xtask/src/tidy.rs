//! Checks what neither the compiler nor clippy can: which crate may use which, that core modules stay pure, sizes,
//! licences, dependencies that nothing uses, names of log fields and metrics.
//!
//! Each rule has a test that plants its violation in a small tree and sees it found (`tidy/tests.rs`).

use std::{collections::BTreeSet, fmt, path::Path};

use anyhow::bail;

use crate::say;

mod calls;
mod core;
mod graph;
mod licences;
mod manifests;
mod ports;
mod size;
mod telemetry;
mod tokens;
mod tree;

use tree::Tree;

/// Something that must not be so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    file: String,
    /// Zero for the file as a whole.
    line: usize,
    message: String,
}

impl Problem {
    fn new(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// Checks the tree, and with `write_graph` accepts its crate and call graph first.
pub(crate) fn run(root: &Path, write_graph: bool) -> anyhow::Result<()> {
    let tree = Tree::load(root)?;
    if write_graph {
        graph::write(&tree)?;
    }
    let problems = check(&tree)?;
    for problem in &problems {
        say(&problem.to_string());
    }
    if !problems.is_empty() {
        bail!("{} problems", problems.len());
    }
    Ok(())
}

fn check(tree: &Tree) -> anyhow::Result<BTreeSet<Problem>> {
    let mut problems = BTreeSet::new();
    problems.extend(graph::check(tree)?);
    problems.extend(calls::check(tree));
    problems.extend(core::check(tree));
    problems.extend(size::check(tree));
    problems.extend(manifests::check(tree)?);
    problems.extend(licences::check(tree));
    problems.extend(telemetry::check(tree));
    problems.extend(ports::check(tree));
    Ok(problems)
}

#[cfg(test)]
mod tests;
