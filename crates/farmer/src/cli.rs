//! The words of the command line, and which module answers each.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};

use crate::{
    bisect, build, detect, farm::Location, gomote, logs, machine, maintner, publish, retry, try_build, up,
    why,
};

/// Builds and tests every commit on machines of your own.
#[derive(Debug, Parser)]
#[command(name = "farmer", version, about, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole farm on this machine
    Up(up::Args),
    /// Write a `farmer.toml` that fits what is in a folder
    Init(detect::Args),
    /// Ask the farm to build a commit
    Build(build::BuildArgs),
    /// List builds, or show one
    Builds(build::BuildsArgs),
    /// Print the log of a build
    Logs(logs::Args),
    /// Say which commit broke a test, though it also fails by chance
    Bisect(bisect::Args),
    /// Begin builds again that have ended
    Retry(retry::Args),
    /// Say why a build failed or what it waits for, how a test fares, or how the tries of a change stand
    Why(why::Args),
    /// Build the working tree of the current folder, uncommitted changes included
    Try(try_build::Args),
    /// Hold a machine of the farm for yourself, to find out why a build fails there
    Gomote(Box<gomote::Args>),
    /// Follow, serve, check or import the mutation log
    Maintner(maintner::Args),
    /// Run the agent of a machine, or say which agent machines are to run
    Buildlet(Box<BuildletArgs>),
    /// Say which machines may build for the farm
    Machine(machine::Args),
    /// Make a key with which machines of a host type enrol themselves
    Key(machine::KeyArgs),
    /// Print a script that completes commands in your shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `farmer buildlet`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct BuildletArgs {
    #[command(flatten)]
    buildlet: buildlet::Args,
    /// Leave the session of the terminal, to outlive who started this
    #[arg(long, hide = true)]
    own_session: bool,
    #[command(subcommand)]
    command: Option<BuildletCommand>,
}

/// What `farmer buildlet` does beside running one.
#[derive(Debug, Subcommand)]
enum BuildletCommand {
    #[command(flatten)]
    Ours(publish::Command),
    #[command(flatten)]
    Machine(buildlet::Command),
}

/// Where the farm is: on this machine by its data folder, elsewhere by its address.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FarmArgs {
    /// The data folder of a farm on this machine [default: the farm of this repository, or the only one that runs]
    #[arg(long, env = "FARMER_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The address of a farm elsewhere; of several replicas all, with commas between
    #[arg(long, env = "FARMER_URL", value_name = "URL", conflicts_with = "data")]
    pub(crate) farm: Option<String>,
    /// A file that holds the token for that farm
    #[arg(long, env = "FARMER_TOKEN_FILE", value_name = "FILE", requires = "farm")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON, one document or one line for each event
    #[arg(long)]
    pub(crate) json: bool,
}

impl FarmArgs {
    /// Finds the farm.
    pub(crate) fn location(&self) -> anyhow::Result<Location> {
        Location::find(self)
    }
}

/// Runs the command; the exit code is 0 passed, 1 failed, 2 usage, 3 infrastructure.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Up(args) => Ok(up::run(args)),
        Command::Init(args) => detect::run(&args),
        Command::Buildlet(args) => run_buildlet(*args),
        Command::Machine(args) => client(machine::run(args)),
        Command::Key(args) => client(machine::key(args)),
        Command::Build(args) => client(build::request(args)),
        Command::Builds(args) => client(build::list_or_show(args)),
        Command::Logs(args) => client(logs::run(args)),
        Command::Gomote(args) => client(gomote::run(*args)),
        Command::Bisect(args) => client(bisect::run(args)),
        Command::Retry(args) => client(retry::run(args)),
        Command::Why(args) => client(why::run(args)),
        Command::Maintner(args) => client(maintner::run(args)),
        Command::Try(args) => client(try_build::run(args)),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "farmer", &mut script);
            std::io::stdout().write_all(&script).context("write to standard output")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_buildlet(args: BuildletArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(BuildletCommand::Ours(command)) => return client(publish::run(command)),
        Some(BuildletCommand::Machine(command)) => return Ok(buildlet::run_command(command)),
        None => {}
    }
    if args.own_session && !args.buildlet.keeper {
        // Fails only for a process that leads a group already, and that one has left.
        let _ = rustix::process::setsid();
    }
    Ok(match buildlet::run(args.buildlet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("buildlet", &error),
    })
}

fn client(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_has_two_options_of_one_name() {
        Args::command().debug_assert();
    }
}
