//! `farmer try`: builds the working tree of the current folder.

use std::process::ExitCode;

use anyhow::Context;
use api::coordinator::{Build, Outcome, SubmitTryRequest, TryHeader, submit_try_request::Part};
use bytes::Bytes;
use clap::ValueEnum;
use tonic::Code;

use crate::{
    cli::FarmArgs,
    farm::Location,
    gomote, output, progress,
    tree::{Leave, TreeCommit},
};

const CHUNK: usize = 1 << 20;

/// Arguments of `farmer try`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this builder; may be given again
    #[arg(long = "builder", value_name = "NAME", conflicts_with = "all")]
    builders: Vec<String>,
    /// Every builder of the repository, not only those that policy tries
    #[arg(long)]
    all: bool,
    /// End after this step
    #[arg(long, value_name = "STEP")]
    stop_after: Option<StopAfter>,
    /// Only tests whose names match one of these globs
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    tests: Vec<String>,
    /// The repository, as the farm calls it [default: the only one]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// If it fails, hold a machine with what was there: a shell at a terminal, else its name
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StopAfter {
    /// What makes; no test runs
    Make,
}

/// Runs `farmer try`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let here = std::env::current_dir().context("find the current folder")?;
    let tree = TreeCommit::of(&here)?;
    let header = TryHeader {
        request_id: runtime::new_id().to_string(),
        repository: args.repository.unwrap_or_default(),
        commit: tree.commit.to_string(),
        builders: args.builders,
        all: args.all,
        stop_after_make: args.stop_after == Some(StopAfter::Make),
        tests: args.tests,
    };
    let builds = submit(&farm, &tree, &header).await?;
    let numbers: Vec<u64> = builds.iter().map(|build| build.number).collect();
    let code = progress::follow(&farm, builds, args.farm.json).await?;
    if args.hold {
        let ended = progress::wait(&farm, &numbers).await?;
        let failed = |build: &&Build| matches!(build.outcome(), Outcome::Failed | Outcome::TimedOut);
        match ended.iter().find(failed) {
            Some(failed) => gomote::hold(&args.farm, failed.number).await?,
            None => gomote::say("nothing failed: there is nothing to hold"),
        }
    }
    Ok(code)
}

/// Sends little first; more when the farm lacks what the working tree stands on.
async fn submit(farm: &Location, tree: &TreeCommit, header: &TryHeader) -> anyhow::Result<Vec<Build>> {
    let mut last = None;
    for leave in [Leave::Head, Leave::Remotes, Leave::Nothing] {
        let requests = pieces(header.clone(), &tree.bundle(leave)?.into());
        match farm.builds()?.submit_try(tokio_stream::iter(requests)).await {
            Ok(answer) => return Ok(answer.into_inner().builds),
            Err(status)
                if status.code() == Code::InvalidArgument
                    && rpc::reason(&status).as_deref() == Some("BAD_BUNDLE") =>
            {
                last = Some(status);
            }
            Err(status) => return Err(output::refused(&status)),
        }
    }
    Err(last
        .map_or_else(|| output::infrastructure("the farm took no bundle"), |status| output::refused(&status)))
}

fn pieces(header: TryHeader, bundle: &Bytes) -> Vec<SubmitTryRequest> {
    let chunks =
        (0..bundle.len()).step_by(CHUNK).map(|start| bundle.slice(start..bundle.len().min(start + CHUNK)));
    std::iter::once(Part::Header(header))
        .chain(chunks.map(Part::Chunk))
        .map(|part| SubmitTryRequest { part: Some(part) })
        .collect()
}
