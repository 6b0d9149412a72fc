//! devapp over a real stream and real HTTP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fake_maintnerd;

use std::time::Duration;

use api::maintpb::{BuildResult, GitCommit, GitMutation, GitRef, GitRepo, Mutation, RepositoryMutation};
use devapp::{Config, Server};
use fake_maintnerd::FakeMaintnerd;
use rpc::Authority;
use runtime::{FakeClock, Tasks};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use types::Timestamp;

const PATIENCE: Duration = Duration::from_secs(20);
const NOW: i64 = 1_700_000_000;

struct World {
    url: String,
    maintnerd: FakeMaintnerd,
    client: reqwest::Client,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        runtime::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let identity = Authority::create(dir.path()).unwrap().issue_service("test").unwrap();
        let tasks = Tasks::new(CancellationToken::new());
        let maintnerd = FakeMaintnerd::start(&tasks, &identity).await;
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            identity,
            maintnerd: format!("https://{}", maintnerd.addr),
            farm_name: "test farm".into(),
            nav: vec![pages::NavEntry::new("Recent", "/recent")],
            hosts: Vec::new(),
            clock: FakeClock::new(Timestamp::from_seconds(NOW)).shared(),
            telemetry: runtime::telemetry::Config::default(),
        };
        let server = Server::bind(config).await.unwrap();
        let url = format!("http://{}", server.addr());
        tasks.service("devapp", server.run(tasks.shutdown()));
        Self { url, maintnerd, client: reqwest::Client::new(), tasks, _dir: dir }
    }

    async fn text(&self, path: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.text().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// Asks until so many items are there.
    async fn items(&self, count: usize) -> Value {
        let wait = async {
            loop {
                let view = self.json("/recent.json").await;
                if view["items"].as_array().unwrap().len() >= count {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }

    async fn end(self) {
        self.tasks.shutdown().cancel();
        self.tasks.finish(PATIENCE).await.unwrap();
    }
}

fn hash(n: u64) -> String {
    format!("{n:040x}")
}

fn push(n: u64, subject: &str) -> Vec<Mutation> {
    let raw = format!(
        "tree {}\nauthor Ada <a@b> 1 +0000\ncommitter Ada <a@b> {} +0000\n\n{subject}\n",
        hash(0),
        NOW - 60
    );
    let commit = GitCommit { sha1: hash(n), raw: raw.into(), diff_tree: None };
    let repo = Some(GitRepo { go_repo: "one".into() });
    let refs = vec![GitRef { r#ref: "refs/heads/main".into(), sha1: hash(n) }];
    let repository = RepositoryMutation { repository: "one".into(), refs, deleted_refs: Vec::new() };
    vec![
        Mutation { git: Some(GitMutation { repo, commit: Some(commit) }), ..Default::default() },
        Mutation { repository: Some(repository), ..Default::default() },
    ]
}

fn built(n: u64, outcome: &str) -> Mutation {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let result = BuildResult {
        build: n,
        attempt: 1,
        builder: "linux".into(),
        repository: "one".into(),
        commit: hash(n),
        outcome: outcome.into(),
        started: time(NOW - 40),
        ended: time(NOW - 30),
        ..Default::default()
    };
    Mutation { build_result: Some(result), ..Default::default() }
}

#[tokio::test]
async fn the_page_and_its_data_tell_what_happened() {
    let world = World::start().await;
    world.maintnerd.append(push(1, "<script>alert(1)</script> & more"));
    world.maintnerd.append(vec![built(1, "timed_out")]);
    let view = world.items(2).await;
    let build = &view["items"][0];
    assert_eq!(
        (&build["kind"], &build["outcome"], &build["build"]),
        (&"build_ended".into(), &"timed_out".into(), &1.into())
    );
    assert_eq!(build["duration_ms"], 10_000);
    assert_eq!(view["items"][1]["subject"], "<script>alert(1)</script> & more");
    assert_eq!(world.json("/recent.json?limit=1").await["items"].as_array().unwrap().len(), 1);
    let page = world.text("/recent").await;
    assert!(page.contains("1 ref moved and 1 build ended in the last day, 1 of them red"), "{page}");
    assert!(page.contains(r#"<a href="/build/1"><span class="glyph t"></span> timed out</a>"#), "{page}");
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("data-events=\"/recent/events\""), "{page}");
    world.end().await;
}

#[tokio::test]
async fn a_live_page_hears_of_changes() {
    let world = World::start().await;
    let mut stream = world.client.get(format!("{}/recent/events", world.url)).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut heard = String::new();
    let mut pushed = 0;
    let wait = async {
        while heard.matches("event: change").count() < 2 {
            let chunk = stream.chunk().await.unwrap().unwrap();
            heard.push_str(std::str::from_utf8(&chunk).unwrap());
            pushed += 1;
            world.maintnerd.append(push(pushed, "more"));
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    assert!(heard.starts_with("event: beat"), "{heard}");
    world.end().await;
}

#[tokio::test]
async fn an_empty_farm_has_a_page_and_others_hosts_are_refused() {
    let world = World::start().await;
    let page = world.text("/recent").await;
    assert!(page.contains("Nothing happened in the last day"), "{page}");
    assert!(page.contains("<title>Recent"), "{page}");
    let style = page.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(world.text(style).await.contains("body"), "the style sheet is served");
    let response = world
        .client
        .get(format!("{}/recent", world.url))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert!(response.status().is_client_error(), "{}", response.status());
    world.end().await;
}
