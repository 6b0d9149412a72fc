//! The farm is killed and started again; a buildlet is killed.

use std::time::Duration;

use rustix::process::Signal;
use testkit::{Farm, Options, Repository, farm};
use tokio::time::Instant;

use crate::simple;

#[tokio::test]
async fn a_kill_of_the_farm_kills_no_build() {
    let flags = tempfile::tempdir().unwrap();
    let (pid, go) = (flags.path().join("pid"), flags.path().join("go"));
    let make = format!(
        "echo one; echo $$ > {pid}; while [ ! -e {go} ]; do sleep 0.05; echo tick >> {ticks}; done; echo two",
        pid = pid.display(),
        go = go.display(),
        ticks = flags.path().join("ticks").display(),
    );
    let repository = simple(&make, "echo three");
    let mut farm = Farm::start(repository.path(), Options::default()).await;
    let before = farm::line_in(&pid).await;

    farm.kill();
    assert!(farm::alive(before.parse().unwrap()), "the command runs on");
    farm.start_again().await;
    assert_eq!(farm::line_in(&pid).await, before, "it was not started again");
    std::fs::write(go, "").unwrap();

    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert_eq!((builds.len(), &builds[0]["outcome"]), (1, &"passed".into()), "{builds:#?}");
    assert_eq!(farm.build(1)["attempts"].as_array().map(Vec::len), Some(1), "it is the same attempt");
    let log = farm.page("/log/1.txt").await;
    for line in ["one", "two", "three"] {
        let count = log.lines().filter(|found| *found == line).count();
        assert_eq!(count, 1, "no gap and no repeat of `{line}` in the log:\n{log}");
    }
}

#[tokio::test]
async fn a_kill_of_a_buildlet_requeues_its_work_and_leaves_no_process() {
    let flags = tempfile::tempdir().unwrap();
    let (pid, once) = (flags.path().join("pid"), flags.path().join("once"));
    // The first time it waits to be killed; the second time it passes.
    let make = format!(
        "if [ -e {once} ]; then echo again; else touch {once}; echo $$ > {pid}; sleep 600; fi",
        once = once.display(),
        pid = pid.display(),
    );
    let repository = simple(&make, "echo tested");
    let farm = Farm::start(repository.path(), Options { buildlets: Some(2), ..Options::default() }).await;
    let command: u32 = farm::line_in(&pid).await.parse().unwrap();

    let build = farm.build(1);
    let steps = build["attempts"][0]["steps"].as_array().expect("has steps").clone();
    let machine = steps.iter().filter_map(|step| step["machine"].as_str()).find(|name| !name.is_empty());
    let buildlets = farm.buildlets();
    let found = buildlets.iter().find(|(name, _)| Some(name.as_str()) == machine);
    let (_, buildlet) = found.unwrap_or_else(|| panic!("{machine:?} is none of {buildlets:?}: {build:#}"));
    let killed = Instant::now();
    farm::signal(*buildlet, Signal::KILL);
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "requeued and built again within {:?}",
        killed.elapsed()
    );
    assert_eq!(builds[0]["outcome"], "passed");
    assert!(!farm::alive(command), "no process of the buildlet is left");
    let attempts = farm.build(1)["attempts"].clone();
    assert_eq!(attempts.as_array().map(Vec::len), Some(2), "{attempts:#}");
    assert_eq!(attempts[0]["outcome"], "infrastructure", "the reason is shown: {}", attempts[0]["reason"]);
}

#[tokio::test]
async fn commits_made_while_the_farm_is_down_are_built() {
    let repository: Repository = simple("true", "echo ok");
    let mut farm = Farm::start(repository.path(), Options::default()).await;
    farm.wait_for_builds(|builds| builds.iter().any(|build| build["outcome"] == "passed")).await;
    assert_eq!(farm.stop(), Some(0));
    let commit = repository.commit("second", &[("source", "2")]);
    farm.start_again().await;
    let builds = farm.wait_for_builds(|builds| builds.len() == 2 && builds[0]["outcome"] == "passed").await;
    assert_eq!(builds[0]["commit"], commit.as_str());
}

#[tokio::test]
async fn a_buildlet_left_alone_ends_its_work_and_itself() {
    let flags = tempfile::tempdir().unwrap();
    let pid = flags.path().join("pid");
    let repository = simple(&format!("echo $$ > {}; sleep 600", pid.display()), "true");
    let arguments = vec!["--orphan-after".to_owned(), "3s".to_owned()];
    let mut farm = Farm::start(repository.path(), Options { arguments, buildlets: Some(1) }).await;
    let command: u32 = farm::line_in(&pid).await.parse().unwrap();
    let (_, buildlet) = farm.buildlets().remove(0);

    farm.kill();
    assert!(farm::alive(command) && farm::alive(buildlet), "they outlive the farm for a while");
    let bound = Duration::from_secs(15);
    farm::wait_until("its command ends", bound, || !farm::alive(command)).await;
    farm::wait_until("it ends itself", bound, || !farm::alive(buildlet)).await;
}

#[tokio::test]
async fn a_kill_of_the_farm_amid_shards_repeats_none_and_keeps_their_order() {
    let flags = tempfile::tempdir().unwrap();
    let (go, ran) = (flags.path().join("go"), flags.path().join("ran"));
    let toml = format!(
        r#"
[[builders]]
name = "sharded"
host = "local"
make = ["echo made"]
snapshot = {{ movable = true }}
[builders.tests]
list = "seq 12"
run = "for t in {{tests}}; do echo $t >> {ran}; echo begin $t; while [ ! -e {go} ]; do sleep 0.02; done; echo ran $t; done"
shard_seconds = 3
helpers = 1
"#,
        ran = ran.display(),
        go = go.display(),
    );
    let repository = Repository::with(&[("farmer.toml", &toml)]);
    let mut farm = Farm::start(repository.path(), Options { buildlets: Some(2), ..Options::default() }).await;
    let begun = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    farm::wait_until("both buildlets run a shard", farm::PATIENCE, || begun() == 2).await;

    farm.kill();
    farm.start_again().await;
    std::fs::write(&go, "").unwrap();
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    let build = farm.build(1);
    assert_eq!((builds.len(), &builds[0]["outcome"]), (1, &"passed".into()), "{build:#}");
    assert_eq!(build["attempts"].as_array().map(Vec::len), Some(1), "it is the same attempt: {build:#}");
    assert!(build["shards_total"].as_u64() > Some(2), "shards were left to do: {build:#}");
    let log = farm.page("/log/1.txt").await;
    let order = (1..=12).flat_map(|test| [format!("begin {test}"), format!("ran {test}")]);
    let expected: Vec<_> = ["made".to_owned()].into_iter().chain(order).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    assert_eq!(begun(), 12, "no test ran twice");
}
