//! A gitmirror in memory: real objects with real hashes, the contract of `MirrorService`, and faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use api::{
    gitmirror::{
        Checkpoint, File, ListCommitsRequest, ListCommitsResponse, ListRepositoriesRequest,
        ListRepositoriesResponse, ReadFilesRequest, ReadFilesResponse, RefUpdate, Repository, TickleRequest,
        TickleResponse, UploadBundleRequest, UploadBundleResponse, WatchRefsRequest, WatchRefsResponse,
        mirror_service_server::{MirrorService, MirrorServiceServer},
        watch_refs_response::Event,
    },
    maintpb::{GitCommit, GitDiffTree, GitDiffTreeFile},
};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use rpc::Identity;
use runtime::Tasks;
use sha1::{Digest as _, Sha1};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub(crate) struct FakeMirror {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    updates: broadcast::Sender<RefUpdate>,
}

#[derive(Default)]
struct State {
    refs: BTreeMap<String, BTreeMap<String, String>>,
    commits: HashMap<String, (GitCommit, Vec<String>)>,
    /// Repositories that are still being cloned.
    incomplete: BTreeSet<String>,
    /// What is in the files of commits.
    files: HashMap<(String, String), String>,
    /// The projects at a Gerrit that repositories are.
    projects: BTreeMap<String, String>,
    /// Where that Gerrit's REST API is.
    gerrit: String,
    tickled: Vec<String>,
    lists: usize,
    made: u64,
}

impl FakeMirror {
    pub(crate) async fn start(tasks: &Tasks, identity: &Identity) -> Self {
        let mut mirror = Self {
            addr: "127.0.0.1:0".parse().unwrap(),
            state: Arc::default(),
            updates: broadcast::channel(10_000).0,
        };
        let server = rpc::Server::new("gitmirror", tasks.clone())
            .tls(identity)
            .grpc(MirrorServiceServer::new(mirror.clone()))
            .bind(mirror.addr)
            .await
            .unwrap();
        mirror.addr = server.addr();
        server.start();
        mirror
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a commit. Each has another content.
    pub(crate) fn commit(&self, parents: &[&str]) -> String {
        let number = self.state().made + 1;
        self.commit_saying(parents, "Ada <a@b.c>", &format!("commit {number}"))
    }

    /// Makes a commit of somebody with a message.
    pub(crate) fn commit_saying(&self, parents: &[&str], who: &str, message: &str) -> String {
        let mut state = self.state();
        state.made += 1;
        let lines = parents.iter().map(|parent| format!("parent {parent}\n")).collect::<Vec<_>>().concat();
        let (tree, time) = (0, state.made);
        let raw = format!(
            "tree {tree:040x}\n{lines}author {who} {time} +0000\ncommitter {who} {time} +0000\n\n{message}\n"
        );
        let name = hex::encode(Sha1::digest(format!("commit {}\0{raw}", raw.len())));
        let commit = GitCommit { sha1: name.clone(), raw: raw.into(), diff_tree: None };
        state.commits.insert(name.clone(), (commit, parents.iter().map(|&one| one.to_owned()).collect()));
        name
    }

    /// Makes a commit that changes a file.
    pub(crate) fn commit_file(&self, parents: &[&str], path: &str, content: &str) -> String {
        let name = self.commit(parents);
        let mut state = self.state();
        let file = GitDiffTreeFile { file: path.into(), added: 1, ..Default::default() };
        state.commits.get_mut(&name).unwrap().0.diff_tree = Some(GitDiffTree { file: vec![file] });
        state.files.insert((name.clone(), path.into()), content.into());
        name
    }

    /// Makes a line of commits.
    pub(crate) fn line(&self, mut parent: Option<String>, count: usize) -> Vec<String> {
        let mut line = Vec::new();
        for _ in 0..count {
            let parents: Vec<&str> = parent.as_deref().into_iter().collect();
            let commit = self.commit(&parents);
            line.push(commit.clone());
            parent = Some(commit);
        }
        line
    }

    /// Changes what a commit holds, but not its name.
    pub(crate) fn damage(&self, commit: &str) {
        self.state().commits.get_mut(commit).unwrap().0.raw = "tree of lies".into();
    }

    pub(crate) fn push(&self, repository: &str, name: &str, commit: &str) {
        self.push_untold(repository, name, commit);
        self.tell(repository, name, commit);
    }

    /// A ref moves, and nobody hears of it.
    pub(crate) fn push_untold(&self, repository: &str, name: &str, commit: &str) {
        self.state().refs.entry(repository.into()).or_default().insert(name.into(), commit.into());
    }

    /// The repository is a project at a Gerrit from now on.
    pub(crate) fn set_gerrit(&self, repository: &str, project: &str) {
        self.state().projects.insert(repository.into(), project.into());
    }

    /// All projects are at the Gerrit with this REST API.
    pub(crate) fn set_gerrit_url(&self, url: &str) {
        self.state().gerrit = url.into();
    }

    /// What a file of a commit holds from now on.
    pub(crate) fn set_file(&self, commit: &str, path: &str, content: &str) {
        self.state().files.insert((commit.into(), path.into()), content.into());
    }

    pub(crate) fn delete(&self, repository: &str, name: &str) {
        self.delete_untold(repository, name);
        self.tell(repository, name, "");
    }

    /// A ref goes away, and nobody hears of it.
    pub(crate) fn delete_untold(&self, repository: &str, name: &str) {
        self.state().refs.get_mut(repository).unwrap().remove(name);
    }

    fn tell(&self, repository: &str, name: &str, commit: &str) {
        let update = RefUpdate { repository: repository.into(), r#ref: name.into(), commit: commit.into() };
        let _ = self.updates.send(update); // nobody may be there
    }

    /// The repository is being cloned again: it shows no refs until `whole`.
    pub(crate) fn set_incomplete(&self, repository: &str) {
        self.state().incomplete.insert(repository.into());
    }

    pub(crate) fn tickled(&self) -> Vec<String> {
        self.state().tickled.clone()
    }

    /// How often commits were asked for.
    pub(crate) fn lists(&self) -> usize {
        self.state().lists
    }
}

fn reach(
    state: &State,
    from: &[String],
    but: &BTreeSet<String>,
    out: &mut Vec<String>,
    seen: &mut BTreeSet<String>,
) {
    let mut waiting: Vec<(String, bool)> = from.iter().map(|one| (one.clone(), false)).collect();
    while let Some((name, done)) = waiting.pop() {
        if done {
            out.push(name);
        } else if !but.contains(&name) && seen.insert(name.clone()) {
            waiting.push((name.clone(), true));
            let parents = state.commits.get(&name).map(|(_, parents)| parents.clone()).unwrap_or_default();
            waiting.extend(parents.into_iter().map(|parent| (parent, false)));
        }
    }
}

fn update(update: RefUpdate) -> WatchRefsResponse {
    WatchRefsResponse { event: Some(Event::Update(update)) }
}

#[tonic::async_trait]
impl MirrorService for FakeMirror {
    type WatchRefsStream = BoxStream<'static, Result<WatchRefsResponse, Status>>;
    type ListCommitsStream = BoxStream<'static, Result<ListCommitsResponse, Status>>;

    async fn list_repositories(
        &self,
        _: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        let state = self.state();
        let repositories = state.refs.keys().map(|name| Repository {
            name: name.clone(),
            gerrit_project: state.projects.get(name).cloned().unwrap_or_default(),
            gerrit_url: state.gerrit.clone(),
            origin: format!("https://github.com/example/{name}.git"),
            fetched_at: (!state.incomplete.contains(name))
                .then_some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        });
        Ok(Response::new(ListRepositoriesResponse { repositories: repositories.collect() }))
    }

    async fn watch_refs(
        &self,
        _: Request<WatchRefsRequest>,
    ) -> Result<Response<Self::WatchRefsStream>, Status> {
        let state = self.state();
        let later = BroadcastStream::new(self.updates.subscribe());
        let mut first = Vec::new();
        for (repository, refs) in state.refs.iter().filter(|(name, _)| !state.incomplete.contains(*name)) {
            for (name, commit) in refs {
                let (repository, commit) = (repository.clone(), commit.clone());
                first.push(Ok(update(RefUpdate { repository, r#ref: name.clone(), commit })));
            }
        }
        first.push(Ok(WatchRefsResponse { event: Some(Event::Checkpoint(Checkpoint {})) }));
        Ok(Response::new(stream::iter(first).chain(later.map(|one| Ok(update(one.unwrap())))).boxed()))
    }

    async fn list_commits(
        &self,
        request: Request<ListCommitsRequest>,
    ) -> Result<Response<Self::ListCommitsStream>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.lists += 1;
        if let Some(unknown) = request.include.iter().find(|one| !state.commits.contains_key(*one)) {
            return Err(rpc::status(
                tonic::Code::NotFound,
                "UNKNOWN_COMMIT",
                format!("no commit `{unknown}`"),
            ));
        }
        let (mut left_out, mut names) = (BTreeSet::new(), Vec::new());
        reach(&state, &request.exclude, &BTreeSet::new(), &mut Vec::new(), &mut left_out);
        reach(&state, &request.include, &left_out, &mut names, &mut BTreeSet::new());
        let commits: Vec<GitCommit> = names.iter().map(|name| state.commits[name].0.clone()).collect();
        let responses: Vec<_> =
            commits.chunks(500).map(|some| Ok(ListCommitsResponse { commits: some.to_vec() })).collect();
        Ok(Response::new(stream::iter(responses).boxed()))
    }

    async fn read_files(
        &self,
        request: Request<ReadFilesRequest>,
    ) -> Result<Response<ReadFilesResponse>, Status> {
        let ReadFilesRequest { commit, paths, .. } = request.into_inner();
        let state = self.state();
        let content = |path: &String| state.files.get(&(commit.clone(), path.clone()));
        let files = paths
            .iter()
            .filter_map(|path| Some(File { path: path.clone(), content: content(path)?.clone().into() }));
        Ok(Response::new(ReadFilesResponse { files: files.collect(), tree: String::new() }))
    }

    async fn upload_bundle(
        &self,
        _: Request<Streaming<UploadBundleRequest>>,
    ) -> Result<Response<UploadBundleResponse>, Status> {
        Err(Status::unimplemented("maintnerd uploads nothing"))
    }

    async fn tickle(&self, request: Request<TickleRequest>) -> Result<Response<TickleResponse>, Status> {
        self.state().tickled.push(request.into_inner().repository);
        Ok(Response::new(TickleResponse {}))
    }
}
