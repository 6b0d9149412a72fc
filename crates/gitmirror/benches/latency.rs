//! From a ref of an origin on this machine changed to its move delivered to a watcher, over the real port.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod world;

use std::time::Duration;

use tokio::time::Instant;
use world::{Origin, World};

#[tokio::main]
async fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 50 } else { 3 };
    let origin = Origin::new();
    let world = World::new(vec![origin.config("one")]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    let (mut refs, mut commits, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let parent = origin.head();
        let tree = origin.git(["rev-parse", "HEAD^{tree}"]);
        let commit = origin.git(["commit-tree", "-p", &parent, "-m", &format!("{round}"), &tree]);
        let new = origin.path().join(".git/new");
        std::fs::write(&new, format!("{commit}\n")).unwrap();
        let begun = Instant::now();
        std::fs::rename(&new, origin.path().join(".git/refs/heads/main")).unwrap();
        watch.until_at("one refs/heads/main", &commit).await;
        refs.push(begun.elapsed());
        let begun = Instant::now();
        let request = api::gitmirror::ListCommitsRequest {
            repository: "one".into(),
            include: vec![commit],
            exclude: vec![parent],
            limit: 0,
        };
        let mut list = world.client().list_commits(request).await.unwrap().into_inner();
        assert_eq!(list.message().await.unwrap().unwrap().commits.len(), 1);
        lists.push(begun.elapsed());

        std::fs::write(origin.path().join("README"), format!("{round}")).unwrap();
        let begun = Instant::now();
        origin.git(["commit", "--quiet", "-a", "-m", "x"]);
        let head = origin.head();
        watch.until_at("one refs/heads/main", &head).await;
        commits.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    show("ref changed to move delivered", refs);
    show("ListCommits of that commit", lists);
    show("`git commit` begun to move delivered", commits);
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:.1?}, slowest {last:.1?} of {}", times.len());
}
