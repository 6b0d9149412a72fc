//! stage0: keeps a buildlet running that is the one the farm has published.
//!
//! It asks before every run of a buildlet, and now and then while one runs; a new binary is fetched, checked, tried, and
//! takes over when the old one has nothing to do. One that does not work is not run again: the last that did takes its
//! place, in the end this very program, so that a machine is never without.

mod fetch;
mod shelf;
mod supervise;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{config::proxy_for, enroll::own_name, keys::Keys};

use fetch::Source;
use shelf::Shelf;
use supervise::Supervisor;

/// Arguments of `buildlet stage0`.
#[derive(Debug, Clone, clap::Args)]
pub struct Stage0Args {
    /// The coordinator [default: where the machine was enrolled]
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// The buildlet's state folder; binaries are kept in it
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The farm's authority (PEM), which signs binaries [default: what `buildlet enroll` kept]
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// The channel to follow
    #[arg(long, default_value = "stable")]
    channel: String,
    /// How often to ask while a buildlet runs
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    ask_every: Duration,
    /// How long to wait for the network before a buildlet is started without having asked
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    network_wait: Duration,
    /// A binary is good once it has run for so long, or has ended in order
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    probation: Duration,
    /// Reboot after so many runs of the buildlet that ended in order; with `--reuse never`, each is a build
    #[arg(long, value_name = "N")]
    reboot_after: Option<u32>,
    /// Reboot when the machine has been up for so many days and the buildlet has nothing to do
    #[arg(long, value_name = "DAYS")]
    reboot_after_days: Option<u64>,
    /// How to reboot
    #[arg(long, value_name = "COMMAND", default_value = "sudo -n reboot")]
    reboot_command: String,
    /// What to log
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// The buildlet's own options, after `--`; `--state` and `--coordinator` are added
    #[arg(last = true)]
    buildlet: Vec<String>,
}

/// Runs stage0 until it is told to end.
pub(crate) async fn run(args: Stage0Args) -> anyhow::Result<()> {
    let telemetry = runtime::telemetry::Config { log: args.log.clone(), ..Default::default() };
    let _telemetry = runtime::telemetry::init("stage0", &telemetry).context("start telemetry")?;
    std::fs::create_dir_all(&args.state).with_context(|| format!("make `{}`", args.state.display()))?;
    let state = args.state.canonicalize().context("open the state folder")?;
    let keys = Keys::in_state(&state);
    let url = args.coordinator.clone().or_else(|| keys.coordinator());
    let url = url.context("`--coordinator` is missing, and the machine is not enrolled")?;
    let authority = args.authority.clone().unwrap_or_else(|| keys.authority.clone());
    let authority = std::fs::read_to_string(&authority)
        .with_context(|| format!("read the farm's authority in `{}`", authority.display()))?;
    let certified = keys.load().ok().and_then(|identity| identity.peer());
    let machine = match certified {
        Some(rpc::Peer::Machine { name, .. }) => name,
        _ => own_name()?,
    };
    let shelf = Shelf::open(&state.join("stage0")).context("open the folder for binaries")?;
    let source = Source::new(&url, proxy_for(&url).as_deref(), authority, (&args.channel, &machine))?;
    let shutdown = CancellationToken::new();
    let mut supervisor = Supervisor::new(args, (url, state), source, shelf, shutdown.clone())?;
    let run = supervisor.run();
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return ended,
        () = runtime::shutdown_signal() => shutdown.cancel(),
    }
    run.await
}
