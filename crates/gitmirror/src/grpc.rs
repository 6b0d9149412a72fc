//! `farmer.gitmirror.v1.MirrorService`: parses, calls, renders.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use api::gitmirror::{
    Checkpoint, ListCommitsRequest, ListCommitsResponse, ListRepositoriesRequest, ListRepositoriesResponse,
    ReadFilesRequest, ReadFilesResponse, RefUpdate, TickleRequest, TickleResponse, UploadBundleRequest,
    UploadBundleResponse, WatchRefsRequest, WatchRefsResponse, mirror_service_server::MirrorService,
    upload_bundle_request::Part, watch_refs_response::Event,
};
use futures_util::{Stream, StreamExt, stream};
use rpc::Peer;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use types::{CommitHash, RepositoryName};
use uuid::Uuid;

use crate::{
    bundle::{self, Incoming, UploadError},
    commits::{self, ListError, Query},
    files::{self, FilesError},
    hub::{Ended, Move, RefTable, Watcher},
    registry::Registry,
    repository::{CommitError, Repository},
};

const MOST_INCLUDED: usize = 1000;
const MOST_EXCLUDED: usize = 10_000;
const MOST_PATHS: usize = 100;
/// Messages of commits between their reader and the wire.
const MESSAGES: usize = 2;

/// The service.
pub(crate) struct Mirrors {
    registry: Arc<Registry>,
    incoming: PathBuf,
}

impl Mirrors {
    /// Over some repositories, with a folder for what comes in.
    pub(crate) fn new(registry: Arc<Registry>, incoming: PathBuf) -> Self {
        Self { registry, incoming }
    }

    fn find(&self, name: &str) -> Result<Arc<Repository>, Status> {
        let found = name.parse::<RepositoryName>().ok().and_then(|name| self.registry.find(&name));
        let shown: String = name.chars().take(80).collect();
        found.ok_or_else(|| {
            rpc::status(Code::NotFound, "UNKNOWN_REPOSITORY", format!("`{shown}` is not mirrored here"))
        })
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MirrorService for Mirrors {
    async fn list_repositories(
        &self,
        _: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        let repositories = self.registry.all().iter().map(|repository| describe(repository)).collect();
        Ok(Response::new(ListRepositoriesResponse { repositories }))
    }

    type WatchRefsStream = Responses<WatchRefsResponse>;

    async fn watch_refs(
        &self,
        _: Request<WatchRefsRequest>,
    ) -> Result<Response<Self::WatchRefsStream>, Status> {
        let (state, watcher) = self.registry.hub.watch();
        let state =
            stream::iter(state).flat_map(|(repository, table)| stream::iter(updates(&repository, &table)));
        let state = state.chain(stream::iter([checkpoint()]));
        let every = self.registry.timings.checkpoint;
        let live = stream::unfold(Some(watcher), move |watcher| async move {
            let mut watcher: Watcher = watcher?;
            match timeout(every, watcher.next()).await {
                Err(_) => Some((Ok(checkpoint()), Some(watcher))),
                Ok(Ok(next)) => Some((Ok(update(next)), Some(watcher))),
                Ok(Err(Ended::Closed)) => None,
                Ok(Err(Ended::TooSlow)) => Some((Err(too_slow()), None)),
            }
        });
        Ok(Response::new(Box::pin(state.map(Ok).chain(live))))
    }

    type ListCommitsStream = Responses<ListCommitsResponse>;

    async fn list_commits(
        &self,
        request: Request<ListCommitsRequest>,
    ) -> Result<Response<Self::ListCommitsStream>, Status> {
        let request = request.into_inner();
        let repository = self.find(&request.repository)?;
        let query = Query {
            include: commits(&request.include, 1, MOST_INCLUDED)?,
            exclude: commits(&request.exclude, 0, MOST_EXCLUDED)?,
            limit: request.limit,
        };
        let names = commits::names(&repository, &query).await.map_err(list_status)?;
        let (to, messages) = mpsc::channel(MESSAGES);
        self.registry.tasks.job("list commits", async move {
            commits::send(&repository, &names, &to).await;
        });
        let render = |message: Result<_, _>| {
            message.map(|commits| ListCommitsResponse { commits }).map_err(list_status)
        };
        Ok(Response::new(Box::pin(ReceiverStream::new(messages).map(render))))
    }

    async fn read_files(
        &self,
        request: Request<ReadFilesRequest>,
    ) -> Result<Response<ReadFilesResponse>, Status> {
        let request = request.into_inner();
        let repository = self.find(&request.repository)?;
        let commit = parse_commit(&request.commit)?;
        if request.paths.len() > MOST_PATHS {
            return Err(invalid("BAD_PATH", format!("at most {MOST_PATHS} files at once")));
        }
        let raw = repository.need(commit).await.map_err(commit_status)?;
        let (tree, files) =
            files::read(&repository.objects, &raw, request.paths).await.map_err(files_status)?;
        Ok(Response::new(ReadFilesResponse { files, tree: tree.to_string() }))
    }

    async fn upload_bundle(
        &self,
        request: Request<Streaming<UploadBundleRequest>>,
    ) -> Result<Response<UploadBundleResponse>, Status> {
        only_services(&request)?;
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|message| message.part) else {
            return Err(invalid("BAD_BUNDLE", "the header must come first"));
        };
        let repository = self.find(&header.repository)?;
        let commit = parse_commit(&header.commit)?;
        let id: Uuid = header
            .request_id
            .parse()
            .map_err(|_| invalid("BAD_REQUEST_ID", "the request id must be a UUID"))?;
        if let Some(name) = bundle::earlier(&repository, id, commit).await.map_err(upload_status)? {
            return Ok(Response::new(UploadBundleResponse { r#ref: name }));
        }
        let mut incoming = Incoming::new(&self.incoming).await.map_err(upload_status)?;
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Chunk(chunk)) => incoming.write(&chunk).await.map_err(upload_status)?,
                _ => return Err(invalid("BAD_BUNDLE", "only chunks may follow the header")),
            }
        }
        let stored = incoming.store(&repository, id, commit, self.registry.clock.now()).await;
        Ok(Response::new(UploadBundleResponse { r#ref: stored.map_err(upload_status)? }))
    }

    async fn tickle(&self, request: Request<TickleRequest>) -> Result<Response<TickleResponse>, Status> {
        only_services(&request)?;
        let name = request.into_inner().repository;
        let wanted = if name.is_empty() { self.registry.all() } else { vec![self.find(&name)?] };
        for repository in wanted {
            repository.tickle();
        }
        Ok(Response::new(TickleResponse {}))
    }
}

/// Machines run code of strangers: they read, no more.
fn only_services<T>(request: &Request<T>) -> Result<(), Status> {
    match rpc::peer(request) {
        Some(Peer::Machine { name, .. }) => {
            let message = format!("machine `{name}` may only read");
            Err(rpc::status(Code::PermissionDenied, "MACHINES_ONLY_READ", message))
        }
        _ => Ok(()),
    }
}

fn describe(repository: &Repository) -> api::gitmirror::Repository {
    let status = repository.status();
    api::gitmirror::Repository {
        name: repository.name.to_string(),
        origin: repository.config.origin.to_string(),
        error: status.error(),
        default_branch: status.default_branch,
        fetched_at: status.fetched_at.map(rpc::timestamp),
        gerrit_project: repository.config.gerrit_project.clone().unwrap_or_default(),
        gerrit_url: repository.config.gerrit_url.clone().unwrap_or_default(),
    }
}

fn updates(repository: &RepositoryName, table: &RefTable) -> Vec<WatchRefsResponse> {
    let ref_move = |(name, commit): (&String, &CommitHash)| {
        update(Move { repository: repository.clone(), name: name.clone(), commit: Some(*commit) })
    };
    table.iter().map(ref_move).collect()
}

fn update(next: Move) -> WatchRefsResponse {
    let commit = next.commit.map(|commit| commit.to_string()).unwrap_or_default();
    let update = RefUpdate { repository: next.repository.to_string(), r#ref: next.name, commit };
    WatchRefsResponse { event: Some(Event::Update(update)) }
}

fn checkpoint() -> WatchRefsResponse {
    WatchRefsResponse { event: Some(Event::Checkpoint(Checkpoint {})) }
}

fn too_slow() -> Status {
    rpc::status(Code::ResourceExhausted, "SLOW_READER", "too many moves were not read in time: watch again")
}

fn invalid(reason: &'static str, message: impl std::fmt::Display) -> Status {
    rpc::status(Code::InvalidArgument, reason, message)
}

fn parse_commit(text: &str) -> Result<CommitHash, Status> {
    text.parse().map_err(|error| invalid("BAD_COMMIT", error))
}

fn commits(list: &[String], least: usize, most: usize) -> Result<Vec<CommitHash>, Status> {
    if list.len() < least || list.len() > most {
        return Err(invalid(
            "BAD_COMMIT",
            format!("{least} to {most} commits may be named, not {}", list.len()),
        ));
    }
    list.iter().map(|text| parse_commit(text)).collect()
}

fn commit_status(error: CommitError) -> Status {
    match &error {
        CommitError::Unknown { .. } => rpc::status(Code::NotFound, "UNKNOWN_COMMIT", error),
        CommitError::Unreachable { source, .. } => {
            rpc::status(Code::Unavailable, "ORIGIN_UNREACHABLE", format!("{error}: {source}"))
        }
        CommitError::Read(_) => rpc::internal("GIT_FAILED", &error),
    }
}

fn list_status(error: ListError) -> Status {
    match error {
        ListError::Commit(error) => commit_status(error),
        ListError::Walk(_) | ListError::Read(_) | ListError::Compare(_) => {
            rpc::internal("GIT_FAILED", &error)
        }
    }
}

fn files_status(error: FilesError) -> Status {
    match &error {
        FilesError::Path(_) => invalid("BAD_PATH", error),
        FilesError::TooMuch => rpc::status(Code::ResourceExhausted, "TOO_MUCH", error),
        FilesError::Read(_) => rpc::internal("GIT_FAILED", &error),
    }
}

fn upload_status(error: UploadError) -> Status {
    match error {
        UploadError::Bad { .. } | UploadError::Prerequisite { .. } => invalid("BAD_BUNDLE", error),
        UploadError::TooLarge => rpc::status(Code::ResourceExhausted, "BUNDLE_TOO_LARGE", error),
        UploadError::Reused { .. } => rpc::status(Code::AlreadyExists, "REQUEST_ID_REUSED", error),
        UploadError::Commit(error) => commit_status(error),
        UploadError::File(_) => rpc::internal("STORE_FAILED", &error),
        UploadError::Git(_) => rpc::internal("GIT_FAILED", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{git::GitError, objects::ReadError};

    #[test]
    fn every_error_has_its_code_and_reason() {
        let repository: RepositoryName = "go".parse().unwrap();
        let commit = CommitHash::from_bytes([1; 20]);
        let git = || GitError::TimedOut { what: "fetch".into(), after: std::time::Duration::from_secs(1) };
        let unknown = CommitError::Unknown { repository: repository.clone(), commit };
        let unreachable = CommitError::Unreachable { repository, commit, source: git() };
        let cases = [
            (commit_status(unknown), Code::NotFound, "UNKNOWN_COMMIT"),
            (commit_status(unreachable), Code::Unavailable, "ORIGIN_UNREACHABLE"),
            (commit_status(CommitError::Read(ReadError::Missing(commit))), Code::Internal, "GIT_FAILED"),
            (list_status(ListError::Walk(git())), Code::Internal, "GIT_FAILED"),
            (files_status(FilesError::Path("..".into())), Code::InvalidArgument, "BAD_PATH"),
            (files_status(FilesError::TooMuch), Code::ResourceExhausted, "TOO_MUCH"),
            (
                upload_status(UploadError::Bad { commit, why: "x".into() }),
                Code::InvalidArgument,
                "BAD_BUNDLE",
            ),
            (upload_status(UploadError::TooLarge), Code::ResourceExhausted, "BUNDLE_TOO_LARGE"),
            (
                upload_status(UploadError::Reused { id: Uuid::nil(), kept: commit }),
                Code::AlreadyExists,
                "REQUEST_ID_REUSED",
            ),
            (upload_status(UploadError::Git(git())), Code::Internal, "GIT_FAILED"),
            (too_slow(), Code::ResourceExhausted, "SLOW_READER"),
        ];
        for (status, code, reason) in cases {
            assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)));
        }
    }
}
