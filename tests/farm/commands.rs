//! The command line against a running farm.

use testkit::{Farm, Options};

use crate::simple;

#[tokio::test]
async fn a_try_builds_the_working_tree_and_exits_by_its_outcome() {
    let repository = simple("cat source", "grep -q good source");
    repository.commit("good", &[("source", "good")]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;

    repository.write(&[("source", "good and uncommitted")]);
    let good = farm.command(repository.path(), &["try"]);
    let (log, words) = (String::from_utf8_lossy(&good.stdout), String::from_utf8_lossy(&good.stderr));
    assert_eq!(good.status.code(), Some(0), "{log}{words}");
    assert!(log.contains("good and uncommitted"), "the log is on standard output: {log}");

    repository.write(&[("source", "bad")]);
    let bad = farm.command(repository.path(), &["try"]);
    assert_eq!(bad.status.code(), Some(1), "{}", String::from_utf8_lossy(&bad.stderr));
    let made = farm.command(repository.path(), &["try", "--stop-after", "make"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(repository.git(&["status", "--porcelain"]), " M source", "the work tree is as it was");

    let unknown = farm.command(repository.path(), &["try", "--builder", "no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no-such"));
}

#[tokio::test]
async fn builds_are_listed_shown_and_asked_for() {
    let repository = simple("true", "echo ok");
    let farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    let list = farm.command(repository.path(), &["builds"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("passed"));
    let logs = farm.command(repository.path(), &["logs", "1"]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains("ok"));
    let again = farm.command(repository.path(), &["build", "main"]);
    assert_eq!(
        again.status.code(),
        Some(0),
        "a build that exists is answered: {}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert_eq!(farm.builds().len(), 1);
    let missing = farm.command(repository.path(), &["builds", "99"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[tokio::test]
async fn no_farm_is_an_infrastructure_error_with_the_next_step() {
    let repository = simple("true", "true");
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(farm_binary())
        .args(["builds", "--data"])
        .arg(folder.path())
        .current_dir(repository.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("farmer up"));
}

fn farm_binary() -> std::path::PathBuf {
    testkit::farm::binary("farmer")
}
