//! What is planted is classified rightly, and `farmer why` says so on one screen.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Farm, Options, Repository, farm};

/// A builder whose tests are shell scripts of the repository, on machines that can take over from each other.
const TOML: &str = r#"
[[builders]]
name = "sharded"
host = "local"
make = ["echo made > product"]
snapshot = { movable = true }
[builders.tests]
list = "for t in $(ls tests); do echo $t; done"
run = "cat product > /dev/null && for t in {tests}; do echo begin $t; sh tests/$t || { echo \"--- FAIL: $t\"; exit 1; }; done"
shard_seconds = 1
helpers = 1
"#;

pub(crate) fn why(farm: &Farm, repository: &Repository, subject: &str) -> (String, Value) {
    let said = |arguments: &[&str]| {
        let output = farm.command(repository.path(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    };
    let text = said(&["why", subject]);
    assert!(text.lines().count() <= 48, "it fits on a screen:\n{text}");
    (text, serde_json::from_str(&said(&["why", subject, "--json"])).expect("it prints JSON"))
}

/// A test that fails the first time it is run, wherever that is.
pub(crate) fn flaky(flag: &Path) -> String {
    format!("if [ ! -e {flag} ]; then touch {flag}; echo got 3, want 4; exit 1; fi", flag = flag.display())
}

#[tokio::test]
async fn a_flake_and_a_regression_are_told_apart() {
    let flags = tempfile::tempdir().unwrap();
    let repository = Repository::with(&[
        ("farmer.toml", TOML),
        ("tests/steady", "sleep 1.2"),
        ("tests/shaky", &flaky(&flags.path().join("shaky"))),
    ]);
    let farm = Farm::start(repository.path(), Options { buildlets: Some(2), ..Options::default() }).await;
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert_eq!((&builds[0]["outcome"], &builds[0]["flakes"]), (&"passed".into(), &1.into()), "{builds:#?}");
    let (text, told) = why(&farm, &repository, "1");
    assert_eq!(told["failures"][0]["cause"], "flake", "{told:#}");
    assert_eq!(told["failures"][0]["name"], "shaky");
    let machines = told["failures"][0]["machines"].as_array().unwrap();
    assert!(machines.len() == 2 && machines[0] != machines[1], "it was run again elsewhere: {told:#}");
    assert!(text.contains("passed, flaky") && text.contains("got 3, want 4"), "{text}");
    let (text, told) = why(&farm, &repository, "shaky");
    assert_eq!(told["builders"][0]["standing"], "flakes", "{text}");
    assert_eq!(told["builders"][0]["flakes"]["flaked"], 1, "{told:#}");
    let page = farm.json("/build/1.json").await;
    assert_eq!((&page["state"], &page["failures"][0]["state"]), (&"flaky".into(), &"flaky".into()));

    repository.commit("break it", &[("tests/steady", "sleep 1.2; echo boom; exit 1")]);
    let builds = farm.wait_for_builds(|builds| builds.len() == 2 && !builds[0]["ended"].is_null()).await;
    assert_eq!(builds[0]["outcome"], "failed", "{builds:#?}");
    let (text, told) = why(&farm, &repository, "2");
    let failure = &told["failures"][0];
    assert_eq!((&failure["cause"], &failure["at_tip"]), (&"commit".into(), &"this".into()), "{text}");
    assert!(text.contains("boom") && text.contains("do it again: git checkout "), "{text}");
    assert_eq!(farm.json("/build/2.json").await["failures"][0]["is_new"], true);

    repository.commit("change something else", &[("readme", "x")]);
    farm.wait_for_builds(|builds| builds.len() == 3 && !builds[0]["ended"].is_null()).await;
    let (text, told) = why(&farm, &repository, "3");
    let failure = &told["failures"][0];
    assert_eq!((&failure["cause"], &failure["since_build"]), (&"older_commit".into(), &2.into()), "{text}");
}

#[tokio::test]
async fn a_fault_of_the_farm_blames_no_commit() {
    let flags = tempfile::tempdir().unwrap();
    let runs = flags.path().join("runs");
    let repository = crate::simple(&format!("echo $FARMER_BUILD > {}; sleep 600", runs.display()), "true");
    let farm = Farm::start(repository.path(), Options { buildlets: Some(1), ..Options::default() }).await;
    // Each time the machine dies under it, until the farm gives up. A machine that dies before the farm has heard of its
    // command is taken for one that never had it, and that costs the build nothing.
    let bound = Duration::from_mins(3);
    let given_up = || {
        if std::fs::read_to_string(&runs).is_ok_and(|text| text.ends_with('\n')) {
            std::fs::remove_file(&runs).unwrap();
            for (_, buildlet) in farm.buildlets() {
                farm::signal(buildlet, Signal::KILL);
            }
        }
        farm.builds().iter().any(|build| !build["ended"].is_null())
    };
    farm::wait_until("the build ends", bound, given_up).await;
    assert_eq!(farm.builds()[0]["outcome"], "infrastructure");
    let (text, told) = why(&farm, &repository, "1");
    assert!(text.contains("infrastructure fault"), "{text}");
    for failure in told["failures"].as_array().unwrap() {
        assert_eq!(failure["cause"], "infrastructure", "{told:#}");
    }
}
