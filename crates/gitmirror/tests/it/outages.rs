//! What happens when something is not there or breaks.

use gitmirror::{BindError, Server};

use crate::world::{Origin, World, git_in};

#[tokio::test]
async fn an_origin_that_is_not_there_is_named_with_the_next_step_and_holds_up_no_other() {
    let (gone, there) = (Origin::new(), Origin::new());
    let away = gone.path().with_extension("away");
    std::fs::rename(gone.path(), &away).unwrap();
    let world = World::new(vec![gone.config("gone"), there.config("there")]).await;
    let mut watch = world.watch().await;
    watch.until_at("there refs/heads/main", &there.head()).await;
    let status = world.until("gone", |repository| !repository.error.is_empty()).await;
    assert!(status.error.contains("repository `gone` cannot be fetched from `/"), "{}", status.error);
    assert!(status.error.contains("check that the folder is there"), "{}", status.error);
    assert!(status.fetched_at.is_none());
    std::fs::rename(&away, gone.path()).unwrap();
    watch.until_at("gone refs/heads/main", &gone.head()).await;
    world.until("gone", |repository| repository.error.is_empty() && repository.fetched_at.is_some()).await;
    // And it is watched as if nothing had been.
    let next = gone.commit("x", "x");
    watch.until_at("gone refs/heads/main", &next).await;
}

#[tokio::test]
async fn an_origin_made_anew_at_the_same_place_is_followed() {
    let origin = Origin::new();
    let world = World::new(vec![crate::remotes::polled(origin.config("one"))]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    std::fs::remove_dir_all(origin.path().join(".git")).unwrap();
    world.until("one", |repository| !repository.error.is_empty()).await;
    assert_eq!(watch.refs.len(), 1, "what is known stays known");
    origin.git(["init", "--quiet", "--initial-branch=main"]);
    let anew = origin.commit("other", "history");
    watch.until_at("one refs/heads/main", &anew).await;
    assert_eq!(world.get(&format!("/archive/one/{anew}.tar")).await.0, http::StatusCode::OK);
    let next = origin.commit("x", "x");
    watch.until_at("one refs/heads/main", &next).await;
}

#[tokio::test]
async fn after_a_restart_refs_and_commits_are_there_without_the_origin() {
    let origin = Origin::new();
    let commit = origin.head();
    let mut world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until_at("one refs/heads/main", &commit).await;
    world.until("one", |repository| repository.fetched_at.is_some()).await;
    world.stop().await;
    let config = origin.config("one");
    drop(origin);
    world.start(vec![config], |_| {}).await;
    let mut watch = world.watch().await;
    watch.checkpoint().await;
    assert_eq!(watch.refs.get("one refs/heads/main"), Some(&commit));
    assert_eq!(world.get(&format!("/archive/one/{commit}.tar")).await.0, http::StatusCode::OK);
}

#[tokio::test]
async fn a_broken_mirror_is_made_anew() {
    let origin = Origin::new();
    let mut world = World::new(vec![origin.config("one")]).await;
    world.until("one", |repository| repository.fetched_at.is_some()).await;
    world.stop().await;
    let mirror = world.mirror("one");
    std::fs::remove_dir_all(mirror.join("objects")).unwrap();
    std::fs::create_dir_all(mirror.join("objects")).unwrap();
    std::fs::write(mirror.join("refs/heads/odd"), "nonsense").unwrap();
    let commit = origin.commit("x", "x");
    world.start(vec![origin.config("one")], |_| {}).await;
    world.watch().await.until_at("one refs/heads/main", &commit).await;
    world.until("one", |repository| repository.fetched_at.is_some() && repository.error.is_empty()).await;
    git_in(&mirror, ["fsck", "--full"]);
    assert_eq!(git_in(&mirror, ["rev-parse", "refs/heads/main"]), commit);
}

#[tokio::test]
async fn locks_that_a_killed_git_left_behind_do_no_harm() {
    let origin = Origin::new();
    let mut world = World::new(vec![origin.config("one")]).await;
    world.until("one", |repository| repository.fetched_at.is_some()).await;
    world.stop().await;
    let mirror = world.mirror("one");
    for lock in ["packed-refs.lock", "refs/heads/main.lock", "shallow.lock"] {
        std::fs::write(mirror.join(lock), "").unwrap();
    }
    let commit = origin.commit("x", "x");
    world.start(vec![origin.config("one")], |_| {}).await;
    let status = world.until("one", |it| it.fetched_at.is_some() || !it.error.is_empty()).await;
    assert_eq!(status.error, "");
    assert_eq!(git_in(&mirror, ["rev-parse", "refs/heads/main"]), commit);
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let world = World::new(vec![]).await;
    let second = Server::bind(world.config(vec![])).await;
    assert!(matches!(second.err(), Some(BindError::Held(_))));
}

#[tokio::test]
async fn an_odd_ref_in_the_origin_leaves_the_others_alone() {
    let origin = Origin::new();
    origin.git(["branch", "good"]);
    let world = World::new(vec![origin.config("one")]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 2).await;
    // A branch whose commit does not exist, as after a crash.
    std::fs::write(origin.path().join(".git/refs/heads/bad"), format!("{}\n", "1".repeat(40))).unwrap();
    let next = origin.commit("x", "x");
    watch.until_at("one refs/heads/main", &next).await;
    assert!(!watch.refs.contains_key("one refs/heads/bad"));
}
