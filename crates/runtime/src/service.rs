//! The entry point that all services share: arguments, configuration, telemetry, signals, exit code.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args as _, FromArgMatches as _};
use tokio_util::sync::CancellationToken;

use crate::{Failure, telemetry};

#[derive(clap::Args)]
struct Args {
    /// The farm's configuration.
    #[arg(long, value_name = "FILE", default_value = "farm.toml")]
    config: PathBuf,
    /// Read the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Which log lines, for example `info,rpc=debug`; in place of the configuration's.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// A service, as its `main` starts it.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// What it is called, on the command line as in telemetry.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Service {
    /// Runs it to its end: reads its configuration, starts telemetry, and has `serve` run until it ends or its token is
    /// cancelled, which the first SIGINT or SIGTERM does.
    pub fn main<C, E>(
        self,
        load: impl FnOnce(&Path) -> Result<C, E>,
        telemetry: impl FnOnce(&C) -> &telemetry::Config,
        serve: impl AsyncFnOnce(C, CancellationToken) -> anyhow::Result<()>,
    ) -> ExitCode
    where
        E: Into<anyhow::Error>,
    {
        let command = clap::Command::new(self.name).about(self.about).version(self.version);
        let matches = Args::augment_args(command).get_matches();
        let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        match self.run(args, load, telemetry, serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => crate::exit_with(self.name, &error),
        }
    }

    fn run<C, E>(
        self,
        args: Args,
        load: impl FnOnce(&Path) -> Result<C, E>,
        telemetry: impl FnOnce(&C) -> &telemetry::Config,
        serve: impl AsyncFnOnce(C, CancellationToken) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>
    where
        E: Into<anyhow::Error>,
    {
        crate::keep_few_heaps();
        crate::install_crypto();
        let config = load(&args.config)
            .map_err(|error| Failure::Configuration.of(error))
            .context("load the configuration")?;
        if args.check_config {
            return Ok(());
        }
        let mut telemetry = telemetry(&config).clone();
        telemetry.log = args.log.unwrap_or(telemetry.log);
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start threads")?.block_on(
            async {
                let _telemetry = telemetry::init(self.name, &telemetry).context("start telemetry")?;
                let shutdown = CancellationToken::new();
                let serving = serve(config, shutdown.clone());
                tokio::pin!(serving);
                tokio::select! {
                    ended = &mut serving => return ended,
                    () = crate::shutdown_signal() => shutdown.cancel(),
                }
                serving.await
            },
        )
    }
}
