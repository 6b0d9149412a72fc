//! What lies in a folder here: all of it, or what git does not ignore.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use types::Timestamp;

use buildlet_client::{TreeEntry, TreeEntryKind};

use crate::output;

/// Files and links below a folder, in order, but for what git keeps for itself. Paths have `/` between their parts.
pub(super) fn everything(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let here = folder.join(&below);
        let entries = std::fs::read_dir(&here).with_context(|| format!("read `{}`", here.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read `{}`", here.display()))?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .with_context(|| format!("`{}` has a name that is not UTF-8", entry.path().display()))?;
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            match entry.file_type().with_context(|| format!("read `{path}`"))? {
                kind if kind.is_dir() && name == ".git" => {}
                kind if kind.is_dir() => folders.push(path),
                _ => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files and links of a work tree that git keeps or would keep; all of a folder that is none.
pub(super) fn wanted(folder: &Path) -> anyhow::Result<Vec<String>> {
    if !is_work_tree(folder) {
        return everything(folder);
    }
    let mut git = git(folder);
    let listed = git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output();
    let listed = listed.context("start git")?;
    if !listed.status.success() {
        bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let text = String::from_utf8(listed.stdout).context("a file has a name that is not UTF-8")?;
    // One that is removed and not yet committed is listed too; so is each side of a conflict, and a submodule's folder.
    let there = |path: &&str| folder.join(path).symlink_metadata().is_ok_and(|found| !found.is_dir());
    let all: BTreeSet<&str> = text.split('\0').filter(|path| !path.is_empty()).filter(there).collect();
    Ok(all.into_iter().map(str::to_owned).collect())
}

fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    git
}

fn is_work_tree(folder: &Path) -> bool {
    let mut git = git(folder);
    let asked = git.args(["rev-parse", "--is-inside-work-tree"]).stderr(Stdio::null()).output();
    asked.is_ok_and(|asked| asked.status.success() && asked.stdout.starts_with(b"true"))
}

/// Which of some paths, folders with a slash at their end, git ignores.
pub(super) fn ignored(folder: &Path, paths: &[String]) -> anyhow::Result<BTreeSet<String>> {
    if paths.is_empty() || !is_work_tree(folder) {
        return Ok(BTreeSet::new());
    }
    let mut git = git(folder);
    git.args(["check-ignore", "-z", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = git.spawn().context("start git")?;
    let mut stdin = child.stdin.take().context("write to git")?;
    let text = paths.join("\0");
    // It answers while it reads, so that both ends must be served.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let answer = child.wait_with_output().context("read from git")?;
    // One that ended early says why by its status.
    let _ = writer.join();
    match answer.status.code() {
        Some(0 | 1) => {}
        _ => return Err(output::infrastructure("`git check-ignore` failed")),
    }
    let text = String::from_utf8(answer.stdout).context("read from git")?;
    Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Files and links as a machine would list them, with the folders that they are in. Reads every file.
pub(super) fn entries(folder: &Path, paths: &[String]) -> anyhow::Result<Vec<TreeEntry>> {
    let mut all = Vec::with_capacity(paths.len());
    let mut folders = BTreeSet::new();
    for path in paths {
        for (at, _) in path.match_indices('/') {
            if folders.insert(path[..at].to_owned()) {
                all.push(entry(&path[..at], TreeEntryKind::Folder, 0o755));
            }
        }
        let file = folder.join(path);
        let read = || -> std::io::Result<TreeEntry> {
            let metadata = file.symlink_metadata()?;
            if metadata.is_symlink() {
                let target = std::fs::read_link(&file)?.to_string_lossy().into_owned();
                return Ok(entry(path, TreeEntryKind::Link(target), 0));
            }
            let mut hasher = blake3::Hasher::new();
            let size = std::io::copy(&mut std::fs::File::open(&file)?, &mut hasher)?;
            let digest = Some(hasher.finalize().to_hex().to_string());
            Ok(entry(path, TreeEntryKind::File { size, digest }, mode(&metadata)))
        };
        all.push(read().with_context(|| format!("read `{}`", file.display()))?);
    }
    Ok(all)
}

fn entry(path: &str, kind: TreeEntryKind, mode: u32) -> TreeEntry {
    TreeEntry { path: path.to_owned(), kind, mode, modified: Timestamp(0) }
}

fn mode(metadata: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    plain(metadata.permissions().mode())
}

/// What git keeps of a file's mode.
pub(super) fn plain(mode: u32) -> u32 {
    if mode & 0o100 == 0 { 0o644 } else { 0o755 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [("a/b", "1"), ("a/c.o", "2"), (".gitignore", "*.o\n/out/\n"), ("out/x", "3")] {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_git_ignores_is_left_out() {
        let folder = tree();
        assert_eq!(wanted(folder.path()).unwrap(), [".gitignore", "a/b", "a/c.o", "out/x"]);
        assert!(git(folder.path()).args(["init", "--quiet"]).status().unwrap().success());
        assert_eq!(wanted(folder.path()).unwrap(), [".gitignore", "a/b"]);
        let there = ["a/", "a/d.o", "out/", "e"].map(str::to_owned);
        let ignored = ignored(folder.path(), &there).unwrap();
        assert_eq!(ignored.into_iter().collect::<Vec<_>>(), ["a/d.o", "out/"]);
    }

    #[test]
    fn entries_have_their_folders_and_digests() {
        let folder = tree();
        let all = entries(folder.path(), &["a/b".to_owned()]).unwrap();
        assert_eq!(all[0].kind, TreeEntryKind::Folder);
        let digest = Some(blake3::hash(b"1").to_hex().to_string());
        assert_eq!((all[1].kind.clone(), all[1].mode), (TreeEntryKind::File { size: 1, digest }, 0o644));
    }
}
