//! `farmer buildlet publish`: which buildlet the machines of a platform are told to run.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use api::coordinator::{
    ListReleasesRequest, PublishBuildletHeader, PublishBuildletRequest, Release,
    publish_buildlet_request::Part,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{cli::FarmArgs, machine::instant, output};

/// How much of a binary is sent at once.
const CHUNK: usize = 1 << 20;

/// What `farmer buildlet` does about releases.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign a buildlet's binary and offer it to the machines of a platform
    Publish(PublishArgs),
    /// List what was published
    Releases(ReleasesArgs),
    /// Offer again what was offered before the newest release
    Rollback(RollbackArgs),
}

/// Where a release goes.
#[derive(Debug, clap::Args)]
struct Target {
    /// The operating system and architecture, as Go names them
    #[arg(long, value_name = "OS/ARCH", default_value = "linux/amd64")]
    platform: String,
    /// The channel that machines follow
    #[arg(long, default_value = "stable")]
    channel: String,
}

/// Arguments of `farmer buildlet publish`.
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(crate) struct PublishArgs {
    /// The binary
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Its version, for people
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// How many of a hundred machines get it; publish again with more to go on
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Arguments of `farmer buildlet releases`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReleasesArgs {
    #[command(flatten)]
    farm: FarmArgs,
}

/// Arguments of `farmer buildlet rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs one of them.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Publish(args) => {
            let bytes =
                std::fs::read(&args.file).with_context(|| format!("read `{}`", args.file.display()))?;
            if bytes.is_empty() {
                return Err(output::usage(format!("`{}` is empty", args.file.display())));
            }
            let header = PublishBuildletHeader {
                platform: args.target.platform,
                channel: args.target.channel,
                version: args.version,
                digest: blake3::hash(&bytes).to_hex().to_string(),
                percent: args.percent,
            };
            publish(&args.farm, header, Bytes::from(bytes)).await?;
        }
        Command::Releases(args) => list(&args.farm).await?,
        Command::Rollback(args) => rollback(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(farm: &FarmArgs, header: PublishBuildletHeader, bytes: Bytes) -> anyhow::Result<()> {
    let mut parts = vec![PublishBuildletRequest { part: Some(Part::Header(header)) }];
    let mut rest = bytes;
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(CHUNK));
        parts.push(PublishBuildletRequest { part: Some(Part::Chunk(chunk)) });
    }
    let mut client = farm.location()?.machines()?;
    let published = client.publish_buildlet(futures_util::stream::iter(parts)).await;
    let release = published.map_err(|status| output::refused(&status))?.into_inner().release;
    let release = release.context("the farm answered nothing")?;
    output::line(if farm.json { release_json(&release).to_string() } else { line(&release) })
}

async fn releases(farm: &FarmArgs) -> anyhow::Result<Vec<Release>> {
    let mut client = farm.location()?.machines()?;
    let listed = client.list_releases(rpc::request(ListReleasesRequest {})).await;
    Ok(listed.map_err(|status| output::refused(&status))?.into_inner().releases)
}

async fn list(farm: &FarmArgs) -> anyhow::Result<()> {
    let releases = releases(farm).await?;
    if farm.json {
        let releases: Vec<_> = releases.iter().map(release_json).collect();
        return output::line(Value::from(releases).to_string());
    }
    if releases.is_empty() {
        return output::line("nothing was published; `farmer buildlet publish FILE` is the first step");
    }
    releases.iter().try_for_each(|release| output::line(line(release)))
}

/// A new release of the binary before: numbers only grow, so that no old manifest can be played back.
async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let Target { platform, channel } = args.target;
    let releases = releases(&args.farm).await?;
    let mut ours =
        releases.iter().filter(|release| release.platform == platform && release.channel == channel);
    let newest = ours.next().ok_or_else(|| {
        output::usage(format!(
            "nothing was published for {platform} on `{channel}`: see `farmer buildlet releases`"
        ))
    })?;
    let before = ours.find(|release| release.digest != newest.digest).ok_or_else(|| {
        output::usage(format!("there is nothing before release {} to go back to", newest.number))
    })?;
    let header = PublishBuildletHeader {
        platform,
        channel,
        version: before.version.clone(),
        digest: before.digest.clone(),
        percent: 100,
    };
    publish(&args.farm, header, Bytes::new()).await
}

fn line(release: &Release) -> String {
    let share =
        if release.percent == 100 { String::new() } else { format!(", {}% of machines", release.percent) };
    format!(
        "release {}: {} for {} on {}{share}  {}",
        release.number,
        release.version,
        release.platform,
        release.channel,
        &release.digest.get(..16).unwrap_or(&release.digest)
    )
}

fn release_json(release: &Release) -> Value {
    json!({
        "number": release.number,
        "platform": release.platform,
        "channel": release.channel,
        "version": release.version,
        "digest": release.digest,
        "bytes": release.size,
        "percent": release.percent,
        "published": release.published.as_ref().map(instant),
    })
}
