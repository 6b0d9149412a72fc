//! Files and folders to and from sessions.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use api::coordinator::{
    FileEntry, FileKind, ListFilesRequest, ReadFilesRequest, RemoveFilesRequest, Session,
};
use serde_json::json;

use super::{
    Client, archive,
    archive::Packed,
    cli::{GetArgs, GettarArgs, LsArgs, PutArgs, PuttarArgs, RmArgs},
    each, say, walk,
};
use crate::output;

/// How long large trees may take.
pub(super) const LONG: Duration = Duration::from_mins(10);

/// Runs `farmer gomote put`.
pub(super) async fn put(args: PutArgs) -> anyhow::Result<ExitCode> {
    let mut targets = args.common.targets(args.words).await?;
    let folder = targets.words.pop().filter(|_| !targets.words.is_empty());
    let folder =
        folder.ok_or_else(|| output::usage("say what to copy, and to which folder of the machine"))?;
    let mut files = Vec::new();
    for path in &targets.words {
        files.extend(packed(Path::new(path))?);
    }
    let made = each(&targets, |client, session: Session| {
        let (files, folder) = (files.clone(), folder.clone());
        async move { archive::send_files(&client, &session.name, dot(&folder), files).await }
    })
    .await?;
    for (session, made) in targets.sessions.iter().zip(made) {
        say(format!("{}: {made} files and folders", session.name));
    }
    Ok(ExitCode::SUCCESS)
}

/// The work folder by the name that people give it.
fn dot(folder: &str) -> &str {
    if folder == "." { "" } else { folder.trim_end_matches('/') }
}

/// A file, or a folder with all that is in it, under its own name.
fn packed(path: &Path) -> anyhow::Result<Vec<Packed>> {
    let full = std::path::absolute(path).with_context(|| format!("find `{}`", path.display()))?;
    let name = full.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let name =
        name.ok_or_else(|| output::usage(format!("`{}` has no name to copy it by", path.display())))?;
    let metadata = full.symlink_metadata().with_context(|| format!("read `{}`", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![Packed { file: full, name }]);
    }
    let below = walk::everything(&full)?;
    let one = |path: String| Packed { file: full.join(&path), name: format!("{name}/{path}") };
    Ok(below.into_iter().map(one).collect())
}

/// Runs `farmer gomote get`.
pub(super) async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    let (path, here) = match targets.words.as_slice() {
        [path] => (path.trim_end_matches('/'), PathBuf::from(".")),
        [path, here] => (path.trim_end_matches('/'), PathBuf::from(here)),
        _ => return Err(output::usage("say which file or folder, and at most one folder here")),
    };
    for session in &targets.sessions {
        let here = if targets.sessions.len() == 1 { here.clone() } else { here.join(&session.name) };
        get_one(&targets.client, &session.name, path, &here).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A machine gives whole folders: of the one that the path is in, all but the path is left out.
async fn get_one(client: &Client, session: &str, path: &str, here: &Path) -> anyhow::Result<()> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (folder, exclude) = if matches!(path, "" | ".") {
        ("", Vec::new())
    } else {
        let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> =
            list(client, session, folder, &[], false).await?.iter().map(|entry| top(&entry.path)).collect();
        names.dedup();
        if !names.iter().any(|there| there == name) {
            return Err(output::usage(format!("session `{session}` has no `{path}`")));
        }
        names.retain(|there| there != name);
        (folder, names)
    };
    let archive = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let request = ReadFilesRequest { session: session.to_owned(), folder: folder.to_owned(), exclude };
    archive::receive(client, request, archive.as_file()).await?;
    archive::unpack(archive.path(), here)
}

/// Runs `farmer gomote puttar`.
pub(super) async fn puttar(args: PuttarArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    let [from] = targets.words.as_slice() else {
        return Err(output::usage("say which archive: a file, or `-` for standard input"));
    };
    let folder = dot(&args.dir).to_owned();
    if from == "-" && targets.sessions.len() > 1 {
        return Err(output::usage("standard input can be sent to one session only"));
    }
    for session in &targets.sessions {
        let made = if from == "-" {
            let to = (session.name.as_str(), folder.as_str(), args.format.as_str());
            archive::send_archive(&targets.client, to, std::io::stdin()).await?
        } else {
            let to = (session.name.as_str(), folder.as_str(), format_of(from)?);
            let file = File::open(from).with_context(|| format!("read `{from}`"))?;
            archive::send_archive(&targets.client, to, file).await?
        };
        say(format!("{}: {made} files and folders", session.name));
    }
    Ok(ExitCode::SUCCESS)
}

fn format_of(name: &str) -> anyhow::Result<&'static str> {
    let endings = [(".tar", "tar"), (".tar.gz", "tar.gz"), (".tgz", "tar.gz"), (".tar.zst", "tar.zst")];
    let found = endings.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format);
    found.ok_or_else(|| output::usage(format!("`{name}` is none of .tar, .tar.gz and .tar.zst")))
}

/// Runs `farmer gomote gettar`.
pub(super) async fn gettar(args: GettarArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    for session in &targets.sessions {
        let own = PathBuf::from(format!("{}.tar.zst", session.name));
        match &args.out {
            Some(out) if targets.sessions.len() > 1 => {
                let text = format!("`{}` can hold one session's files only: leave --out out", out.display());
                return Err(output::usage(text));
            }
            Some(out) if out.as_os_str() == "-" => {
                let request = read(&session.name, &args.dir);
                archive::receive(&targets.client, request, std::io::stdout()).await?;
            }
            out => {
                let file = out.clone().unwrap_or(own);
                save_tree(&targets.client, &session.name, dot(&args.dir), &file).await?;
                output::line(file.display().to_string())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(session: &str, folder: &str) -> ReadFilesRequest {
    let (session, folder) = (session.to_owned(), dot(folder).to_owned());
    ReadFilesRequest { session, folder, exclude: Vec::new() }
}

/// Saves a folder of a session; the file is there when it is whole.
pub(super) async fn save_tree(client: &Client, session: &str, folder: &str, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)
        .with_context(|| format!("make a file in `{}`", parent.display()))?;
    archive::receive(client, read(session, folder), &mut file).await?;
    file.flush().context("write the archive")?;
    file.persist(to).with_context(|| format!("write `{}`", to.display()))?;
    Ok(())
}

/// All that lies below a folder of a session.
pub(super) async fn list(
    client: &Client,
    session: &str,
    folder: &str,
    exclude: &[String],
    digests: bool,
) -> anyhow::Result<Vec<FileEntry>> {
    let request = ListFilesRequest {
        session: session.to_owned(),
        folder: folder.to_owned(),
        exclude: exclude.to_vec(),
        digests,
    };
    let answer = client.clone().list_files(request).await.map_err(|status| output::refused(&status))?;
    let mut some = answer.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = some.message().await.map_err(|status| output::refused(&status))? {
        all.extend(answer.entries);
    }
    Ok(all)
}

/// Runs `farmer gomote ls`.
pub(super) async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words.clone()).await?;
    let folder = match targets.words.as_slice() {
        [] => "",
        [folder] => dot(folder),
        _ => return Err(output::usage("one folder is listed at a time")),
    };
    for session in &targets.sessions {
        if targets.sessions.len() > 1 && !args.common.farm.json {
            output::line(format!("{}:", session.name))?;
        }
        for entry in list(&targets.client, &session.name, folder, &args.skip, args.digests).await? {
            if args.recursive || !entry.path.contains('/') {
                show(&entry, &args, session)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(entry: &FileEntry, args: &LsArgs, session: &Session) -> anyhow::Result<()> {
    let kind = match entry.kind() {
        FileKind::Folder => "folder",
        FileKind::Link => "link",
        FileKind::File | FileKind::Unspecified => "file",
    };
    if args.common.farm.json {
        let line = json!({
            "session": session.name, "path": entry.path, "kind": kind, "size": entry.size, "mode": entry.mode,
            "digest": entry.digest, "target": entry.target,
        });
        return output::line(line.to_string());
    }
    let end = match entry.kind() {
        FileKind::Folder => "/".to_owned(),
        FileKind::Link => format!(" -> {}", entry.target),
        FileKind::File | FileKind::Unspecified => String::new(),
    };
    let digest = if args.digests { format!("{:64}  ", entry.digest) } else { String::new() };
    output::line(format!("{:03o} {:>12}  {digest}{}{end}", entry.mode, entry.size, entry.path))
}

/// Runs `farmer gomote rm`.
pub(super) async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    if targets.words.is_empty() {
        return Err(output::usage("say what to remove; `.` is all"));
    }
    let paths = &targets.words;
    each(&targets, |client, session| async move { remove(&client, &session.name, paths).await }).await?;
    Ok(ExitCode::SUCCESS)
}

/// Removes paths of a session.
pub(super) async fn remove(client: &Client, session: &str, paths: &[String]) -> anyhow::Result<()> {
    let request = RemoveFilesRequest { session: session.to_owned(), paths: paths.to_vec() };
    let answer = client.clone().remove_files(rpc::with_deadline(request, LONG)).await;
    answer.map_err(|status| output::refused(&status))?;
    Ok(())
}
