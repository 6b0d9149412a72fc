//! From a ref that moves at gitmirror to the mutations in the hands of a reader, durable.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/fake.rs"]
mod fake;

use std::time::Duration;

use api::maintner::{
    WatchMutationsRequest, mutation_service_client::MutationServiceClient, watch_mutations_response::Event,
};
use maintnerd::{Config, Limits, LogsConfig, Server};
use rpc::Authority;
use runtime::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PUSHES: usize = 300;

#[tokio::main]
async fn main() {
    runtime::install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let identity = Authority::create(&dir.path().join("ca")).unwrap().issue_service("bench").unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let mirror = fake::FakeMirror::start(&tasks, &identity).await;
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_logs: None,
        identity: identity.clone(),
        gitmirror: format!("https://{}", mirror.addr),
        pubsubhelper: None,
        github: Vec::new(),
        data: dir.path().join("data"),
        clock: runtime::system_clock(),
        log: maintner::Options::default(),
        bucket: None,
        logs: LogsConfig::default(),
        limits: Limits::default(),
        telemetry: runtime::telemetry::Config::default(),
    };
    let server = Server::bind(config).await.unwrap();
    let channel = rpc::connect(&format!("https://{}", server.addr()), Some(&identity)).unwrap();
    tasks.service("maintnerd", server.run(tasks.shutdown()));
    let mut stream = MutationServiceClient::new(channel)
        .watch_mutations(WatchMutationsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut parent = mirror.line(None, 1).remove(0);
    let mut took = Vec::new();
    for _ in 0..PUSHES {
        let commit = mirror.commit(&[&parent]);
        let begun = Instant::now();
        mirror.push("one", "refs/heads/main", &commit);
        'delivered: loop {
            if let Some(Event::Batch(batch)) = stream.message().await.unwrap().unwrap().event {
                for repository in batch.mutations.iter().filter_map(|one| one.repository.as_ref()) {
                    if repository.refs.iter().any(|one| one.sha1 == commit) {
                        break 'delivered;
                    }
                }
            }
        }
        took.push(begun.elapsed());
        parent = commit;
    }
    took.sort_unstable();
    println!("push to delivered: median {:?}, p99 {:?}", took[PUSHES / 2], took[PUSHES * 99 / 100]);
    tasks.shutdown().cancel();
    tasks.finish(Duration::from_secs(5)).await.unwrap();
}
