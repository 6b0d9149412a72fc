//! `cargo xtask sim` runs this.

use std::process::ExitCode;

use clap::Parser;

/// A seed makes and frees small things by the million, on one thread each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sim::main(&sim::Args::parse())
}
