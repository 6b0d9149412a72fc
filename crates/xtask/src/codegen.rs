//! Generates `crates/api/src/gen` from `proto/`, without protoc.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use prost::Message;

/// Writes the generated code, or with `check` compares it with what is there.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let folder = root.join("crates/api/src/gen");
    let fresh = tempfile::tempdir().context("make a temporary folder")?;
    generate(&root.join("proto"), fresh.path())?;
    if check {
        return compare(fresh.path(), &folder);
    }
    for old in files(&folder)? {
        std::fs::remove_file(&old).with_context(|| format!("remove `{}`", old.display()))?;
    }
    for new in files(fresh.path())? {
        let to = folder.join(new.file_name().context("a file has a name")?);
        std::fs::copy(&new, &to).with_context(|| format!("write `{}`", to.display()))?;
    }
    Ok(())
}

fn generate(proto: &Path, out: &Path) -> anyhow::Result<()> {
    let mut sources = Vec::new();
    protos(proto, &mut sources)?;
    sources.sort();
    let descriptors = protox::compile(&sources, [proto]).context("compile proto/")?;
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).context("write descriptors")?;
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .context("generate code")
}

fn protos(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read `{}`", folder.display()))? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

fn compare(fresh: &Path, folder: &Path) -> anyhow::Result<()> {
    let names = |folder| -> anyhow::Result<Vec<_>> {
        Ok(files(folder)?.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect())
    };
    ensure!(
        names(fresh)? == names(folder)?,
        "crates/api/src/gen holds other files than proto/ gives: run `cargo xtask codegen`"
    );
    for name in names(fresh)? {
        let same = std::fs::read(fresh.join(&name))? == std::fs::read(folder.join(&name))?;
        ensure!(
            same,
            "crates/api/src/gen/{} is not what proto/ gives: run `cargo xtask codegen`",
            name.display()
        );
    }
    Ok(())
}
