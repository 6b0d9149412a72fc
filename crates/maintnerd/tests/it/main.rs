//! maintnerd over real sockets and a real log, with a gitmirror that keeps its contract in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod audit;
mod bot;
mod fake;
mod fake_github;
mod follow;
mod follower;
mod gerrit;
mod git;
mod github;
mod go;
mod kill;
mod logs;
mod query;
mod results;
mod votes;
mod watch;

use std::{future::Future, net::SocketAddr, path::PathBuf, time::Duration};

use api::{
    maintner::{
        MutationFilter, WatchMutationsRequest, WatchMutationsResponse,
        mutation_service_client::MutationServiceClient, watch_mutations_response::Event,
    },
    maintpb::{GitRef, Mutation},
};
use fake::FakeMirror;
use fake_github::FakeGithub;
use maintnerd::{Config, Limits, LogsConfig, Server};
use rpc::{Authority, Channel, Identity};
use runtime::Tasks;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// One maintnerd with its gitmirror.
pub(crate) struct World {
    pub(crate) mirror: FakeMirror,
    pub(crate) addr: SocketAddr,
    identity: Identity,
    config: Config,
    tasks: Tasks,
    stop: CancellationToken,
    others: Tasks,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        runtime::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca")).unwrap();
        let identity = authority.issue_service("test").unwrap();
        let others = Tasks::new(CancellationToken::new());
        let mirror = FakeMirror::start(&others, &identity).await;
        let mut config = config(dir.path().join("data"), &identity, mirror.addr);
        change(&mut config);
        let (addr, tasks, stop) = serve(config.clone()).await;
        Self { mirror, addr, identity, config, tasks, stop, others, _dir: dir }
    }

    /// Starts a GitHub that maintnerd is told of when it is started again.
    pub(crate) async fn github(&mut self, keys: &[&str]) -> FakeGithub {
        let github = FakeGithub::start(&self.others).await;
        self.config.github = keys.iter().map(|key| github.repository(key)).collect();
        self.config.limits.github_pace = Duration::ZERO;
        self.config.limits.github_expect = Duration::from_millis(5);
        github
    }

    /// Ends maintnerd and starts it again on the same log, at another address.
    pub(crate) async fn restart(&mut self) {
        self.stop_maintnerd().await;
        self.start_maintnerd().await;
    }

    pub(crate) async fn start_maintnerd(&mut self) {
        (self.addr, self.tasks, self.stop) = serve(self.config.clone()).await;
    }

    pub(crate) async fn stop_maintnerd(&mut self) {
        self.stop.cancel();
        self.tasks.clone().finish(PATIENCE).await.unwrap();
    }

    /// Ends everything, and sees that nothing failed.
    pub(crate) async fn end(mut self) {
        self.stop_maintnerd().await;
        self.others.shutdown().cancel();
        self.others.finish(PATIENCE).await.unwrap();
    }

    /// The address of `/logs`.
    pub(crate) fn logs(&self) -> SocketAddr {
        self.config.listen_logs.unwrap()
    }

    /// The folder of the log.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.config.data.join("log")
    }

    /// The bytes of all segments on the disk.
    pub(crate) fn log_bytes(&self) -> u64 {
        let sizes = std::fs::read_dir(self.log_dir()).unwrap().map(|entry| entry.unwrap());
        let segments = sizes.filter(|entry| entry.file_name().to_string_lossy().ends_with(".mutlog"));
        segments.map(|entry| entry.metadata().unwrap().len()).sum()
    }

    /// Writes certificates that programs of other languages can use, and answers the folder.
    pub(crate) fn certificates(&self) -> PathBuf {
        let dir = self.config.data.with_file_name("certificates");
        std::fs::create_dir_all(&dir).unwrap();
        self.identity.save(&dir, "bot").unwrap();
        dir
    }

    pub(crate) fn channel(&self) -> Channel {
        rpc::connect(&format!("https://{}", self.addr), Some(&self.identity)).unwrap()
    }

    pub(crate) fn client(&self) -> MutationServiceClient<Channel> {
        MutationServiceClient::new(self.channel()).max_decoding_message_size(rpc::MAX_MESSAGE)
    }

    pub(crate) async fn watch(&self, resume_token: &str) -> Watch {
        self.watch_filtered(resume_token, None).await
    }

    pub(crate) async fn watch_filtered(&self, resume_token: &str, filter: Option<MutationFilter>) -> Watch {
        let request = WatchMutationsRequest { resume_token: resume_token.into(), from_now: false, filter };
        Watch { stream: self.client().watch_mutations(request).await.unwrap().into_inner() }
    }
}

fn config(data: PathBuf, identity: &Identity, mirror: SocketAddr) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_logs: None,
        identity: identity.clone(),
        gitmirror: format!("https://{mirror}"),
        pubsubhelper: None,
        github: Vec::new(),
        data,
        clock: runtime::system_clock(),
        log: maintner::Options::default(),
        bucket: None,
        logs: LogsConfig::default(),
        limits: Limits { retry: Duration::from_millis(20), ..Limits::default() },
        telemetry: runtime::telemetry::Config::default(),
    }
}

/// maintnerd as a task of its own set, so that it can be ended alone.
async fn serve(config: Config) -> (SocketAddr, Tasks, CancellationToken) {
    let server = Server::bind(config).await.unwrap();
    let (addr, stop) = (server.addr(), CancellationToken::new());
    let tasks = Tasks::new(stop.clone());
    tasks.service("maintnerd", server.run(stop.clone()));
    (addr, tasks, stop)
}

/// A reader of the stream.
pub(crate) struct Watch {
    pub(crate) stream: tonic::Streaming<WatchMutationsResponse>,
}

impl Watch {
    pub(crate) async fn next(&mut self) -> WatchMutationsResponse {
        within(self.stream.message()).await.unwrap().unwrap()
    }

    /// What the next mutations are about, up to one whose words hold these.
    pub(crate) async fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        let found = async {
            while !all.iter().any(|words: &String| words.contains(wanted)) {
                if let Some(Event::Batch(batch)) = self.next().await.event {
                    all.extend(all_words(&batch.mutations));
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "`{wanted}` did not come, but {all:?}");
        all
    }

    /// The next so many mutations, and the token after them.
    pub(crate) async fn take(&mut self, count: usize) -> (Vec<Mutation>, String) {
        let mut all = Vec::new();
        let taken = async {
            loop {
                let response = self.next().await;
                if let Some(Event::Batch(batch)) = response.event {
                    all.extend(batch.mutations);
                }
                assert!(all.len() <= count, "more than {count}: {:?}", all_words(&all));
                if all.len() == count {
                    return response.resume_token;
                }
            }
        };
        let Ok(token) = tokio::time::timeout(PATIENCE, taken).await else {
            panic!("{count} mutations did not come, but {:?}", all_words(&all));
        };
        (all, token)
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// What a mutation is about, in a few words.
pub(crate) fn words(mutation: &Mutation) -> String {
    if let Some(commit) = mutation.git.as_ref().and_then(|git| git.commit.as_ref()) {
        return format!("commit {}", &commit.sha1[..8]);
    }
    if let Some(gerrit) = &mutation.gerrit {
        let commits: Vec<_> =
            gerrit.commits.iter().map(|commit| format!("commit {}", &commit.sha1[..8])).collect();
        let comments =
            gerrit.comments.iter().map(|comment| format!("{} says {}", comment.uuid, comment.message));
        let said = commits.into_iter().chain(comments).chain(moves(&gerrit.refs, &gerrit.deleted_refs));
        return format!("{}: {}", gerrit.project, said.collect::<Vec<_>>().join(", "));
    }
    if let Some(repository) = &mutation.repository {
        let said = moves(&repository.refs, &repository.deleted_refs);
        return format!("{}: {}", repository.repository, said.join(", "));
    }
    mutation.build_result.as_ref().map_or_else(String::new, |result| {
        format!("build {}.{} {}", result.build, result.attempt, result.outcome)
    })
}

fn moves(refs: &[GitRef], gone: &[String]) -> Vec<String> {
    let moved = refs.iter().map(|one| format!("{}={}", one.r#ref, &one.sha1[..8]));
    moved.chain(gone.iter().map(|name| format!("{name} gone"))).collect()
}

pub(crate) fn all_words(mutations: &[Mutation]) -> Vec<String> {
    mutations.iter().map(words).collect()
}
