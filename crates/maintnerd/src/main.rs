//! Entry point: read the configuration, open the log, serve.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use maintnerd::{BindError, Config, Server};
use runtime::Failure;
use tokio_util::sync::CancellationToken;

/// Reads GitHub, Gerrit and git; owns the mutation log; streams it.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The farm's configuration.
    #[arg(long, value_name = "FILE", default_value = "farm.toml")]
    config: PathBuf,
    /// Read the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Which log lines, for example `info,maintnerd=debug`; in place of the configuration's.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("maintnerd", &error),
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    runtime::install_crypto();
    let mut config = Config::load(&args.config)
        .map_err(|error| Failure::Configuration.of(error))
        .context("load the configuration")?;
    if args.check_config {
        return Ok(());
    }
    config.telemetry.log = args.log.unwrap_or(config.telemetry.log);
    let _telemetry = runtime::telemetry::init("maintnerd", &config.telemetry).context("start telemetry")?;
    let server = Server::bind(config).await.map_err(classify).context("start")?;
    let stop = CancellationToken::new();
    let serving = server.run(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.context("serve"),
        () = runtime::shutdown_signal() => stop.cancel(),
    }
    serving.await.context("serve")
}

fn classify(error: BindError) -> anyhow::Error {
    let failure = match &error {
        BindError::Locked(_) | BindError::Listen(_) => Failure::Unavailable,
        BindError::Peer { .. } => Failure::Configuration,
        BindError::Log(_) => Failure::Bug,
    };
    failure.of(error)
}
