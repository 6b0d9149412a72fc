//! A gitmirror that runs, and repositories for it to mirror.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use api::gitmirror::{
    ListRepositoriesRequest, Repository, WatchRefsRequest, WatchRefsResponse,
    mirror_service_client::MirrorServiceClient, watch_refs_response::Event,
};
use bytes::Bytes;
use gitmirror::{Config, Handle, RepositoryConfig, Server, Timings};
use http_body_util::BodyExt;
use rpc::{Authority, Channel};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tower::ServiceExt;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A repository that somebody works in.
pub(crate) struct Origin {
    pub(crate) dir: TempDir,
}

impl Origin {
    pub(crate) fn empty() -> Self {
        let origin = Self { dir: tempfile::tempdir().unwrap() };
        origin.git(["init", "--quiet", "--initial-branch=main"]);
        // Else git would tidy up in the background when it likes.
        origin.git(["config", "gc.auto", "0"]);
        origin
    }

    /// With one commit.
    pub(crate) fn new() -> Self {
        let origin = Self::empty();
        origin.commit("README", "hello\n");
        origin
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        git_in(self.path(), arguments)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a file and commits it. Gives the commit.
    pub(crate) fn commit(&self, path: &str, content: impl AsRef<[u8]>) -> String {
        self.write(path, content);
        self.commit_all(path)
    }

    pub(crate) fn commit_all(&self, message: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        self.git(["rev-parse", "HEAD"])
    }

    pub(crate) fn config(&self, name: &str) -> RepositoryConfig {
        let origin = self.path().to_str().unwrap().parse().unwrap();
        RepositoryConfig {
            poll: Duration::from_hours(1),
            ..RepositoryConfig::new(name.parse().unwrap(), origin)
        }
    }
}

pub(crate) fn git_in<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let out = git_command(folder).args(arguments).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn git_command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "C")
        .env("GIT_COMMITTER_EMAIL", "c@example.com")
        .stdin(Stdio::null());
    command
}

/// A gitmirror with a data folder that outlives it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    authority: Authority,
    running: Option<Running>,
}

struct Running {
    url: String,
    channel: Channel,
    handle: Handle,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl World {
    pub(crate) async fn new(repositories: Vec<RepositoryConfig>) -> Self {
        Self::with(repositories, |_| {}).await
    }

    pub(crate) async fn with(repositories: Vec<RepositoryConfig>, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca")).unwrap();
        let mut world = Self { dir, authority, running: None };
        world.start(repositories, change).await;
        world
    }

    pub(crate) fn identity(&self, name: &str) -> rpc::Identity {
        self.authority.issue_service(name).unwrap()
    }

    pub(crate) fn config(&self, repositories: Vec<RepositoryConfig>) -> Config {
        Config {
            listen: ([127, 0, 0, 1], 0).into(),
            identity: self.identity("gitmirror"),
            data: self.dir.path().join("data"),
            clock: runtime::system_clock(),
            repositories,
            events: None,
            timings: Timings {
                settle: Duration::from_millis(20),
                first_retry: Duration::from_millis(50),
                last_retry: Duration::from_millis(200),
                checkpoint: Duration::from_millis(200),
                ..Timings::default()
            },
            telemetry: runtime::telemetry::Config::default(),
            file: None,
        }
    }

    pub(crate) async fn start(
        &mut self,
        repositories: Vec<RepositoryConfig>,
        change: impl FnOnce(&mut Config),
    ) {
        let mut config = self.config(repositories);
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let url = format!("https://{}", server.addr());
        let channel = rpc::connect(&url, Some(&self.identity("test"))).unwrap();
        let (handle, shutdown) = (server.handle(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(Box::pin(server.run(shutdown.clone())));
        self.running = Some(Running { url, channel, handle, shutdown, tasks });
    }

    /// Ends it and expects it to end well.
    pub(crate) async fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        running.shutdown.cancel();
        drop(running.channel);
        timeout(DEADLINE, running.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    }

    pub(crate) fn channel(&self) -> Channel {
        self.running.as_ref().unwrap().channel.clone()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.running.as_ref().unwrap().handle.clone()
    }

    pub(crate) fn client(&self) -> MirrorServiceClient<Channel> {
        MirrorServiceClient::new(self.channel()).max_decoding_message_size(rpc::MAX_MESSAGE)
    }

    /// As a machine that builds.
    pub(crate) fn client_of_a_machine(&self) -> MirrorServiceClient<Channel> {
        let identity = self.authority.issue_machine(&"m1".parse().unwrap(), &[]).unwrap();
        let url = &self.running.as_ref().unwrap().url;
        MirrorServiceClient::new(rpc::connect(url, Some(&identity)).unwrap())
    }

    pub(crate) async fn watch(&self) -> RefWatch {
        let stream = self.client().watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
        RefWatch { stream, refs: BTreeMap::new() }
    }

    /// The state of one repository.
    pub(crate) async fn repository(&self, name: &str) -> Repository {
        let list = self.client().list_repositories(ListRepositoriesRequest {}).await.unwrap().into_inner();
        list.repositories.into_iter().find(|repository| repository.name == name).unwrap()
    }

    /// Waits until a repository is in a state.
    pub(crate) async fn until(&self, name: &str, condition: impl Fn(&Repository) -> bool) -> Repository {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let repository = self.repository(name).await;
            if condition(&repository) {
                return repository;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {repository:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (http::StatusCode, Bytes) {
        let request = http::Request::get(path).body(tonic::body::Body::empty()).unwrap();
        let response = self.channel().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn get_error(&self, path: &str) -> String {
        let request = http::Request::get(path).body(tonic::body::Body::empty()).unwrap();
        let response = self.channel().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap_err().to_string()
    }

    /// The bare repository of a mirror.
    pub(crate) fn mirror(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("data/mirrors/{}.git", name.replace('/', "%2F")))
    }
}

/// What a watcher of refs knows.
pub(crate) struct RefWatch {
    stream: Streaming<WatchRefsResponse>,
    /// By `REPOSITORY REF`.
    pub(crate) refs: BTreeMap<String, String>,
}

impl RefWatch {
    /// The next response. True if it was a checkpoint.
    pub(crate) async fn next(&mut self) -> bool {
        let response = timeout(DEADLINE, self.stream.message()).await.expect("no word from the watch");
        match response.unwrap().unwrap().event.unwrap() {
            Event::Checkpoint(_) => true,
            Event::Update(update) => {
                let key = format!("{} {}", update.repository, update.r#ref);
                if update.commit.is_empty() {
                    assert!(self.refs.remove(&key).is_some(), "{key} was never there");
                } else {
                    self.refs.insert(key, update.commit);
                }
                false
            }
        }
    }

    /// Reads up to a checkpoint.
    pub(crate) async fn checkpoint(&mut self) {
        while !self.next().await {}
    }

    /// Reads until the refs are so.
    pub(crate) async fn until(&mut self, condition: impl Fn(&BTreeMap<String, String>) -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !condition(&self.refs) {
            assert!(tokio::time::Instant::now() < deadline, "still {:?}", self.refs);
            self.next().await;
        }
    }

    /// Reads until a ref is at a commit.
    pub(crate) async fn until_at(&mut self, key: &str, commit: &str) {
        self.until(|refs| refs.get(key).is_some_and(|at| at == commit)).await;
    }
}
