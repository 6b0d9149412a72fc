//! A person says that a machine is sick: what failed there alone is begun again elsewhere.

use std::path::Path;

use serde_json::Value;
use testkit::{Farm, Options, Repository};

use crate::why::why;

/// A shell command that fails, whatever the commit, on the first machine that runs it once there is a file `armed`; the
/// file `hole` tells which that is.
fn fails_in(flags: &Path) -> String {
    let flags = flags.display();
    format!(
        "cd {flags}; if mv armed fell; then echo $FARMER_MACHINE > hole; fi 2>/dev/null; \
         if [ -e hole ] && [ $(cat hole) = $FARMER_MACHINE ]; then echo cc: broken; exit 1; fi"
    )
}

/// Commits, and the build once it has ended.
async fn built(farm: &Farm, repository: &Repository, number: usize) -> Value {
    let commit = repository.commit("change", &[("source", &number.to_string())]);
    let is = |build: &Value| build["commit"] == commit && !build["ended"].is_null();
    let builds = farm.wait_for_builds(|builds| builds.iter().any(is)).await;
    builds.into_iter().find(is).expect("it has ended")
}

#[tokio::test]
async fn what_failed_on_a_machine_alone_is_begun_again_when_an_operator_finds_it_sick() {
    let flags = tempfile::tempdir().unwrap();
    // Without a snapshot nothing else can run the tests again.
    let repository = crate::simple("true", &fails_in(flags.path()));
    let options = Options { buildlets: Some(2), ..Options::default() };
    let mut farm = Farm::start(repository.path(), options).await;
    assert_eq!(built(&farm, &repository, 1).await["outcome"], "passed");
    std::fs::write(flags.path().join("armed"), "").unwrap();
    let victim = built(&farm, &repository, 2).await;
    assert_eq!(victim["outcome"], "failed");
    let sick = std::fs::read_to_string(flags.path().join("hole")).unwrap().trim().to_owned();
    // Nothing else is known of it yet than what this machine says.
    let said = |build: &Value| why(&farm, &repository, &build["number"].to_string()).1["failures"][0].clone();
    assert_ne!(said(&victim)["cause"], "infrastructure");
    let dry = ["retry", "--builder", "simple", "--matching", "cc: broken", "--dry-run", "--json"];
    let output = farm.command(repository.path(), &dry);
    let found: Value = serde_json::from_slice(&output.stdout).expect("it finds one build");
    assert_eq!(
        (&found["number"], &found["outcome"]),
        (&victim["number"], &"failed".into()),
        "it only says so"
    );
    let asked = ["machine", "quarantine", &sick, "--reason", "its disk is bad"];
    let output = farm.command(repository.path(), &asked);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let builds = farm.wait_for_builds(|builds| builds[0]["outcome"] == "passed").await;
    assert_eq!(builds[0]["number"], victim["number"], "it is the same build");
    let failure = said(&victim);
    assert_eq!(failure["cause"], "infrastructure", "{failure:#}");
    assert!(failure["text"].as_str().unwrap().contains("its disk is bad"), "{failure:#}");
    let unknown = farm.command(repository.path(), &["machine", "quarantine", "no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
    farm.wait_for_page(&format!("/machine/{sick}"), |page| page.contains("machine lift")).await;

    farm.kill();
    farm.start_again().await;
    let state = farm.json(&format!("/machine/{sick}.json")).await["machine"]["problem"].clone();
    assert_eq!(state, "its disk is bad", "it is still there after a restart");
    let again = farm.command(repository.path(), &["retry", &victim["number"].to_string()]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let page = farm.json(&format!("/build/{}.json", victim["number"])).await;
    assert_eq!(page["attempts"].as_array().unwrap().len(), 3, "{page:#}");
    let notes = page["notes"].to_string();
    assert!(
        notes.contains("begun again after attempt 1: machine") && notes.contains("after attempt 2"),
        "{notes}"
    );
}
