//! `farmer retry`: begins builds again that have ended.

use std::process::ExitCode;

use api::coordinator::RetryBuildsRequest;

use crate::{build, cli::FarmArgs, output, progress};

/// Arguments of `farmer retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// These builds, however they ended
    #[arg(required_unless_present_any = ["builder", "commit", "matching"])]
    numbers: Vec<u64>,
    /// What failed of this builder
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// What failed of this commit, its first 7 digits or more
    #[arg(long)]
    commit: Option<String>,
    /// Only what failed with this text in its reason, or in a line shown of a failure
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
    /// How many at the most, the newest first
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Why; kept with the build
    #[arg(long, default_value = "")]
    reason: String,
    /// Run only the tests that have not passed; what the others came to stands
    #[arg(long)]
    keep_passed: bool,
    /// Only say which
    #[arg(long)]
    dry_run: bool,
    /// Say which and end, instead of waiting for the outcome
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer retry`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let request = RetryBuildsRequest {
        numbers: args.numbers,
        builder: args.builder.unwrap_or_default(),
        commit: args.commit.unwrap_or_default(),
        matching: args.matching.unwrap_or_default(),
        limit: args.limit,
        keep_passed: args.keep_passed,
        dry_run: args.dry_run,
        reason: args.reason,
    };
    let answer = farm.retries()?.retry_builds(rpc::request(request)).await;
    let answer = answer.map_err(|status| output::refused(&status))?.into_inner();
    if answer.builds.is_empty() && !args.farm.json {
        output::line(format!("none of {} builds is to be begun again", answer.looked_at))?;
    }
    if answer.builds.is_empty() || args.dry_run || args.no_wait {
        for build in &answer.builds {
            output::line(if args.farm.json {
                build::build_json(build).to_string()
            } else {
                build::headline(build)
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    progress::follow(&farm, answer.builds, args.farm.json).await
}
