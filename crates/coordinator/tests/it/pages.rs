//! What the pages say of real builds.

use api::coordinator::{ListBuildersRequest, Outcome};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{builds::PLAIN, farm::TestFarm};

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
