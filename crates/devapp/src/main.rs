//! Entry point: read the configuration, follow, serve.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use devapp::{BindError, Config, Server};
use runtime::Failure;
use tokio_util::sync::CancellationToken;

/// The developer dashboard: what happened lately, from the mutation stream.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The farm's configuration.
    #[arg(long, value_name = "FILE", default_value = "farm.toml")]
    config: PathBuf,
    /// Read the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Which log lines, for example `info,devapp=debug`; in place of the configuration's.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("devapp", &error),
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
    let _telemetry = runtime::telemetry::init("devapp", &config.telemetry).context("start telemetry")?;
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
        BindError::Listen(_) => Failure::Unavailable,
        BindError::Maintnerd(_) => Failure::Configuration,
    };
    failure.of(error)
}
