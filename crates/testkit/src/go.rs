//! Go's own maintner, as a program that follows a log and counts: `tests/real/go-maintner`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::skipped;

/// Builds it into a folder, or says what is missing. The module is fetched as any Go module is.
pub fn maintner(test: &str, folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real/go-maintner");
    let program = folder.join("go-maintner");
    let output = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    match output {
        Err(_) => skipped(test, "Go 1.26", "install it from https://go.dev/dl"),
        Ok(output) if !output.status.success() => {
            let why = String::from_utf8_lossy(&output.stderr);
            let what = format!("module `golang.org/x/build` ({})", why.lines().last().unwrap_or_default());
            skipped(test, &what, "needs the Go module proxy");
        }
        Ok(_) => return Some(program),
    }
    None
}
