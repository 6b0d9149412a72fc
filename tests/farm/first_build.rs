//! A commit is made and built; the next one is noticed at once.

use std::time::Duration;

use testkit::{Farm, Options};

use crate::simple;

#[tokio::test]
async fn head_is_built_and_so_is_the_next_commit() {
    let repository = simple("echo made of $(cat source)", "echo tested");
    let farm = Farm::start(repository.path(), Options::default()).await;
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    assert_eq!(builds.len(), 1, "one builder, one commit: {builds:#?}");
    let log = farm.page("/log/1.txt").await;
    assert!(log.contains("made of 1") && log.contains("tested"), "{log}");

    let commit = repository.commit("second", &[("source", "2")]);
    let builds = farm.wait_for_builds(|builds| builds.len() == 2 && builds[0]["outcome"] == "passed").await;
    assert_eq!(builds[0]["commit"], commit.as_str());
    assert_eq!(builds[0]["subject"], "second");
    assert!(farm.page("/log/2.txt").await.contains("made of 2"));
}

#[tokio::test]
async fn of_a_repository_with_a_past_only_the_newest_commit_is_built() {
    let repository = simple("true", "true");
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.import(3, |number| ("source".to_owned(), format!("{number}")));
    repository.git(&["merge", "--quiet", "--ff-only", "imported"]);
    let head = repository.git(&["rev-parse", "HEAD"]);
    for old in ["refs/tags/v1", "refs/remotes/origin/main"] {
        repository.git(&["update-ref", old, first.trim()]);
    }
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| !builds.is_empty()).await;
    // What follows is numbered after all that the repository's past led to.
    repository.commit("the next", &[("source", "next")]);
    let builds =
        farm.wait_for_builds(|builds| builds.iter().any(|build| build["subject"] == "the next")).await;
    let commits: Vec<_> = builds.iter().map(|build| build["commit"].as_str()).collect();
    assert_eq!((commits.len(), commits[1]), (2, Some(head.trim())), "{builds:#?}");
}

#[tokio::test]
async fn a_failing_test_fails_the_build_and_the_page_says_where() {
    let repository = simple("true", "echo about to fail; echo the reason >&2; exit 7");
    let farm = Farm::start(repository.path(), Options::default()).await;
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert_eq!(builds[0]["outcome"], "failed");
    let page = farm.page("/build/1").await;
    assert!(page.contains("the reason"), "the failing lines are on the build's page");
    let why = farm.command(repository.path(), &["why", "1"]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("the reason"));
    assert!(farm.builds()[0]["attempts"].as_array().is_some_and(Vec::is_empty), "a failure is not retried");
    assert_eq!(farm.build(1)["attempts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn every_page_answers_in_html_and_json() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    for path in ["/", "/build/1", "/log/1", "/farm", "/builders", "/recent"] {
        assert!(farm.page(path).await.contains("<!doctype html>"), "{path}");
    }
    for path in ["/.json", "/build/1.json", "/log/1.json", "/farm.json", "/builders.json", "/recent.json"] {
        assert!(farm.json(path).await.is_object(), "{path}");
    }
}

#[tokio::test]
async fn ctrl_c_stops_cleanly_and_leaves_no_buildlet() {
    let repository = simple("true", "echo ok");
    let mut farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    assert_eq!(farm.buildlets().len(), 2);
    assert_eq!(farm.stop(), Some(0));
    let gone = async {
        while !farm.buildlets().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("buildlets end with the farm");
}
