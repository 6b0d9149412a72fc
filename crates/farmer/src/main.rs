#![doc = include_str!("../README.md")]

use std::process::ExitCode;

use clap::Parser;

mod bisect;
mod build;
mod cli;
mod detect;
mod farm;
mod gomote;
mod logs;
mod machine;
mod maintner;
mod output;
mod progress;
mod publish;
mod retry;
mod tree;
mod try_build;
mod up;
mod why;

fn main() -> ExitCode {
    runtime::keep_few_heaps();
    runtime::install_crypto();
    let args = cli::Args::parse();
    match cli::run(args) {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}
