//! `farmer maintner`: the mutation log from the command line.

mod endpoint;
mod query;
mod stats;
mod status;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use maintner::{
    Log, Options,
    log::{ImportError, OpenError, Report, import, verify},
};
use maintnerd::{LogsConfig, logs_router};
use runtime::Tasks;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{farm, output};

/// How long requests in progress may take when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// Arguments of `farmer maintner`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check every record, hash and count of a log
    Verify(VerifyArgs),
    /// Serve a log to followers at `/logs`, as Go's maintner does
    Serve(ServeArgs),
    /// Copy a log of Go's maintner into a new folder, and check it
    Import(ImportArgs),
    /// Print mutations as they are appended
    Watch(watch::Args),
    /// Say how much there is of everything, in a folder or at a farm
    Stats(stats::Args),
    /// Say how fresh each source of a farm's log is, and what is wrong
    Status(status::Args),
    /// Ask what the log says now: refs, commits, changes, issues
    Query(query::Args),
    /// Write a certificate with which a bot may follow the log of a farm on this machine
    Certificate(CertificateArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The folder of the log, which may be in use
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// The folder of the log; nobody else may write it meanwhile
    dir: PathBuf,
    /// Where to listen, a loopback address; port 0 chooses one
    #[arg(long, default_value = "127.0.0.1:8799", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where copies of frozen segments lie, if they are to be fetched from there
    #[arg(long, value_name = "URL")]
    frozen_at: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The folder to copy from: days, or numbered segments
    from: PathBuf,
    /// The new folder
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CertificateArgs {
    /// The folder to write `ca.pem`, `NAME.pem` and `NAME.key` to
    dir: PathBuf,
    /// The bot's name
    #[arg(long, default_value = "bot")]
    name: String,
    /// The data folder of the farm [default: the farm of this repository, or the only one that runs]
    #[arg(long, env = "FARMER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs `farmer maintner`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Verify(args) => {
            let dir = args.dir.clone();
            let report = spawn_blocking(move || verify(&dir)).await?.map_err(refused)?;
            print(&report, args.json)
        }
        Command::Import(args) => {
            let imported = spawn_blocking(move || import(&args.from, &args.to)).await?;
            let report = imported.map_err(|error| match error {
                ImportError::NotEmpty(_) | ImportError::Nothing(_) => output::usage(error.to_string()),
                ImportError::Open(error) => refused(error),
            })?;
            print(&report, args.json)
        }
        Command::Serve(args) => serve(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Stats(args) => stats::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Query(args) => query::run(args).await,
        Command::Certificate(args) => certificate(&args),
    }
}

/// A log that cannot be used. The cause is said too.
fn refused(error: OpenError) -> anyhow::Error {
    anyhow::Error::new(error).context("use the log")
}

fn print(report: &Report, as_json: bool) -> anyhow::Result<ExitCode> {
    let Report { segments, mutations, bytes, problems } = report;
    if as_json {
        let problem = |problem: &maintner::log::Problem| json!({ "file": problem.path, "offset": problem.offset, "what": problem.what });
        let problems: Vec<_> = problems.iter().map(problem).collect();
        let answer =
            json!({ "segments": segments, "mutations": mutations, "bytes": bytes, "problems": problems });
        output::line(answer.to_string())?;
    } else {
        for problem in problems {
            let place = problem.offset.map_or_else(String::new, |offset| format!(" at {offset}"));
            output::line(format!("{}{place}: {}", problem.path.display(), problem.what))?;
        }
        let verdict = match problems.len() {
            0 => "all is well".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        output::line(format!("{mutations} mutations, {bytes} bytes, {segments} segments: {verdict}"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
}

fn certificate(args: &CertificateArgs) -> anyhow::Result<ExitCode> {
    let (address, identity) = farm::local_maintnerd(args.data.as_deref(), &args.name)?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("create `{}`", args.dir.display()))?;
    identity.save(&args.dir, &args.name).context("write the certificate")?;
    output::line(format!("good for {address}; whoever has the key can pass for a service of the farm"))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let log = spawn_blocking(move || Log::open(&args.dir, Options::default())).await?.map_err(refused)?;
    let tasks = Tasks::new(CancellationToken::new());
    let config = LogsConfig { frozen_at: args.frozen_at, ..LogsConfig::default() };
    let server = rpc::Server::new("logs", tasks.clone())
        .plain_loopback()
        .http(logs_router(log.clone(), config, tasks.shutdown()))
        .bind(args.listen)
        .await
        .context("serve the log")?;
    let extent = log.extent();
    output::line(format!(
        "http://{}/logs serves {} mutations, {} bytes",
        server.addr(),
        extent.position,
        extent.bytes
    ))?;
    server.start();
    runtime::shutdown_signal().await;
    tasks.shutdown().cancel();
    tasks.finish(GRACE).await?;
    log.close().await;
    Ok(ExitCode::SUCCESS)
}
