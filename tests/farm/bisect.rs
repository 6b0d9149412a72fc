//! The commit that broke a test is found, though the test also fails by chance; logs are fetched and searched.

use testkit::{Farm, Options, Repository};

/// A test that fails at chance, one run of five, and always once `broken` is there.
const TOML: &str = r#"
[[builders]]
name = "one"
host = "local"
make = ["echo made > product"]
snapshot = { movable = true }
[builders.tests]
list = "echo shaky"
run = "test {tests} = shaky && if [ -e broken ]; then echo boom; exit 1; fi; test $(od -An -N1 -tu1 /dev/urandom) -lt 204"
"#;

#[tokio::test]
async fn the_commit_that_broke_a_flaky_test_is_found() {
    let repository = Repository::with(&[("farmer.toml", TOML), ("source", "0")]);
    let good = repository.git(&["rev-parse", "HEAD"]);
    for number in 1..5 {
        repository.commit("well", &[("source", &number.to_string())]);
    }
    let culprit = repository.commit("break it", &[("broken", "yes")]);
    for number in 5..8 {
        repository.commit("go on", &[("source", &number.to_string())]);
    }
    // Of a branch that is new only the tip is built.
    let farm = Farm::start(repository.path(), Options { buildlets: Some(2), ..Options::default() }).await;
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert_eq!((&builds[0]["number"], &builds[0]["outcome"]), (&1.into(), &"failed".into()), "{builds:#?}");

    let unknown = farm.command(repository.path(), &["bisect", "1", "shaky"]);
    assert_eq!(unknown.status.code(), Some(2), "the farm never saw it pass");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--good"));
    let found =
        farm.command(repository.path(), &["bisect", "1", "shaky", "--good", &good, "--confidence", "0.99"]);
    let (said, words) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert_eq!(found.status.code(), Some(0), "{said}{words}");
    assert!(said.contains(&format!("{culprit} broke `shaky`: 99")), "{said}");
    let page = farm.json("/test.json?name=shaky").await;
    let runs = page["builders"][0]["runs"].as_array().map(Vec::len);
    assert_eq!(runs, Some(2), "repeats are not part of its history: {page:#}");

    let grep = farm.command(repository.path(), &["logs", "grep", "boom", "--failed", "-n", "1000", "--json"]);
    let lines = String::from_utf8_lossy(&grep.stdout);
    assert!(lines.lines().count() >= 1 && lines.contains("\"build\":1,"), "{lines}");
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    let fetch = farm.command(repository.path(), &["logs", "fetch", "--failed", "--to", &to, "-n", "1000"]);
    assert!(fetch.status.success(), "{}", String::from_utf8_lossy(&fetch.stderr));
    let short = builds[0]["commit"].as_str().unwrap().get(..8).unwrap();
    let log = std::fs::read_to_string(folder.path().join(format!("1-one-{short}.log"))).unwrap();
    assert!(log.contains("boom"), "{log}");
    let none = farm.command(repository.path(), &["logs", "grep", "no such text"]);
    assert_eq!(none.status.code(), Some(1));
}
