//! Origins on other machines: a real `git daemon` plays one.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use api::gitmirror::{ListCommitsRequest, TickleRequest};
use gitmirror::RepositoryConfig;
use tonic::Code;

use crate::world::{DEADLINE, Origin, World, git_in};

/// Asked often.
pub(crate) fn polled(config: RepositoryConfig) -> RepositoryConfig {
    RepositoryConfig { poll: Duration::from_millis(50), ..config }
}

/// Serves folders over the git protocol.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) port: u16,
}

impl Daemon {
    pub(crate) async fn start(folder: &Path, port: Option<u16>) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = port.unwrap_or_else(free);
        // Itself, not by `git daemon`: killing that would leave it running.
        let program = Path::new(&git_in(folder, ["--exec-path"])).join("git-daemon");
        let child = std::process::Command::new(program)
            .args(["--listen=127.0.0.1", "--reuseaddr", "--export-all"])
            .args([format!("--port={port}"), format!("--base-path={}", folder.display())])
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self { child, port };
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(tokio::time::Instant::now() < deadline, "no daemon");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon
    }

    pub(crate) fn config(&self, name: &str, path: &str) -> RepositoryConfig {
        let url = format!("git://127.0.0.1:{}/{path}", self.port);
        let config = RepositoryConfig::new(name.parse().unwrap(), url.parse().unwrap());
        RepositoryConfig { poll: Duration::from_hours(1), ..config }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_url_is_polled() {
    let origin = Origin::new();
    let daemon = Daemon::start(origin.path(), None).await;
    let world = World::new(vec![polled(daemon.config("one", ".git"))]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    assert_eq!(
        world.until("one", |it| !it.default_branch.is_empty()).await.default_branch,
        "refs/heads/main"
    );
    origin.git(["branch", "gone"]);
    watch.until(|refs| refs.len() == 2).await;
    let next = origin.commit("x", "x");
    origin.git(["branch", "-D", "gone"]);
    watch.until(|refs| refs.len() == 1 && refs.values().all(|at| *at == next)).await;
}

#[tokio::test]
async fn a_tickle_fetches_now() {
    let origin = Origin::new();
    let daemon = Daemon::start(origin.path(), None).await;
    let world = World::new(vec![daemon.config("one", ".git")]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    for round in 0..5 {
        let next = origin.commit("x", format!("{round}"));
        let repository = if round % 2 == 0 { "one" } else { "" };
        world.client().tickle(TickleRequest { repository: repository.into() }).await.unwrap();
        watch.until_at("one refs/heads/main", &next).await;
    }
    let status = world.client().tickle(TickleRequest { repository: "two".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_commit_that_was_not_fetched_yet_is_asked_for() {
    let origin = Origin::new();
    let daemon = Daemon::start(origin.path(), None).await;
    let world = World::new(vec![daemon.config("one", ".git")]).await;
    world.watch().await.until_at("one refs/heads/main", &origin.head()).await;
    let next = origin.commit("x", "x");
    assert_eq!(world.get(&format!("/archive/one/{next}.tar")).await.0, http::StatusCode::OK);
    let mirror = world.mirror("one");
    assert_eq!(git_in(&mirror, ["rev-parse", &format!("refs/farmer/asked/{next}")]), next);
    assert_ne!(git_in(&mirror, ["rev-parse", "refs/heads/main"]), next);
    let strange = "1".repeat(40);
    let (status, body) = world.get(&format!("/archive/one/{strange}.tar")).await;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(status == http::StatusCode::NOT_FOUND && body.contains("UNKNOWN_COMMIT"), "{status} {body}");
}

#[tokio::test]
async fn an_unreachable_origin_is_said_to_be_so_and_fetched_when_it_is_back() {
    let origin = Origin::new();
    let daemon = Daemon::start(origin.path(), None).await;
    let port = daemon.port;
    let world = World::new(vec![polled(daemon.config("one", ".git"))]).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    drop(daemon);
    let next = origin.commit("x", "x");
    let status = world.until("one", |it| !it.error.is_empty()).await;
    let url = format!("git://127.0.0.1:{port}/.git");
    assert!(status.error.contains("`one`") && status.error.contains(&url), "{}", status.error);
    assert!(status.error.contains(&format!("try `git ls-remote {url}`")), "{}", status.error);
    // It cannot be asked, so nothing is said about what it has.
    let request = ListCommitsRequest {
        repository: "one".into(),
        include: vec![next.clone()],
        exclude: vec![],
        limit: 0,
    };
    let refused = world.client().list_commits(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), rpc::reason(&refused).as_deref()),
        (Code::Unavailable, Some("ORIGIN_UNREACHABLE"))
    );
    let _daemon = Daemon::start(origin.path(), Some(port)).await;
    watch.until_at("one refs/heads/main", &next).await;
    world.until("one", |it| it.error.is_empty()).await;
}

#[tokio::test]
async fn changes_under_review_are_mirrored_when_asked_for() {
    let origin = Origin::new();
    let daemon = Daemon::start(origin.path(), None).await;
    origin.git(["update-ref", "refs/changes/01/1/1", "HEAD"]);
    origin.git(["update-ref", "refs/other/x", "HEAD"]);
    let config = RepositoryConfig { also: vec!["refs/changes/".into()], ..daemon.config("one", ".git") };
    let local = RepositoryConfig { also: vec!["refs/changes/".into()], ..origin.config("two") };
    let world = World::new(vec![config, local]).await;
    let mut watch = world.watch().await;
    watch.until(|refs| refs.len() == 4).await;
    for name in ["one", "two"] {
        assert!(watch.refs.contains_key(&format!("{name} refs/changes/01/1/1")));
    }
}

#[tokio::test]
async fn a_mirror_is_pushed_on_and_one_bad_destination_holds_up_no_other() {
    let origin = Origin::new();
    origin.git(["branch", "old"]);
    let to = tempfile::tempdir().unwrap();
    git_in(to.path(), ["init", "--quiet", "--bare", "."]);
    let target = to.path().to_str().unwrap();
    let push_to = vec!["/nonexistent/place".parse().unwrap(), target.parse().unwrap()];
    let config = RepositoryConfig { push_to, ..origin.config("one") };
    let world = World::new(vec![config]).await;
    let refs = || git_in(to.path(), ["for-each-ref", "--format=%(objectname) %(refname)"]);
    let until = async |expected: String| {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while refs() != expected {
            assert!(tokio::time::Instant::now() < deadline, "still {}", refs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let head = origin.head();
    until(format!("{head} refs/heads/main\n{head} refs/heads/old")).await;
    origin.git(["branch", "-D", "old"]);
    let next = origin.commit("x", "x");
    until(format!("{next} refs/heads/main")).await;
    let status = world.until("one", |it| !it.error.is_empty()).await;
    assert!(status.error.contains("cannot be pushed to `/nonexistent/place`"), "{}", status.error);
}
