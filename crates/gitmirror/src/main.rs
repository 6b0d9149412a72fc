//! Entry point: parse, configure, connect, serve.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use gitmirror::{Config, Server};
use tokio_util::sync::CancellationToken;

/// Mirrors git repositories and serves their refs, commits and archives.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The operator's file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say what is wrong with the file.
    #[arg(long)]
    check_config: bool,
    /// What to log, for example `info,gitmirror=debug`.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("gitmirror", &error),
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = Config::load(&args.config)
        .map_err(|error| runtime::Failure::Configuration.of(error))
        .context("load configuration")?;
    if args.check_config {
        return Ok(());
    }
    if let Some(log) = args.log {
        config.telemetry.log = log;
    }
    let _telemetry = runtime::telemetry::init("gitmirror", &config.telemetry).context("start telemetry")?;
    let server = Server::bind(config).await.map_err(|error| error.failure().of(error)).context("start")?;
    let shutdown = CancellationToken::new();
    let serve = server.run(shutdown.clone());
    tokio::pin!(serve);
    tokio::select! {
        result = &mut serve => return result.context("serve"),
        () = runtime::shutdown_signal() => shutdown.cancel(),
    }
    serve.await.context("serve")
}
