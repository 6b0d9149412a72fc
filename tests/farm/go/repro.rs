//! A test that fails in the distribution, on the farm and again in a session of `farmer gomote repro`: it tells what it
//! finds around it, and that must be the same.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;
use testkit::Farm;

use super::steps;

/// The package that it is in: none of those that other steps test.
pub(super) const PACKAGE: &str = "go/version";
pub(super) const FILE: &str = "src/go/version/planted_test.go";
/// Fails, and says with what: its folder, its toolchain and the whole environment.
pub(super) const TEST: &str = r#"package version

import (
	"os"
	"runtime"
	"testing"
)

func TestPlanted(t *testing.T) {
	folder, _ := os.Getwd()
	t.Logf("found: %s in %s", runtime.Version(), folder)
	for _, variable := range os.Environ() {
		t.Logf("found: %s", variable)
	}
	t.Fatal("planted")
}
"#;

/// What is of one exec or one machine: the file that lists the shard's tests is made anew each time.
const OWN: &[&str] = &["FARMER_EXEC_ID=", "FARMER_MACHINE=", "FARMER_TESTS="];

/// The same failure, in the same environment, from what make left: nothing is made again.
pub(super) async fn a_failed_shard_fails_again_in_a_session(farm: &Farm, build: &Value, folder: &Path) {
    assert_eq!(build["outcome"], "failed", "{build:#}");
    assert!(!steps(build).iter().any(|step| step["phase"] == "make"), "the snapshot served: {build:#}");
    let number = build["number"].as_u64().expect("has a number");
    let on_the_farm = found(&farm.page(&format!("/log/{number}.txt")).await, farm);

    let repeated = farm.command(folder, &["gomote", "repro", &number.to_string(), "--run"]);
    let words = String::from_utf8_lossy(&repeated.stderr).into_owned();
    let output = String::from_utf8_lossy(&repeated.stdout).into_owned();
    assert_eq!(repeated.status.code(), Some(1), "it fails as it did: {words}\n{output}");
    assert!(words.contains("what make left of"), "it begins with the snapshot: {words}");
    assert!(words.contains(&format!("{number}.1.1")), "it says which shard: {words}");
    let in_the_session = found(&output, farm);
    assert!(on_the_farm.iter().any(|line| line.starts_with("GOROOT=")), "{on_the_farm:#?}");
    assert_eq!(in_the_session, on_the_farm);

    // And whoever is on that machine has it too.
    let listed = farm.command(folder, &["gomote", "list", "--json"]).stdout;
    let session: Value = serde_json::from_slice(&listed).expect("one session is listed");
    let name = session["name"].as_str().expect("it has a name");
    let root = farm.command(folder, &["gomote", "run", name, "go", "env", "GOROOT"]).stdout;
    let root = format!("GOROOT={}", String::from_utf8_lossy(&root).trim());
    assert!(in_the_session.contains(&anywhere(&root, farm)), "{root}: {in_the_session:#?}");
    println!(
        "go: `farmer gomote repro` of {number} failed as its shard did, with {} things found the same",
        on_the_farm.len()
    );
}

/// What the test found, without what is of one machine.
fn found(output: &str, farm: &Farm) -> BTreeSet<String> {
    assert!(output.contains("--- FAIL: TestPlanted"), "it failed: {output}");
    let lines = output.lines().filter_map(|line| line.split_once("found: ").map(|(_, found)| found));
    let shared = lines.filter(|line| !OWN.iter().any(|own| line.starts_with(own)));
    shared.map(|line| anywhere(line, farm)).collect()
}

/// A line without the name of the machine, of which each has a work folder of its own.
fn anywhere(line: &str, farm: &Farm) -> String {
    farm.buildlets().into_iter().fold(line.to_owned(), |line, (name, _)| line.replace(&name, "MACHINE"))
}
