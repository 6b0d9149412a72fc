//! `farmer why`: what broke a build or what it waits for, on one screen.

use std::process::ExitCode;

use api::coordinator::{Build, Outcome, ReadLogRequest};
use serde_json::json;

use crate::{build, cli::FarmArgs, farm::Location, output};

/// How much of the end of a failed log is looked at.
const TAIL_BYTES: u64 = 64 << 10;
/// How many lines of it are shown.
const TAIL_LINES: usize = 30;

/// Arguments of `farmer why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build
    number: u64,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer why`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let build = build::get(&farm, args.number).await?;
    let failed = matches!(build.outcome(), Outcome::Failed | Outcome::TimedOut | Outcome::Infrastructure);
    let lines = if failed { tail(&farm, args.number).await? } else { Vec::new() };
    if args.farm.json {
        let mut answer = build::build_json(&build);
        answer["last_lines"] = json!(lines);
        answer["reproduce"] = json!(reproduce(&build));
        output::line(answer.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(build::headline(&build))?;
    if let Some(wait) = &build.waits_for {
        if !wait.unblock.is_empty() {
            output::line(format!("  it goes on when {}", wait.unblock))?;
        }
        if let Some(since) = output::elapsed(wait.since, None) {
            output::line(format!("  it has waited for {}", output::duration(since)))?;
        }
    }
    for shard in build.attempts.last().into_iter().flat_map(|attempt| &attempt.shards) {
        if matches!(shard.outcome(), Outcome::Failed | Outcome::TimedOut) {
            output::line(format!(
                "  shard {} of {}: {}",
                shard.number,
                build.shards_total,
                shard.tests.join(" ")
            ))?;
        }
    }
    if !lines.is_empty() {
        output::line("\nthe end of the log:")?;
        lines.iter().try_for_each(|line| output::line(format!("  {line}")))?;
    }
    if let Some(command) = reproduce(&build) {
        output::line(format!("\ntry it again: {command}"))?;
    }
    output::line(format!("{}{}", farm.url, build.page))?;
    Ok(ExitCode::SUCCESS)
}

fn reproduce(build: &Build) -> Option<String> {
    (build.outcome() != Outcome::Passed && build.ended.is_some() && !build.is_try).then(|| {
        format!("git checkout {} && farmer try --builder {}", build::short(&build.commit), build.builder)
    })
}

/// The last lines of the log of a build that has ended.
async fn tail(farm: &Location, number: u64) -> anyhow::Result<Vec<String>> {
    let mut client = farm.builds()?;
    let mut bytes = Vec::new();
    let mut stream = client
        .read_log(ReadLogRequest { number, ..ReadLogRequest::default() })
        .await
        .map_err(|status| output::refused(&status))?
        .into_inner();
    while let Some(piece) = stream.message().await.map_err(|status| output::refused(&status))? {
        bytes.extend_from_slice(&piece.data);
        let excess = bytes.len().saturating_sub(TAIL_BYTES as usize);
        bytes.drain(..excess);
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec())
}
