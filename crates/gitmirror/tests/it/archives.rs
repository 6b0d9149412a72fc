//! Archives over HTTP, compared with those of git.

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use http::StatusCode;
use tempfile::TempDir;

use crate::world::{Origin, World, git_command};

/// Unpacks with GNU tar.
fn unpack(bytes: &[u8], how: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar")
        .args(["-x", "-p", how, "-f", "-"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    dir
}

/// Every file of a folder with its kind, whether it runs, its time and its content.
fn list(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if data.is_symlink() {
                lines.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else if data.is_dir() {
                lines.push(format!("{name}/"));
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                let runs = data.permissions().mode() & 0o111 != 0;
                lines.push(format!("{name} {runs} {} {}", data.mtime(), String::from_utf8_lossy(&content)));
            }
        }
    }
    lines.sort();
    lines
}

fn git_archive(origin: &Origin, commit: &str) -> TempDir {
    let out = git_command(origin.path()).args(["archive", "--format=tar", commit]).output().unwrap();
    assert!(out.status.success());
    unpack(&out.stdout, "--no-same-owner")
}

fn everything() -> Origin {
    let origin = Origin::new();
    origin.write("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(origin.path().join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../README", origin.path().join("link")).unwrap();
    std::os::unix::fs::symlink("t/".repeat(120), origin.path().join("long link")).unwrap();
    origin.write("ünï/cödé \"q\"\n.txt", "ü");
    origin.write("-rf", "not an option");
    origin.write(&format!("{}/{}", "deep/".repeat(60), "n".repeat(180)), "long");
    origin.write("empty", "");
    origin.write("big", "0123456789abcdef".repeat(100_000));
    origin.write("a/b", "x");
    origin.write("a.b", "sorts between a and a/");
    origin.commit_all("everything");
    origin
}

#[tokio::test]
async fn an_archive_holds_what_git_archive_puts_there() {
    let origin = everything();
    let commit = origin.head();
    let world = World::new(vec![origin.config("x/one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    let expected = list(git_archive(&origin, &commit).path());
    let (status, plain) = world.get(&format!("/archive/x/one/{commit}.tar")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(list(unpack(&plain, "--no-same-owner").path()), expected);
    let (_, packed) = world.get(&format!("/archive/x/one/{commit}.tar.gz")).await;
    assert_eq!(list(unpack(&packed, "--gzip").path()), expected);
    let (_, packed) = world.get(&format!("/archive/x/one/{commit}.tar.zst")).await;
    let mut reader = async_compression::tokio::bufread::ZstdDecoder::new(&packed[..]);
    let mut unpacked = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut unpacked).await.unwrap();
    assert_eq!(unpacked, plain);
    // From the cache, the same bytes.
    assert_eq!(world.get(&format!("/archive/x/one/{commit}.tar")).await.1, plain);
}

#[tokio::test]
async fn submodules_are_left_out_and_empty_trees_are_folders() {
    let origin = Origin::new();
    let head = origin.head();
    let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    origin.git(["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let listing = format!("160000 commit {head}\tmodule\n040000 tree {empty}\tnothing\n");
    let tree = with_input(&origin, &["mktree"], listing.as_bytes());
    let commit = origin.git(["commit-tree", "-m", "x", &tree]);
    origin.git(["branch", "odd", &commit]);
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 2).await;
    let (_, bytes) = world.get(&format!("/archive/one/{commit}.tar")).await;
    assert_eq!(list(unpack(&bytes, "--no-same-owner").path()), ["nothing/"]);
}

#[tokio::test]
async fn a_large_tree_streams_whole() {
    let origin = Origin::new();
    for number in 0..1000 {
        origin.write(&format!("d{}/e{}/f{number}", number % 7, number % 30), format!("{number}\n"));
    }
    let commit = origin.commit_all("many");
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.values().all(|at| *at == commit) && !refs.is_empty()).await;
    let paths: Vec<_> = (0..4).map(|_| format!("/archive/one/{commit}.tar")).collect();
    let (first, second, third, fourth) =
        tokio::join!(world.get(&paths[0]), world.get(&paths[1]), world.get(&paths[2]), world.get(&paths[3]));
    assert!(first == second && second == third && third == fourth);
    assert_eq!(list(unpack(&first.1, "--no-same-owner").path()), list(git_archive(&origin, &commit).path()));
}

#[tokio::test]
async fn a_tree_that_leads_elsewhere_is_never_served_as_a_whole() {
    let origin = Origin::new();
    let blob = origin.git(["rev-parse", "HEAD:README"]);
    let raw = |name: &str| {
        let mut tree = format!("100644 {name}\0").into_bytes();
        tree.extend((0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()));
        tree
    };
    let mut commits = Vec::new();
    for (number, name) in ["..", "../evil", "/etc/evil", ".git", ""].into_iter().enumerate() {
        let tree =
            with_input(&origin, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &raw(name));
        let commit = origin.git(["commit-tree", "-m", "x", &tree]);
        std::fs::write(origin.path().join(format!(".git/refs/heads/evil{number}")), format!("{commit}\n"))
            .unwrap();
        commits.push(commit);
    }
    let world = World::new(vec![origin.config("one")]).await;
    for commit in commits {
        let error = world.get_error(&format!("/archive/one/{commit}.tar")).await;
        assert!(!error.is_empty());
    }
    assert_eq!(world.get(&format!("/archive/one/{}.tar", origin.head())).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_or_no_name_is_refused() {
    let origin = Origin::new();
    let commit = origin.head();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    let strange = "1".repeat(40);
    let tree = origin.git(["rev-parse", "HEAD^{tree}"]);
    for (path, status, words) in [
        (format!("one/{strange}.tar"), StatusCode::NOT_FOUND, "UNKNOWN_COMMIT"),
        (format!("one/{tree}.tar"), StatusCode::NOT_FOUND, "UNKNOWN_COMMIT"),
        (format!("two/{commit}.tar"), StatusCode::NOT_FOUND, "UNKNOWN_REPOSITORY"),
        ("one/HEAD.tar".to_owned(), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
        (format!("one/{commit}.zip"), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
        (format!("one/--output={commit}.tar"), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
        (format!("..%2Fone/{commit}.tar"), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
        (format!("one%00/{commit}.tar"), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
        (format!("one/{commit}"), StatusCode::BAD_REQUEST, "BAD_ARCHIVE_NAME"),
    ] {
        let (found, body) = world.get(&format!("/archive/{path}")).await;
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(found == status && body.contains(words), "{path}: {found} {body}");
    }
}

fn with_input(origin: &Origin, arguments: &[&str], input: &[u8]) -> String {
    let mut git = git_command(origin.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(input).unwrap();
    let out = git.wait_with_output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}
