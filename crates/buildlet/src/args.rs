//! The command line, and the way from it to a running buildlet.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use runtime::Failure;
use tokio_util::sync::CancellationToken;
use types::{HostType, MachineName};

use crate::{
    Config, Contact, Isolation, Reuse, Server, Tier,
    command::command_line,
    enroll::{Asking, TokenFile, own_name},
    keeper,
    keys::Keys,
    platform,
};

/// Builds for a farm's coordinator: runs commands and keeps files for it, and leaves nothing behind.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Dial this coordinator and take its calls over that connection; again and again, if it is lost. Of several replicas all
    /// URLs, with commas between [default: where the machine was enrolled]
    #[arg(long, value_name = "URL", conflicts_with = "listen")]
    pub coordinator: Option<String>,
    /// Wait for the coordinator to call here: over TLS, or without on a loopback address
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// This machine's name, stable over restarts [default: the one it was enrolled with]
    #[arg(long)]
    pub name: Option<MachineName>,
    /// A host type that this machine serves; may be repeated [default: those it was enrolled for]
    #[arg(long = "host-type", value_name = "TYPE")]
    pub host_types: Vec<HostType>,
    /// The folder that builds work in. It belongs to the buildlet, which EMPTIES it
    #[arg(long, value_name = "DIR", required_unless_present = "keeper")]
    pub work: Option<PathBuf>,
    /// The folder for the buildlet's own state: its lock, its journal and the output of execs
    #[arg(long, value_name = "DIR", required_unless_present = "keeper")]
    pub state: Option<PathBuf>,
    /// This machine's certificate, its key and the farm's authority: three PEM files [default: what `buildlet enroll` kept
    /// in the state folder]
    #[arg(long, value_names = ["CERTIFICATE", "KEY", "AUTHORITY"], num_args = 3)]
    pub identity: Vec<PathBuf>,
    /// A key of its host type (`farmer key`), with which the machine enrols itself when it has no certificate that is good
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "listen"])]
    pub key: Option<PathBuf>,
    /// How the machine is kept clean: `wiped` empties the work folder after each build, `shared` keeps the home folder
    /// in it with its caches, `never` ends the buildlet after one build
    #[arg(long, default_value = "wiped")]
    pub reuse: Reuse,
    /// What the farm may run here: `full`, or `community`, which refuses what was not reviewed and submitted
    #[arg(long, default_value = "full")]
    pub tier: Tier,
    /// Without a coordinator for this long, the buildlet ends its execs, and, with --exit-when-orphaned (as the buildlets
    /// of `farmer up` have it), itself
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub orphan_after: Duration,
    /// End when orphaned; see --orphan-after
    #[arg(long)]
    pub exit_when_orphaned: bool,
    /// Give builds this variable, with a value, or the one it has here; may be repeated
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,
    /// End an exec when less than this is free, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub disk_floor: u64,
    /// How execs are kept apart from the machine: `none`, but that they cannot see what is hidden from them, or
    /// `namespaces`: processes, network and temporary files of their own, and nothing for writing but the work folder
    #[arg(long, default_value = "none")]
    pub isolation: Isolation,
    /// Hide this file or folder from execs, besides the machine's key and the buildlet's state; may be repeated
    #[arg(long, value_name = "PATH")]
    pub hide: Vec<PathBuf>,
    /// Processes that an exec may have, with their threads where control groups count them
    #[arg(long, value_name = "COUNT", default_value_t = 8192)]
    pub max_processes: u32,
    /// Memory that an exec may use, in MiB; as much as there is unless set
    #[arg(long, value_name = "MIB")]
    pub max_memory: Option<u64>,
    /// What the work folder may hold, in MiB; as much as there is room for unless set
    #[arg(long, value_name = "MIB")]
    pub max_work: Option<u64>,
    /// How to reboot this machine, for example `sudo -n reboot`; without it, it cannot be asked to
    #[arg(long, value_name = "COMMAND")]
    pub reboot_command: Option<String>,
    /// How to switch this machine off
    #[arg(long, value_name = "COMMAND")]
    pub power_off_command: Option<String>,
    /// What to log, for example `info` or `buildlet=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Only say whether the options are right
    #[arg(long)]
    pub check_config: bool,
    /// Somebody replaces this buildlet when it ends because it is too old
    #[arg(long, hide = true)]
    pub supervised: bool,
    /// Be the keeper of the buildlet at the other end of standard input; buildlets start this themselves
    #[arg(long, hide = true)]
    pub keeper: bool,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// Runs a buildlet until it is told to end, is drained, or is orphaned. Must be called before the process has threads:
/// the buildlet starts the same command line once more, with `--keeper`, for a process that must have but one.
///
/// # Errors
/// When the options cannot be used or the buildlet cannot go on; `runtime::exit_with` knows the exit code.
pub fn run(args: Args) -> anyhow::Result<()> {
    private();
    if args.keeper {
        return keeper::serve(&args).context("keep execs");
    }
    let check_only = args.check_config;
    if !check_only {
        enrol_by_key(&args).context("enrol this machine")?;
    }
    let config = Config::from_args(args, keeper_command()?)?;
    if check_only {
        return Ok(());
    }
    // One thread: calls wait for each other, the network and the keeper, and handing them from thread to thread costs more
    // than they do. What computes or waits for the disk has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(16)
        .thread_name("buildlet")
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve(config))
}

/// Enrols a machine that has a host type's key and no certificate that is good: the first time, or after it was away for
/// long.
fn enrol_by_key(args: &Args) -> anyhow::Result<()> {
    let (Some(key), Some(state), Some(url)) = (&args.key, &args.state, &args.coordinator) else {
        return Ok(());
    };
    let keys = Keys::in_state(state);
    let ends = keys.load().ok().and_then(|identity| identity.validity()).map(|(_, ends)| ends);
    if ends.is_some_and(|ends| ends > runtime::system_clock().now()) {
        return Ok(());
    }
    let file = TokenFile::read(key).map_err(|error| Failure::Configuration.of(error))?;
    let asking = Asking {
        url: url.clone(),
        authority: file.authority,
        token: file.secret,
        name: args.name.clone().map_or_else(own_name, Ok)?,
        host_types: args.host_types.clone(),
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?.block_on(
        async {
            let certificate = asking.until_signed(&keys, Duration::MAX).await?;
            asking.keep(&keys, &certificate)
        },
    )
}

/// Keeps this process's memory and environment, with the machine's key, from other processes of the same user: builds
/// are such. And makes files as builds expect them, whatever the machine's owner is used to.
fn private() {
    if let Err(error) = platform::hide_memory() {
        tracing::warn!("cannot hide this process from builds: {error}");
    }
    platform::make_files_as_usual();
}

/// This very command line, in our own style, as the keeper.
fn keeper_command() -> anyhow::Result<Vec<OsString>> {
    let program = std::env::current_exe().context("find this program")?;
    let arguments = command_line(std::env::args_os())?.into_iter().skip(1);
    Ok([program.into_os_string()].into_iter().chain(arguments).chain(["--keeper".into()]).collect())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = runtime::telemetry::Config { log: config.log.clone(), ..Default::default() };
    let _telemetry = runtime::telemetry::init("buildlet", &telemetry).context("start telemetry")?;
    let contact = match &config.contact {
        Contact::Dial { url, .. } => format!("dials {url}"),
        Contact::Listen { address, .. } => format!("listens on {address}"),
    };
    let server = Server::bind(config).await.context("start")?;
    tracing::info!("buildlet {contact}");
    let shutdown = CancellationToken::new();
    let signalled = shutdown.clone();
    let run = server.run(shutdown);
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return ended,
        () = runtime::shutdown_signal() => signalled.cancel(),
    }
    run.await
}
