//! Where the workspace is, and how to speak to whoever runs this.

use std::path::{Path, PathBuf};

/// The top of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("xtask lies two folders down").to_owned()
}

/// Says a line to whoever runs this. Standard output, so that it keeps its place between the lines of tests.
#[expect(clippy::print_stdout, reason = "a developer's tool talks to the terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
