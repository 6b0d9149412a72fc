//! What the pages say of real builds.

use api::coordinator::{ListBuildersRequest, Outcome};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    builds::{PLAIN, SHARDED},
    farm::TestFarm,
};

#[tokio::test]
async fn pages_and_builders_show_what_there_is() {
    let farm = TestFarm::start().await;
    farm.connect(&farm.machine("m1")).await;
    farm.project.push('a', None, PLAIN);
    farm.ended(1).await;
    let builders = farm.farm_client().list_builders(ListBuildersRequest {}).await.unwrap().into_inner();
    assert_eq!(builders.builders[0].name, "linux");
    assert_eq!(builders.hosts[0].connected, 1);
    for path in ["/", "/build/1", "/build/1.json", "/log/1", "/farm", "/farm.json", "/builders"] {
        let page = get(&farm, path).await;
        assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
        assert!(path == "/farm" || path == "/farm.json" || page.contains("linux"), "{path}: {page}");
    }
    farm.finish().await;
}

#[tokio::test]
async fn the_failing_lines_are_the_commands_own_and_never_the_farms() {
    // The last line looks as if it told, and the farm's line behind it must not be taken for the end.
    const FAILING: &str = r#"
[[builders]]
name = "linux"
host = "local"
make = ["seq 50; echo 'farmer: error: my own line'; exit 1"]
environment = { FAKE_LEFTOVERS = "2" }
"#;
    let farm = TestFarm::start().await;
    farm.connect(&farm.machine("m1")).await;
    farm.project.push('a', None, FAILING);
    assert_eq!(farm.ended(1).await.outcome(), Outcome::Failed);
    let log = farm.log(1, false).await;
    assert!(log.ends_with("my own line\nfarmer: ended 2 processes that it left behind\n"), "{log}");
    let build = json(&farm, "/build/1.json").await;
    let lines = build["failures"][0]["lines"].as_array().unwrap();
    assert_eq!(lines.last().unwrap()["text"], "farmer: error: my own line");
    assert_eq!(json(&farm, "/log/1.json").await["log"]["failure_line"], 51);
    farm.finish().await;
}

#[tokio::test]
async fn a_command_that_said_nothing_is_told_of_by_the_farm() {
    const SILENT: &str = r#"
[[builders]]
name = "linux"
host = "local"
make = ["exit 1"]
environment = { FAKE_LEFTOVERS = "1" }
"#;
    let farm = TestFarm::start().await;
    farm.connect(&farm.machine("m1")).await;
    farm.project.push('a', None, SILENT);
    farm.ended(1).await;
    let build = json(&farm, "/build/1.json").await;
    assert_eq!(build["failures"][0]["lines"][0]["text"], "farmer: ended a process that it left behind");
    farm.finish().await;
}

#[tokio::test]
async fn a_test_has_a_past_and_a_shard_of_several_blames_none() {
    let failing = |test: &str| {
        SHARDED.replace("do echo ran $t; done", &format!("do echo ran $t; test $t != {test} || exit 1; done"))
    };
    let farm = TestFarm::start().await;
    farm.connect(&farm.machine("m1")).await;
    // Nobody knows yet how long tests take, so each has a shard.
    farm.project.push('a', None, &failing("c"));
    assert_eq!(farm.ended(1).await.outcome(), Outcome::Failed);
    // Now all share one.
    let shared = failing("a").replace("shard_seconds = 1.0", "shard_seconds = 3600.0");
    farm.project.push('b', Some('a'), &shared);
    assert_eq!(farm.ended(2).await.outcome(), Outcome::Failed);

    // What failed was run twice.
    let (shared, alone) = ((2, "failed".to_owned(), 4), (1, "failed".to_owned(), 1));
    assert_eq!(runs(&farm, "c").await, [shared.clone(), shared.clone(), alone.clone(), alone]);
    let failure = &json(&farm, "/build/1.json").await["failures"][0];
    assert_eq!((failure["name"].as_str(), failure["test"].as_str()), (Some("c"), Some("c")));
    assert_eq!(runs(&farm, "a").await, [shared.clone(), shared, (1, "passed".to_owned(), 1)]);
    assert_eq!(json(&farm, "/build/2.json").await["failures"][0]["test"], Value::Null);
    for (path, said) in
        [("/test/c", "c fails on linux"), ("/test/a", "a may fail on linux: the shard it shares failed")]
    {
        let page = get(&farm, path).await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(said), "{path}: {page}");
    }
    assert!(get(&farm, "/test/unheard").await.starts_with("HTTP/1.1 404"));
    farm.finish().await;
}

/// The runs of a test on the only builder: build, state, how many tests were in the shard.
async fn runs(farm: &TestFarm, test: &str) -> Vec<(u64, String, u64)> {
    let history = json(farm, &format!("/test.json?name={test}")).await;
    assert_eq!(history["builders"][0]["builder"], "linux");
    let runs = history["builders"][0]["runs"].as_array().unwrap().iter();
    let run = |run: &Value| {
        let number = |key: &str| run[key].as_u64().unwrap();
        (number("build"), run["state"].as_str().unwrap().to_owned(), number("among"))
    };
    runs.map(run).collect()
}

#[tokio::test]
async fn a_machine_and_a_builder_have_a_past() {
    let farm = TestFarm::start().await;
    farm.connect(&farm.machine("m1")).await;
    farm.project.push('a', None, PLAIN);
    assert_eq!(farm.ended(1).await.outcome(), Outcome::Passed);
    farm.project.push('b', Some('a'), &PLAIN.replace("echo tested", "exit 1"));
    assert_eq!(farm.ended(2).await.outcome(), Outcome::Failed);

    let builder = json(&farm, "/builder/linux.json").await;
    assert_eq!(builder["definition"]["host"], "local");
    let builds = builder["builds"].as_array().unwrap();
    assert_eq!((builds.len(), builds[0]["state"].as_str()), (2, Some("failed")));

    let machine = json(&farm, "/machine/m1.json").await;
    assert_eq!(machine["machine"]["host_types"][0], "local");
    let leases = machine["leases"].as_array().unwrap();
    assert_eq!((leases[0]["build"].as_u64(), leases[0]["main"].as_bool()), (Some(2), Some(true)));
    assert!(machine["faults"].as_array().unwrap().is_empty(), "{machine}");

    for (path, said) in
        [("/builder/linux", "linux is red for 1 commit"), ("/machine/m1", "No fault in its last 2 leases")]
    {
        let page = get(&farm, path).await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(said), "{path}: {page}");
    }
    for path in ["/builder/unheard", "/machine/unheard"] {
        let page = get(&farm, path).await;
        assert!(page.starts_with("HTTP/1.1 404"), "{path}: {page}");
    }
    farm.finish().await;
}

async fn json(farm: &TestFarm, path: &str) -> Value {
    let response = get(farm, path).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {response}");
    serde_json::from_str(body).unwrap()
}

async fn get(farm: &TestFarm, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(farm.public()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}
