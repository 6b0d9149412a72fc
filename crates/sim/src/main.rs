//! `cargo xtask sim` runs this.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sim::main(&sim::Args::parse())
}
