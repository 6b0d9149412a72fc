//! `farmer up`: a whole farm on this machine, every service in this process, each buildlet a child of its own.

mod buildlets;
pub(crate) mod data;
mod farm_file;
mod repository;
mod services;
mod status;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use runtime::{Failure, Tasks};
use tokio_util::sync::CancellationToken;

use self::{
    buildlets::{Buildlets, Launch},
    data::DataFolder,
    services::Services,
};

/// How long services may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Arguments of `farmer up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The repository to build: a path or a URL that git can fetch [default: that of the current folder]
    #[arg(long, value_name = "PATH|URL", conflicts_with = "config")]
    repo: Option<String>,
    /// A farm.toml: repositories, hosts, policies
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the farm keeps everything [default: a folder of the repository's name under the user's data folder]
    #[arg(long, env = "FARMER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where pages and commands connect; on this machine only [default: the port of the last run, or 8790]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How many buildlets [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=256))]
    buildlets: Option<u32>,
    /// How long a buildlet and what it runs outlive this process when the farm is not started again
    #[arg(long, hide = true, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    orphan_after: Duration,
    /// What to log, for example `info` or `coordinator=debug`
    #[arg(long, env = "FARMER_LOG", value_name = "FILTER")]
    log: Option<String>,
}

/// Runs `farmer up`; exit codes are those of a service.
pub(crate) fn run(args: Args) -> ExitCode {
    let serve = || -> anyhow::Result<()> {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(Box::pin(serve(args)))
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("farmer", &error),
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let wanted = farm_file::read(&args)?;
    let data = DataFolder::open(&wanted.data)
        .map_err(|error| Failure::Unavailable.of(error))
        .context("open the data folder")?;
    let mut telemetry = wanted.farm.telemetry.clone();
    // People watch this: what they can act on, unless the operator's file or they themselves say more.
    let quiet = wanted.path.is_none().then(|| "warn".to_owned());
    telemetry.log = args.log.clone().or(quiet).unwrap_or(telemetry.log);
    let _telemetry = runtime::telemetry::init("farmer", &telemetry).context("start telemetry")?;
    for repository in &wanted.farm.repositories {
        repository::check(repository, data.root()).await.context("reach the repository")?;
    }

    let shutdown = CancellationToken::new();
    let services =
        Box::pin(Services::bind(&wanted, &data, args.listen)).await.context("start the services")?;
    let url = format!("http://{}", services.public);
    let count = args.buildlets.or(wanted.farm.buildlets).unwrap_or_else(processors);
    let tasks = Tasks::new(shutdown.clone());
    let launch = Launch { coordinator: services.coordinator, orphan_after: args.orphan_after };
    let buildlets = Buildlets::start(&data, &services.authority, launch, count, &tasks)?;
    services.run(&tasks);
    data.announce(url.clone())?;
    status::start(&wanted, &url, &data, &tasks)?;

    let signal = shutdown.clone();
    tasks.service("signals", async move {
        tokio::select! {
            () = runtime::shutdown_signal() => signal.cancel(),
            () = signal.cancelled() => {}
        }
        Ok(())
    });
    let ended = tasks.finish(GRACE).await;
    // The services are down, so the end of a buildlet is no loss that anybody would note.
    buildlets.stop().await;
    data.withdraw();
    ended
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}
