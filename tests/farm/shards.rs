//! Tests run as shards on several machines, and the merged log reads as if one had run them in order.

use testkit::{Farm, Options, Repository};

const TOML: &str = r#"
[[builders]]
name = "sharded"
host = "local"
make = ["echo made > product"]
[builders.tests]
list = "for i in $(seq 40); do echo test-$i; done"
run = "cat product >/dev/null && for t in {tests}; do echo ran $t; done"
shard_seconds = 1
helpers = 1
"#;

#[tokio::test]
async fn the_merged_log_is_in_list_order() {
    let repository = Repository::with(&[("farmer.toml", TOML)]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let builds = farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
    assert_eq!(builds[0]["outcome"], "passed", "{:#?}", farm.build(1));
    let log = farm.page("/log/1.txt").await;
    let ran: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("ran ")).collect();
    let expected: Vec<_> = (1..=40).map(|number| format!("test-{number}")).collect();
    assert_eq!(ran, expected);
    assert!(farm.build(1)["shards_total"].as_u64() > Some(1), "there are several shards");
}

#[tokio::test]
async fn a_second_builder_of_the_host_reuses_the_snapshot() {
    let two = format!("{TOML}{}", TOML.replace("\"sharded\"", "\"second\""));
    let repository = Repository::with(&[("farmer.toml", &two)]);
    let farm = Farm::start(repository.path(), Options { buildlets: Some(1), ..Options::default() }).await;
    farm.wait_for_builds(|builds| {
        builds.len() == 2 && builds.iter().all(|build| build["outcome"] == "passed")
    })
    .await;
    let phases = |number| -> Vec<String> {
        let steps = farm.build(number)["attempts"][0]["steps"].clone();
        steps.as_array().unwrap().iter().map(|step| step["phase"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        phases(1).contains(&"make".to_owned()) && phases(1).contains(&"snapshot_store".to_owned()),
        "{:?}",
        phases(1)
    );
    assert!(
        phases(2).contains(&"snapshot_fetch".to_owned()) && !phases(2).contains(&"make".to_owned()),
        "{:?}",
        phases(2)
    );
}
