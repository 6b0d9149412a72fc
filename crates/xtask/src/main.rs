#![doc = include_str!("../README.md")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod around;
mod bench;
mod codegen;
mod ports;
mod sim;
mod stopwatch;
mod test;
mod tidy;

use around::{root, say};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What a developer runs")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Generate `crates/api/src/gen` from `proto/`.
    Codegen {
        /// Only say whether it is up to date.
        #[arg(long)]
        check: bool,
    },
    /// Check what the compiler cannot: layers, purity of core modules, sizes, licences.
    Tidy {
        /// Write the crate and call graph to `docs/graph.txt`: the new edges are then up for review.
        #[arg(long)]
        write_graph: bool,
    },
    /// Run every check and test: what CI runs.
    Test {
        /// Also the tests that take long: each up to this many minutes, or however long.
        #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "1000000")]
        long: Option<u32>,
    },
    /// Simulate whole farms, each from a seed: `--seeds N`, `--first N`, `--seed N --trace`, `--mutations`.
    Sim {
        /// For the simulator: `cargo xtask sim --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build, run or type-check the buildlet for the ports that are named, or all, as docs/ports.toml says; write docs/ports.md.
    Ports(ports::Args),
    /// Run benchmarks in release mode. Without a name: list them.
    Bench {
        /// Which.
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = root();
    let result = match Args::parse().task {
        Task::Codegen { check } => codegen::run(&root, check),
        Task::Tidy { write_graph } => tidy::run(&root, write_graph),
        Task::Test { long } => test::run(&root, long),
        Task::Sim { arguments } => sim::run(&root, true, &arguments),
        Task::Ports(args) => ports::run(&root, &args),
        Task::Bench { names } => bench::run(&root, &names),
    };
    if let Err(error) = result {
        say(&format!("cargo xtask: {error:#}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
