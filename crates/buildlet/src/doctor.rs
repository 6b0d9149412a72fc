//! `buildlet doctor`: what is wrong with this machine, and what its owner can do about it.

mod host;
mod network;
mod processes;

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::{enroll::say, keys::Keys};

/// Arguments of `buildlet doctor`.
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// The coordinator [default: where the machine was enrolled]
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// The buildlet's state folder
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The folder that builds work in
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// A program that builds here need, beside `sh` and `git`; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// How stage0 is to reboot, if it is to
    #[arg(long, value_name = "COMMAND")]
    reboot_command: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// What one look has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    name: &'static str,
    level: Level,
    found: String,
    /// What to do about it; empty when nothing is wrong.
    todo: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), todo: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, found: found.into(), todo: todo.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, found: found.into(), todo: todo.into() }
    }
}

/// Looks at everything; the exit code is 1 if something must be mended before builds can run here.
pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let keys = Keys::in_state(&args.state);
    let url = args.coordinator.clone().or_else(|| keys.coordinator());
    let mut findings = network::examine(url.as_deref(), &keys).await;
    findings.push(host::disk(args.work.as_deref().unwrap_or(&args.state)));
    findings.push(host::memory(crate::platform::memory_bytes()));
    findings.push(host::processors(crate::platform::cpus()));
    findings.extend(host::tools(&args.tools));
    findings.extend(host::permissions(&keys, args.reboot_command.as_deref()).await);
    findings.push(processes::busy().await);
    findings.extend(network::reachable().await);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    say(&if args.json { serde_json::to_string_pretty(&findings)? } else { render(&findings) })?;
    Ok(if worst == Level::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn render(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        lines.push(format!("{mark}  {:<12} {}", finding.name, finding.found));
        if !finding.todo.is_empty() {
            lines.push(format!("{:>19}→ {}", "", finding.todo));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_comes_with_what_to_do() {
        let findings = [Finding::ok("disk", "40 GB free"), Finding::fail("clock", "a day ahead", "set it")];
        assert_eq!(
            render(&findings),
            "ok    disk         40 GB free\nFAIL  clock        a day ahead\n                   → set it"
        );
    }
}
