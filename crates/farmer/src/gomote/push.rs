//! `farmer gomote push`: makes a session's source what the work tree here is. Only what changed is sent, by digests; what
//! git ignores here, such as what a build left, stays there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use api::coordinator::{FileEntry, FileKind, Session};
use buildlet_client::{Changes, TreeEntry, TreeEntryKind, changes};

use super::{
    Client, Targets,
    archive::{self, Packed},
    cli::PushArgs,
    each, files, say, walk,
};
use crate::{output, tree};

/// What is left alone: what git keeps for itself and, in the work folder, what commands have as their home and for
/// temporary files.
const KEPT: [&str; 3] = [".git", "home", "tmp"];

/// What is to be brought where.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    from: Option<PathBuf>,
    to: Option<String>,
    dry_run: bool,
}

/// Runs `farmer gomote push`.
pub(super) async fn run(args: PushArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    if let Some(word) = targets.words.first() {
        return Err(output::usage(format!("`{word}` is no session")));
    }
    push(&targets, &Wanted { from: args.from, to: args.to, dry_run: args.dry_run }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Brings what has changed to sessions.
pub(super) async fn push(targets: &Targets, wanted: &Wanted) -> anyhow::Result<()> {
    let here = std::env::current_dir().context("find the current folder")?;
    let folder = match &wanted.from {
        Some(from) => from.clone(),
        None => tree::root(&here).unwrap_or(here),
    };
    let local = walk::entries(&folder, &walk::wanted(&folder)?)?;
    let (local, folder) = (&local, &folder);
    let told =
        each(targets, |client, session| async move { one(&client, &session, folder, local, wanted).await });
    for (session, told) in targets.sessions.iter().zip(told.await?) {
        say(format!("{}: {told}", session.name));
    }
    Ok(())
}

async fn one(
    client: &Client,
    session: &Session,
    folder: &Path,
    local: &[TreeEntry],
    wanted: &Wanted,
) -> anyhow::Result<String> {
    let to = wanted.to.as_ref().unwrap_or(&session.source_folder);
    let to = if to == "." { "" } else { to.trim_matches('/') };
    let found = there(client, session, to).await?;
    let Changes { remove, write } = changes(local, &kept_out(folder, found)?);
    let files: Vec<&TreeEntry> = changed(local, &write);
    let bytes: u64 = files.iter().map(|entry| size(entry)).sum();
    let told = format!(
        "{} to send ({} KiB), {} to remove, {} as they are",
        files.len(),
        bytes.div_ceil(1024),
        remove.len(),
        local.iter().filter(|entry| entry.kind != TreeEntryKind::Folder).count() - files.len()
    );
    if wanted.dry_run {
        for path in &remove {
            output::line(format!("- {path}"))?;
        }
        for entry in &files {
            output::line(format!("+ {}", entry.path))?;
        }
        return Ok(told);
    }
    if !remove.is_empty() {
        let below = |path: &String| if to.is_empty() { path.clone() } else { format!("{to}/{path}") };
        files::remove(client, &session.name, &remove.iter().map(below).collect::<Vec<_>>()).await?;
    }
    if !files.is_empty() {
        let packed = |entry: &&TreeEntry| Packed { file: folder.join(&entry.path), name: entry.path.clone() };
        archive::send_files(client, &session.name, to, files.iter().map(packed).collect()).await?;
    }
    Ok(told)
}

/// The files and links of what is to be written; folders come with what is in them.
fn changed<'l>(local: &'l [TreeEntry], write: &[String]) -> Vec<&'l TreeEntry> {
    let write: BTreeSet<&str> = write.iter().map(String::as_str).collect();
    let wanted =
        |entry: &&TreeEntry| entry.kind != TreeEntryKind::Folder && write.contains(entry.path.as_str());
    local.iter().filter(wanted).collect()
}

fn size(entry: &TreeEntry) -> u64 {
    match entry.kind {
        TreeEntryKind::File { size, .. } => size,
        TreeEntryKind::Folder | TreeEntryKind::Link(_) => 0,
    }
}

/// What lies there; nothing if the folder is not made yet.
async fn there(client: &Client, session: &Session, folder: &str) -> anyhow::Result<Vec<TreeEntry>> {
    let exclude = KEPT[..if folder.is_empty() { 3 } else { 1 }].iter().map(ToString::to_string);
    let exclude: Vec<String> = exclude.collect();
    match files::list(client, &session.name, folder, &exclude, true).await {
        Ok(entries) => Ok(entries.into_iter().map(entry).collect()),
        Err(error) if !folder.is_empty() => {
            let (above, name) = folder.rsplit_once('/').unwrap_or(("", folder));
            let above = files::list(client, &session.name, above, &exclude, false).await;
            match above {
                Ok(entries) if entries.iter().any(|entry| entry.path == name) => Err(error),
                _ => Ok(Vec::new()),
            }
        }
        Err(error) => Err(error),
    }
}

fn entry(entry: FileEntry) -> TreeEntry {
    let (kind, mode) = match entry.kind() {
        FileKind::Folder => (TreeEntryKind::Folder, 0o755),
        FileKind::Link => (TreeEntryKind::Link(entry.target), 0),
        FileKind::File | FileKind::Unspecified => {
            let digest = (!entry.digest.is_empty()).then_some(entry.digest);
            (TreeEntryKind::File { size: entry.size, digest }, walk::plain(entry.mode))
        }
    };
    TreeEntry { path: entry.path, kind, mode, modified: types::Timestamp(0) }
}

/// Leaves out of what is there what git ignores here, and the folders that it lies in: none of that is to go.
fn kept_out(folder: &Path, found: Vec<TreeEntry>) -> anyhow::Result<Vec<TreeEntry>> {
    let slashed = |entry: &TreeEntry| match entry.kind {
        TreeEntryKind::Folder => format!("{}/", entry.path),
        _ => entry.path.clone(),
    };
    let ignored = walk::ignored(folder, &found.iter().map(slashed).collect::<Vec<_>>())?;
    let mut stays: BTreeSet<&str> = BTreeSet::new();
    for path in &ignored {
        let path = path.trim_end_matches('/');
        stays.insert(path);
        stays.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
    }
    Ok(found.into_iter().filter(|entry| !stays.contains(entry.path.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, kind: TreeEntryKind) -> TreeEntry {
        TreeEntry { path: path.to_owned(), kind, mode: 0o644, modified: types::Timestamp(0) }
    }

    #[test]
    fn what_a_build_left_stays_and_what_was_removed_here_goes() {
        let folder = tempfile::tempdir().unwrap();
        std::process::Command::new("git").arg("init").arg("-q").arg(folder.path()).status().unwrap();
        std::fs::write(folder.path().join(".gitignore"), "*.o\n/out/\n").unwrap();
        let file = || TreeEntryKind::File { size: 1, digest: Some("1".to_owned()) };
        let found = vec![
            named("a", TreeEntryKind::Folder),
            named("a/old", file()),
            named("a/x.o", file()),
            named("out", TreeEntryKind::Folder),
            named("out/y", file()),
        ];
        let found = kept_out(folder.path(), found).unwrap();
        assert_eq!(changes(&[], &found).remove, ["a/old"]);
    }

    #[test]
    fn folders_are_not_sent_for_their_own_sake() {
        let local = [named("d", TreeEntryKind::Folder), named("d/l", TreeEntryKind::Link("x".to_owned()))];
        let write = ["d".to_owned(), "d/l".to_owned()];
        assert_eq!(changed(&local, &write).len(), 1);
    }
}
