//! The commands beside running a buildlet, and the way from a command line to either.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context as _;
use runtime::Failure;

use crate::{doctor, enroll, golang, stage0};

/// What else this program does.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Get this machine its certificate
    Enroll(enroll::EnrollArgs),
    /// Say what is wrong with this machine, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Keep a buildlet running that is always the one the farm has published
    Stage0(stage0::Stage0Args),
}

/// Our command line, also for one in the style of the Go project's buildlet.
///
/// # Errors
/// When that style's options cannot be used.
pub fn command_line(args: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<OsString>> {
    let around =
        golang::Surroundings { variable: &|name| std::env::var(name).ok(), exists: &|path| path.exists() };
    golang::translate(args.collect(), &around)
        .map_err(|text| Failure::Configuration.of(anyhow::anyhow!(text)))
        .context("read the command line")
}

/// Runs a command; answers its exit code.
pub fn run_command(command: Command) -> ExitCode {
    let started =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime");
    let ran = started.and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Enroll(args) => {
                    enroll::run(args).await.context("enrol this machine").map(|()| ExitCode::SUCCESS)
                }
                Command::Doctor(args) => doctor::run(args).await.context("examine this machine"),
                Command::Stage0(args) => {
                    stage0::run(args).await.context("run stage0").map(|()| ExitCode::SUCCESS)
                }
            }
        })
    });
    ran.unwrap_or_else(|error| runtime::exit_with("buildlet", &error))
}
