//! What watchers of refs see.

use crate::world::{Origin, World, git_in};

#[tokio::test]
async fn a_watcher_gets_all_refs_then_a_checkpoint_then_every_move() {
    let origin = Origin::new();
    let first = origin.head();
    origin.git(["tag", "light"]);
    origin.git(["tag", "-a", "-m", "x", "annotated"]);
    origin.git(["tag", "-a", "-m", "x", "of-a-tag", "annotated"]);
    let blob = origin.git(["rev-parse", "HEAD:README"]);
    origin.git(["tag", "of-a-file", &blob]);
    let world = World::new(vec![origin.config("x/one")]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 4).await;
    watch.checkpoint().await;
    let mut late = world.watch().await;
    late.checkpoint().await;
    assert_eq!(late.refs, watch.refs);
    let names: Vec<_> = watch.refs.keys().map(|key| key.strip_prefix("x/one refs/").unwrap()).collect();
    assert_eq!(names, ["heads/main", "tags/annotated", "tags/light", "tags/of-a-tag"]);
    assert!(watch.refs.values().all(|commit| *commit == first), "tags are peeled");

    let second = origin.commit("README", "again\n");
    watch.until_at("x/one refs/heads/main", &second).await;
    late.until_at("x/one refs/heads/main", &second).await;

    origin.git(["reset", "--quiet", "--hard", &first]);
    let forced = origin.commit("other", "x");
    watch.until_at("x/one refs/heads/main", &forced).await;

    origin.git(["branch", "a"]);
    watch.until_at("x/one refs/heads/a", &forced).await;
    origin.git(["branch", "-D", "a"]);
    origin.git(["branch", "a/b"]);
    origin.git(["tag", "-d", "light"]);
    watch.until_at("x/one refs/heads/a/b", &forced).await;
    watch
        .until(|refs| !refs.contains_key("x/one refs/heads/a") && !refs.contains_key("x/one refs/tags/light"))
        .await;
}

#[tokio::test]
async fn an_empty_repository_is_mirrored_and_its_first_commit_is_told() {
    let origin = Origin::empty();
    let world = World::new(vec![origin.config("one")]).await;
    let mut watch = world.watch().await;
    watch.checkpoint().await;
    assert!(watch.refs.is_empty());
    let empty = world.until("one", |repository| repository.fetched_at.is_some()).await;
    assert_eq!((empty.default_branch.as_str(), empty.error.as_str()), ("", ""));
    let commit = origin.commit("README", "x");
    watch.until_at("one refs/heads/main", &commit).await;
    assert_eq!(world.repository("one").await.default_branch, "refs/heads/main");
}

#[tokio::test]
async fn packing_moves_no_ref_and_packed_refs_are_followed() {
    let origin = Origin::new();
    let first = origin.head();
    for branch in ["a", "b", "c/d"] {
        origin.git(["branch", branch]);
    }
    let world = World::new(vec![origin.config("one")]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 4).await;
    origin.git(["gc", "--quiet"]);
    origin.git(["pack-refs", "--all", "--prune"]);
    origin.git(["branch", "-D", "a"]);
    watch.until(|refs| refs.len() == 3).await;
    assert!(watch.refs.values().all(|commit| *commit == first));
    let second = origin.commit("x", "x");
    watch.until_at("one refs/heads/main", &second).await;
}

#[tokio::test]
async fn the_mirror_itself_soon_has_what_was_told_and_drops_what_is_gone() {
    let origin = Origin::new();
    origin.git(["branch", "a"]);
    let world = World::new(vec![origin.config("one")]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 2).await;
    let second = origin.commit("x", "x");
    origin.git(["branch", "-D", "a"]);
    watch.until(|refs| refs.len() == 1 && refs.values().all(|commit| *commit == second)).await;
    let mirror = world.mirror("one");
    let deadline = tokio::time::Instant::now() + crate::world::DEADLINE;
    let expected = format!("{second} refs/heads/main");
    loop {
        let refs = git_in(&mirror, ["for-each-ref", "--format=%(objectname) %(refname)"]);
        if refs == expected {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {refs}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    git_in(&mirror, ["fsck", "--full", "--strict"]);
}

#[tokio::test]
async fn a_linked_working_tree_and_a_bare_repository_are_origins_too() {
    let origin = Origin::new();
    let linked = origin.path().join("linked");
    origin.git(["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    let bare = tempfile::tempdir().unwrap();
    git_in(bare.path(), ["clone", "--quiet", "--bare", origin.path().to_str().unwrap(), "."]);
    let mut of_linked = origin.config("linked");
    of_linked.origin = linked.to_str().unwrap().parse().unwrap();
    let mut of_bare = origin.config("bare");
    of_bare.origin = bare.path().to_str().unwrap().parse().unwrap();
    let world = World::new(vec![of_linked, of_bare]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 4).await;
    assert_eq!(
        world.until("linked", |it| !it.default_branch.is_empty()).await.default_branch,
        "refs/heads/side"
    );
    std::fs::write(linked.join("new"), "x").unwrap();
    git_in(&linked, ["add", "new"]);
    git_in(&linked, ["commit", "--quiet", "-m", "new"]);
    let commit = git_in(&linked, ["rev-parse", "HEAD"]);
    watch.until_at("linked refs/heads/side", &commit).await;
    git_in(&linked, ["push", "--quiet", bare.path().to_str().unwrap(), "side"]);
    watch.until_at("bare refs/heads/side", &commit).await;
}

#[tokio::test]
async fn a_shallow_clone_is_an_origin_too() {
    let origin = Origin::new();
    for number in 0..5 {
        origin.commit("README", format!("{number}"));
    }
    let shallow = tempfile::tempdir().unwrap();
    let url = format!("file://{}", origin.path().display());
    git_in(shallow.path(), ["clone", "--quiet", "--depth=2", &url, "."]);
    let mut config = origin.config("one");
    config.origin = shallow.path().to_str().unwrap().parse().unwrap();
    let world = World::new(vec![config]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    assert_eq!(crate::commits::list(&world, "one", &[&origin.head()], &[], 0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn repositories_come_and_go_while_it_runs() {
    let (one, two) = (Origin::new(), Origin::new());
    let world = World::new(vec![one.config("one")]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &one.head()).await;
    world.handle().set_repositories(vec![one.config("one"), two.config("two")]).await;
    watch.until_at("two refs/heads/main", &two.head()).await;
    world.handle().set_repositories(vec![two.config("two")]).await;
    watch.until(|refs| refs.keys().all(|key| key.starts_with("two "))).await;
    assert_eq!(world.get(&format!("/archive/one/{}.tar", one.head())).await.0, http::StatusCode::NOT_FOUND);
    let commit = two.commit("x", "x");
    watch.until_at("two refs/heads/main", &commit).await;
}
