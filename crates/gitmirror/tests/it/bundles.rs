//! Uploads of commits that are on no host.

use std::time::Duration;

use api::gitmirror::{BundleHeader, UploadBundleRequest, upload_bundle_request::Part};
use runtime::FakeClock;
use tonic::{Code, Status};
use types::Timestamp;

use crate::world::{DEADLINE, Origin, World, git_in};

struct Work {
    origin: Origin,
    clone: Origin,
    world: World,
}

/// A farm, its origin, and a clone with a commit that the origin does not have.
async fn work() -> (Work, String) {
    let origin = Origin::new();
    origin.commit("a", "1");
    let clone = Origin { dir: tempfile::tempdir().unwrap() };
    clone.git(["clone", "--quiet", origin.path().to_str().unwrap(), "."]);
    let commit = clone.commit("try", "me");
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    (Work { origin, clone, world }, commit)
}

fn bundle(clone: &Origin, arguments: &[&str]) -> Vec<u8> {
    let path = clone.path().join("x.bundle");
    clone.git(
        ["bundle", "create", "--quiet", path.to_str().unwrap()].into_iter().chain(arguments.iter().copied()),
    );
    std::fs::read(path).unwrap()
}

async fn upload(world: &World, id: &str, commit: &str, bytes: &[u8]) -> Result<String, Status> {
    upload_to(world.client(), "one", id, commit, bytes).await
}

async fn upload_to(
    mut client: api::gitmirror::mirror_service_client::MirrorServiceClient<rpc::Channel>,
    repository: &str,
    id: &str,
    commit: &str,
    bytes: &[u8],
) -> Result<String, Status> {
    let header = BundleHeader { repository: repository.into(), request_id: id.into(), commit: commit.into() };
    let part = |part| UploadBundleRequest { part: Some(part) };
    let chunks = bytes.chunks(100).map(|chunk| part(Part::Chunk(chunk.to_vec().into())));
    let parts: Vec<_> = [part(Part::Header(header))].into_iter().chain(chunks).collect();
    Ok(client.upload_bundle(futures_util::stream::iter(parts)).await?.into_inner().r#ref)
}

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[tokio::test]
async fn an_uploaded_commit_is_kept_and_served_and_a_repeat_changes_nothing() {
    let (work, commit) = work().await;
    let bytes = bundle(&work.clone, &["HEAD", "^origin/main"]);
    let name = upload(&work.world, &id(1), &commit, &bytes).await.unwrap();
    assert_eq!(name, format!("refs/farmer/try/{}", id(1)));
    assert_eq!(upload(&work.world, &id(1), &commit, &bytes).await.unwrap(), name);
    assert_eq!(work.world.get(&format!("/archive/one/{commit}.tar")).await.0, http::StatusCode::OK);
    let commits =
        crate::commits::list(&work.world, "one", &[&commit], &[&work.origin.head()], 0).await.unwrap();
    assert_eq!(commits.len(), 1);
    // A fetch that prunes leaves it alone, and watchers never hear of it.
    let mut watch = work.world.watch().await;
    let next = work.origin.commit("b", "2");
    watch.until_at("one refs/heads/main", &next).await;
    let mirror = work.world.mirror("one");
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while git_in(&mirror, ["rev-parse", "refs/heads/main"]) != next {
        assert!(tokio::time::Instant::now() < deadline, "never fetched");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(git_in(&mirror, ["rev-parse", &name]), commit);
    assert!(watch.refs.keys().all(|key| !key.contains("farmer")));
}

#[tokio::test]
async fn an_id_brings_one_commit_only() {
    let (work, commit) = work().await;
    upload(&work.world, &id(1), &commit, &bundle(&work.clone, &["HEAD", "^origin/main"])).await.unwrap();
    let other = work.clone.commit("try", "again");
    let bytes = bundle(&work.clone, &["HEAD", "^origin/main"]);
    let status = upload(&work.world, &id(1), &other, &bytes).await.unwrap_err();
    assert_eq!(
        (status.code(), rpc::reason(&status).as_deref()),
        (Code::AlreadyExists, Some("REQUEST_ID_REUSED"))
    );
    upload(&work.world, &id(2), &other, &bytes).await.unwrap();
}

#[tokio::test]
async fn a_bundle_that_builds_on_what_nobody_has_says_so_and_what_to_do() {
    let (work, unpushed) = work().await;
    let commit = work.clone.commit("try", "more");
    let bytes = bundle(&work.clone, &["HEAD", "^HEAD~1"]);
    let status = upload(&work.world, &id(1), &commit, &bytes).await.unwrap_err();
    assert_eq!((status.code(), rpc::reason(&status).as_deref()), (Code::InvalidArgument, Some("BAD_BUNDLE")));
    assert!(
        status.message().contains(&unpushed) && status.message().contains("push that commit"),
        "{status}"
    );
    // Once it is pushed, the same bundle is taken.
    work.clone.git(["push", "--quiet", "origin", &format!("{unpushed}:refs/heads/base")]);
    upload(&work.world, &id(1), &commit, &bytes).await.unwrap();
}

#[tokio::test]
async fn what_is_no_bundle_of_the_commit_is_refused() {
    let (work, commit) = work().await;
    let good = bundle(&work.clone, &["HEAD", "^origin/main"]);
    let mut broken = good.clone();
    let middle = broken.len() - 30;
    broken[middle] ^= 0xff;
    for (bytes, commit) in [
        (&b"hello"[..], commit.as_str()),
        (&[], &commit),
        (&good[..good.len() - 10], &commit),
        (&broken, &commit),
        (&good, &work.origin.head()),
    ] {
        let status = upload(&work.world, &id(1), commit, bytes).await.unwrap_err();
        let shown = (status.code(), rpc::reason(&status).unwrap_or_default());
        assert_eq!(shown, (Code::InvalidArgument, "BAD_BUNDLE".to_owned()), "{status}");
    }
    for (id, commit, reason) in [
        ("x", commit.as_str(), "BAD_REQUEST_ID"),
        ("../../heads/main", &commit, "BAD_REQUEST_ID"),
        (&id(1), "HEAD", "BAD_COMMIT"),
    ] {
        let status = upload(&work.world, id, commit, &good).await.unwrap_err();
        assert_eq!(rpc::reason(&status).as_deref(), Some(reason));
    }
    upload(&work.world, &id(1), &commit, &good).await.unwrap();
    assert_eq!(std::fs::read_dir(work.world.dir.path().join("data/incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn machines_may_read_but_not_upload() {
    let (work, commit) = work().await;
    let client = work.world.client_of_a_machine();
    let bytes = bundle(&work.clone, &["HEAD", "^origin/main"]);
    let status = upload_to(client.clone(), "one", &id(1), &commit, &bytes).await.unwrap_err();
    assert_eq!(
        (status.code(), rpc::reason(&status).as_deref()),
        (Code::PermissionDenied, Some("MACHINES_ONLY_READ"))
    );
    let mut client = client;
    client.list_repositories(api::gitmirror::ListRepositoriesRequest {}).await.unwrap();
}

#[tokio::test]
async fn uploads_are_dropped_after_their_time() {
    let (mut work, commit) = work().await;
    let clock = FakeClock::new(Timestamp::from_seconds(1_700_000_000));
    work.world.stop().await;
    let shared = clock.shared();
    work.world
        .start(vec![work.origin.config("one")], |config| {
            config.clock = shared;
            config.timings.upkeep = Duration::from_millis(20);
        })
        .await;
    work.world.watch().await.until(|refs| refs.len() == 1).await;
    let bytes = bundle(&work.clone, &["HEAD", "^origin/main"]);
    let name = upload(&work.world, &id(1), &commit, &bytes).await.unwrap();
    clock.advance(Duration::from_secs(7 * 24 * 3600 - 1));
    let mirror = work.world.mirror("one");
    let kept = || git_in(&mirror, ["for-each-ref", "--format=%(refname)", "refs/farmer"]);
    // Several rounds of upkeep go by.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(kept(), name);
    clock.advance(Duration::from_secs(1));
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !kept().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
