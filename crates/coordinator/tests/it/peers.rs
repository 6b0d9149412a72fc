//! gitmirror and maintnerd in memory.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use api::{
    gitmirror::{
        File, ListCommitsRequest, ListCommitsResponse, ListRepositoriesRequest, ListRepositoriesResponse,
        ReadFilesRequest, ReadFilesResponse, TickleRequest, TickleResponse, UploadBundleRequest,
        UploadBundleResponse, WatchRefsRequest, WatchRefsResponse, mirror_service_server::MirrorService,
    },
    maintner::{
        AppendBuildResultsRequest, AppendBuildResultsResponse, Checkpoint, GetLogStatusRequest,
        GetLogStatusResponse, MutationBatch, WatchMutationsRequest, WatchMutationsResponse,
        mutation_service_server::MutationService, watch_mutations_response::Event,
    },
    maintpb::{BuildResult, GitCommit, GitMutation, GitRef, Mutation, RepositoryMutation},
};
use futures_util::Stream;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct FakeProject {
    log: watch::Sender<Vec<Mutation>>,
    files: Arc<Mutex<BTreeMap<String, String>>>,
    pub(crate) results: Arc<Mutex<Vec<BuildResult>>>,
}

fn commit(hash: &str, parent: Option<&str>) -> GitCommit {
    let parent = parent.map(|parent| format!("parent {parent}\n")).unwrap_or_default();
    let raw = format!(
        "tree {hash}\n{parent}author A U Thor <a@b> 1700000000 +0000\ncommitter C <c@d> 1700000000 +0000\n\nCommit {}\n",
        &hash[..4]
    );
    GitCommit { sha1: hash.to_owned(), raw: raw.into(), diff_tree: None }
}

fn committed(hash: &str, parent: Option<&str>) -> Mutation {
    let git = GitMutation { repo: None, commit: Some(commit(hash, parent)) };
    Mutation { git: Some(git), ..Mutation::default() }
}

/// Main is there now.
fn moved_to(hash: &str) -> Mutation {
    let moved = RepositoryMutation {
        repository: "example".to_owned(),
        refs: vec![GitRef { r#ref: "refs/heads/main".to_owned(), sha1: hash.to_owned() }],
        deleted_refs: Vec::new(),
    };
    Mutation { repository: Some(moved), ..Mutation::default() }
}

impl FakeProject {
    pub(crate) fn new() -> Self {
        Self { log: watch::channel(Vec::new()).0, files: Arc::default(), results: Arc::default() }
    }

    /// A commit with this `farmer.toml` becomes the tip of main. Answers its hash.
    pub(crate) fn push(&self, digit: char, parent: Option<char>, file: &str) -> String {
        let hash = digit.to_string().repeat(40);
        let parent = parent.map(|parent| parent.to_string().repeat(40));
        self.push_hash(&hash, parent.as_deref(), file);
        hash
    }

    /// The same, by whole hashes.
    pub(crate) fn push_hash(&self, hash: &str, parent: Option<&str>, file: &str) {
        let hash = hash.to_owned();
        self.files.lock().unwrap().insert(hash.clone(), file.to_owned());
        self.log.send_modify(|log| {
            log.push(committed(&hash, parent));
            log.push(moved_to(&hash));
        });
    }

    /// Commits with the same `farmer.toml`, each the child of the one before, reach main by one push.
    pub(crate) fn push_all(&self, mut parent: String, hashes: &[String], file: &str) {
        let mut mutations = Vec::new();
        for hash in hashes {
            self.files.lock().unwrap().insert(hash.clone(), file.to_owned());
            mutations.push(committed(hash, Some(&parent)));
            parent.clone_from(hash);
        }
        mutations.push(moved_to(&parent));
        self.log.send_modify(|log| log.extend(mutations));
    }
}

#[tonic::async_trait]
impl MutationService for FakeProject {
    type WatchMutationsStream = Answers<WatchMutationsResponse>;

    async fn watch_mutations(
        &self,
        request: Request<WatchMutationsRequest>,
    ) -> Result<Response<Self::WatchMutationsStream>, Status> {
        let from: usize = request.into_inner().resume_token.parse().unwrap_or(0);
        let state = (self.log.subscribe(), from, true);
        Ok(Response::new(Box::pin(futures_util::stream::unfold(
            state,
            |(mut log, from, begun)| async move {
                let known = log.borrow_and_update().clone();
                if known.len() > from {
                    let batch = MutationBatch { mutations: known[from..].to_vec() };
                    let token = known.len().to_string();
                    let response =
                        WatchMutationsResponse { event: Some(Event::Batch(batch)), resume_token: token };
                    return Some((Ok(response), (log, known.len(), begun)));
                }
                if begun {
                    let event = Event::Checkpoint(Checkpoint { position: from as u64 });
                    let response =
                        WatchMutationsResponse { event: Some(event), resume_token: from.to_string() };
                    return Some((Ok(response), (log, from, false)));
                }
                let known = log.wait_for(|log| log.len() > from).await.ok()?.clone();
                let batch = MutationBatch { mutations: known[from..].to_vec() };
                let response = WatchMutationsResponse {
                    event: Some(Event::Batch(batch)),
                    resume_token: known.len().to_string(),
                };
                Some((Ok(response), (log, known.len(), false)))
            },
        ))))
    }

    async fn append_build_results(
        &self,
        request: Request<AppendBuildResultsRequest>,
    ) -> Result<Response<AppendBuildResultsResponse>, Status> {
        let mut results = self.results.lock().unwrap();
        for result in request.into_inner().results {
            if !results.iter().any(|known| (known.build, known.attempt) == (result.build, result.attempt)) {
                results.push(result);
            }
        }
        Ok(Response::new(AppendBuildResultsResponse {}))
    }

    async fn get_log_status(
        &self,
        _: Request<GetLogStatusRequest>,
    ) -> Result<Response<GetLogStatusResponse>, Status> {
        Ok(Response::new(GetLogStatusResponse::default()))
    }
}

#[tonic::async_trait]
impl MirrorService for FakeProject {
    type WatchRefsStream = Answers<WatchRefsResponse>;
    type ListCommitsStream = Answers<ListCommitsResponse>;

    async fn list_repositories(
        &self,
        _: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        Ok(Response::new(ListRepositoriesResponse::default()))
    }

    async fn watch_refs(
        &self,
        _: Request<WatchRefsRequest>,
    ) -> Result<Response<Self::WatchRefsStream>, Status> {
        Err(Status::unimplemented("the coordinator does not watch refs"))
    }

    async fn list_commits(
        &self,
        request: Request<ListCommitsRequest>,
    ) -> Result<Response<Self::ListCommitsStream>, Status> {
        let hash = request.into_inner().include.remove(0);
        let commits = vec![commit(&hash, None)];
        Ok(Response::new(Box::pin(futures_util::stream::iter([Ok(ListCommitsResponse { commits })]))))
    }

    async fn read_files(
        &self,
        request: Request<ReadFilesRequest>,
    ) -> Result<Response<ReadFilesResponse>, Status> {
        let request = request.into_inner();
        let files = self.files.lock().unwrap();
        let content = files
            .get(&request.commit)
            .ok_or_else(|| rpc::status(Code::NotFound, "UNKNOWN_COMMIT", "there is no such commit"))?;
        let wanted = request.paths.into_iter().filter(|path| path == "farmer.toml");
        let file = |path| File { path, content: content.clone().into() };
        Ok(Response::new(ReadFilesResponse { files: wanted.map(file).collect(), tree: request.commit }))
    }

    async fn upload_bundle(
        &self,
        request: Request<Streaming<UploadBundleRequest>>,
    ) -> Result<Response<UploadBundleResponse>, Status> {
        use api::gitmirror::upload_bundle_request::Part;
        let mut parts = request.into_inner();
        let mut commit = String::new();
        let mut content = Vec::new();
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(Part::Header(header)) => commit = header.commit,
                Some(Part::Chunk(chunk)) => content.extend_from_slice(&chunk),
                None => {}
            }
        }
        // The bundle of a fake repository is its `farmer.toml`.
        self.files.lock().unwrap().insert(commit, String::from_utf8(content).unwrap());
        Ok(Response::new(UploadBundleResponse { r#ref: "refs/farmer/try/1".to_owned() }))
    }

    async fn tickle(&self, _: Request<TickleRequest>) -> Result<Response<TickleResponse>, Status> {
        Ok(Response::new(TickleResponse {}))
    }
}
