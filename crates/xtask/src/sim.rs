//! The simulator: in release mode for those who want many seeds, as compiled anyway for `cargo xtask test`.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

/// Builds and runs it.
pub(crate) fn run(root: &Path, release: bool, arguments: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--locked", "--quiet", "-p", "sim"]);
    command.args(release.then_some("--release")).arg("--").args(arguments);
    let status = command.current_dir(root).status().context("run the simulator")?;
    if !status.success() {
        bail!("the simulator has found something");
    }
    Ok(())
}
