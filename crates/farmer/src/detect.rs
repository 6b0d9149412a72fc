//! `farmer init`: writes the `farmer.toml` that fits what is in a folder.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use crate::output;

/// Arguments of `farmer init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Print it instead of writing it
    #[arg(long)]
    print: bool,
}

/// Runs `farmer init`.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found = buildspec::detect(&|path| args.folder.join(path).is_file()).ok_or_else(|| {
        output::usage(format!(
            "`{}` holds none of Cargo.toml, go.mod, package.json, CMakeLists.txt and Makefile: \
             write a farmer.toml by hand",
            args.folder.display()
        ))
    })?;
    if args.print {
        output::line(found.text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.folder.join("farmer.toml");
    write_new(&file, found.text)?;
    output::line(format!(
        "wrote {} for {}; see it, commit it, and the farm builds by it",
        file.display(),
        found.what
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    let mut open = match open {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(output::usage(format!(
                "`{}` is there already: --print shows the proposal",
                file.display()
            )));
        }
        other => other.with_context(|| format!("create `{}`", file.display()))?,
    };
    open.write_all(text.as_bytes()).with_context(|| format!("write `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("farmer.toml");
        write_new(&file, "one").unwrap();
        assert!(write_new(&file, "two").is_err());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
    }
}
