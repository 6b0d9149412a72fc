//! Entry point: parse, then [`buildlet::run`] or one of the commands beside it.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "buildlet",
    version,
    about,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(flatten)]
    args: buildlet::Args,
    #[command(subcommand)]
    command: Option<buildlet::Command>,
}

fn main() -> ExitCode {
    runtime::keep_few_heaps();
    runtime::install_crypto();
    let cli = match buildlet::command_line(std::env::args_os()) {
        Ok(words) => Cli::parse_from(words),
        Err(error) => return runtime::exit_with("buildlet", &error),
    };
    match cli.command {
        Some(command) => buildlet::run_command(command),
        None => match buildlet::run(cli.args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => runtime::exit_with("buildlet", &error),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_command_has_two_options_of_one_name() {
        Cli::command().debug_assert();
    }
}
