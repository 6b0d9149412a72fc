//! Entry point: parse, then [`buildlet::run`].

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "buildlet", version, about)]
struct Cli {
    #[command(flatten)]
    args: buildlet::Args,
}

fn main() -> ExitCode {
    runtime::install_crypto();
    match buildlet::run(Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => runtime::exit_with("buildlet", &error),
    }
}
