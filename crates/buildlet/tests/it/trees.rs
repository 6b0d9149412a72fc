//! Trees on their way in and out.

use std::{fs, os::unix::fs::symlink, path::Path};

use axum::{Router, http::StatusCode, routing::get};
use buildlet_client::{ArchiveFormat, Error};
use bytes::Bytes;
use futures_util::stream;
use runtime::Tasks;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Farm, Machine, error, names};

fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn chunks(bytes: &[u8]) -> stream::Iter<std::vec::IntoIter<Bytes>> {
    stream::iter(bytes.chunks(1000).map(Bytes::copy_from_slice).collect::<Vec<_>>())
}

/// A server of archives that takes only clients of the farm.
async fn server(farm: &Farm) -> (String, DropGuard) {
    let shutdown = CancellationToken::new();
    let archive = tar(&[("dir/a", "hello"), ("b", "world")]);
    let (plain, zipped) = (archive.clone(), gzip(&archive));
    let zstandard = zstd::encode_all(archive.as_slice(), 1).unwrap();
    let router = Router::new()
        .route("/a.tar", get(async || plain))
        .route("/a.tar.gz", get(async || zipped))
        .route("/a.tar.zst", get(async || zstandard))
        .route("/bad.tar.gz", get(async || "no archive"))
        .route("/broken.tar", get(async || StatusCode::BAD_GATEWAY));
    let server = rpc::Server::new("archives", Tasks::new(shutdown.clone()))
        .tls(&farm.service("gitmirror"))
        .http(router);
    let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("https://{}", bound.addr());
    bound.start();
    (url, shutdown.drop_guard())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_fetched_with_the_machines_certificate() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (url, _server) = server(&farm).await;
    let lease = machine.lease();
    for ending in ["tar", "tar.gz", "tar.zst"] {
        let fetched =
            machine.client.fetch_tree(lease, &format!("{url}/a.{ending}"), ending, None).await.unwrap();
        assert_eq!(fetched.entries, 2);
        assert!(fetched.bytes > 0);
        assert_eq!(fs::read_to_string(farm.work().join(ending).join("dir/a")).unwrap(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_says_why() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (url, server) = server(&farm).await;
    let lease = machine.lease();
    let fetch = |path: String, digest: Option<String>| {
        let client = machine.client.clone();
        async move { client.fetch_tree(lease, &path, "src", digest.as_deref()).await }
    };
    let archive = tar(&[("dir/a", "hello"), ("b", "world")]);
    let digest = blake3::hash(&archive).to_hex().to_string();
    fetch(format!("{url}/a.tar"), Some(digest)).await.unwrap();
    let wrong = error(fetch(format!("{url}/a.tar"), Some("0".repeat(64))).await);
    assert!(matches!(wrong, Error::WrongDigest(_)), "{wrong:?}");
    let refused = error(fetch(format!("{url}/none.tar"), None).await);
    assert!(matches!(refused, Error::FetchRefused(_)), "{refused:?}");
    let failed = error(fetch(format!("{url}/broken.tar"), None).await);
    assert!(matches!(failed, Error::FetchFailed(_)) && failed.is_transient(), "{failed:?}");
    let bad = error(fetch(format!("{url}/bad.tar.gz"), None).await);
    assert!(matches!(bad, Error::BadArchive(_)), "{bad:?}");
    for url in ["ftp://127.0.0.1/a.tar", "https://127.0.0.1/a.zip", "nonsense"] {
        let refused = error(fetch(url.to_owned(), None).await);
        assert!(matches!(&refused, Error::Other { reason, .. } if reason == "BAD_REQUEST"), "{refused:?}");
    }
    drop(server);
    let gone = error(fetch("https://127.0.0.1:9/a.tar".to_owned(), None).await);
    assert!(matches!(gone, Error::FetchFailed(_)), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_read_can_be_written_again() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let script = "mkdir -p src/sub/empty src/skip; echo hi >src/sub/file; ln -s sub/file src/link; chmod +x src/sub/file; \
                  head -c 3000000 /dev/urandom >src/random; echo no >src/skip/file; head -c 100 src/random >src/sub/part";
    machine.run(lease, script).await;
    let (chunks, digest) = read(&machine, lease, "src", &["skip", "sub/part"]).await;
    assert!(chunks.len() > 3, "it came in one piece");
    assert_eq!(digest, blake3::hash(&chunks.concat()).to_hex().to_string());
    let written =
        machine.client.write_tree(lease, "again", ArchiveFormat::TarZst, stream::iter(chunks)).await.unwrap();
    assert_eq!(written, 5);
    let compare = "rm -r src/skip src/sub/part; diff -r src again && readlink again/link && test -x again/sub/file && test -d again/sub/empty && echo same";
    assert_eq!(machine.run(lease, compare).await.1, "sub/file\nsame\n");
}

async fn read(
    machine: &Machine,
    lease: buildlet_client::Lease,
    folder: &str,
    exclude: &[&str],
) -> (Vec<Bytes>, String) {
    let exclude: Vec<_> = exclude.iter().map(|&path| path.to_owned()).collect();
    let mut tree = machine.client.read_tree(lease, folder, &exclude).await.unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = tree.next().await {
        chunks.push(chunk.unwrap());
    }
    (chunks, tree.digest().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_or_read_outside_the_work_folder() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let outside = farm.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    machine.run(lease, "mkdir in").await;
    symlink(&outside, farm.work().join("out")).unwrap();
    symlink("..", farm.work().join("in/up")).unwrap();
    symlink("../..", farm.work().join("in/upup")).unwrap();
    let client = &machine.client;
    let archive = tar(&[("x", "x")]);
    for folder in ["/tmp", "..", "in/../..", "out", "out/x", "in/upup/outside", "a\0b"] {
        let refused = error(client.write_tree(lease, folder, ArchiveFormat::Tar, chunks(&archive)).await);
        assert!(matches!(refused, Error::BadPath(_)), "{folder}: {refused:?}");
        let refused = error(client.read_tree(lease, folder, &[]).await);
        assert!(matches!(refused, Error::BadPath(_)), "{folder}: {refused:?}");
        let spec = buildlet_client::ExecSpec { folder: folder.to_owned(), ..crate::harness::sh("true") };
        let refused = error(client.start_exec(lease, crate::harness::new_exec(), &spec).await);
        assert!(matches!(refused, Error::BadPath(_)), "{folder}: {refused:?}");
    }
    for name in ["../x", "/tmp/farmer-escape-x", "out/x", "in/upup/outside/x"] {
        let refused =
            error(client.write_tree(lease, "", ArchiveFormat::Tar, chunks(&tar(&[(name, "x")]))).await);
        assert!(matches!(refused, Error::BadArchive(_)), "{name}: {refused:?}");
    }
    assert_eq!(names(&outside), Vec::<String>::new());
    assert!(!Path::new("/tmp/farmer-escape-x").exists());
    // Within the work folder links are as good as folders.
    client.write_tree(lease, "in/up/new", ArchiveFormat::Tar, chunks(&archive)).await.unwrap();
    assert_eq!(fs::read_to_string(farm.work().join("new/x")).unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_short_or_no_archive_is_refused_and_the_machine_goes_on() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let archive = tar(&[("a", &"x".repeat(5000))]);
    let client = &machine.client;
    let cut = error(client.write_tree(lease, "a", ArchiveFormat::Tar, chunks(&archive[..3000])).await);
    assert!(matches!(cut, Error::BadArchive(_)), "{cut:?}");
    let zipped = gzip(&archive);
    let cut =
        error(client.write_tree(lease, "a", ArchiveFormat::TarGz, chunks(&zipped[..zipped.len() / 2])).await);
    assert!(matches!(cut, Error::BadArchive(_)), "{cut:?}");
    let nothing = error(client.read_tree(lease, "none", &[]).await);
    assert!(matches!(&nothing, Error::Other { reason, .. } if reason == "NO_FOLDER"), "{nothing:?}");
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
    client.end_lease(lease).await.unwrap();
    let stale = error(client.read_tree(crate::harness::lease(1), "", &[]).await);
    assert!(stale.is_stale_lease(), "{stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_holds_more_than_the_work_folder_may_is_refused_and_the_machine_goes_on() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--max-work", "1"]).await;
    let lease = machine.lease();
    let bomb = gzip(&tar(&[("a", &"x".repeat(50 << 20))]));
    assert!(bomb.len() < 1 << 20);
    let full = error(machine.client.write_tree(lease, "t", ArchiveFormat::TarGz, chunks(&bomb)).await);
    assert!(matches!(&full, Error::Other { reason, .. } if reason == "DISK_FULL"), "{full:?}");
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
    let next = machine.lease();
    assert_eq!(machine.run(next, "echo fine").await.1, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_lease_ends_a_tree_that_hangs() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let archive = tar(&[("a", "x")]);
    let begun = stream::iter(vec![Bytes::copy_from_slice(&archive[..700])]);
    let hanging = futures_util::StreamExt::chain(begun, stream::pending());
    let client = machine.client.clone();
    let writing = async { client.write_tree(lease, "a", ArchiveFormat::Tar, hanging).await };
    let ending = async {
        crate::harness::until("the tree has begun", || farm.work().join("a").exists()).await;
        machine.client.end_lease(lease).await
    };
    let (written, ended) = tokio::join!(writing, ending);
    assert!(error(written).is_stale_lease());
    ended.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
}
