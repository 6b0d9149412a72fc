//! A mirror that does what its requests ask for, the good and the bad.

use std::pin::Pin;

use api::{
    gitmirror::{
        Checkpoint, File, ListCommitsRequest, ListCommitsResponse, ListRepositoriesRequest,
        ListRepositoriesResponse, ReadFilesRequest, ReadFilesResponse, Repository, TickleRequest,
        TickleResponse, UploadBundleRequest, UploadBundleResponse, WatchRefsRequest, WatchRefsResponse,
        mirror_service_server::MirrorService, upload_bundle_request::Part, watch_refs_response::Event,
    },
    maintpb::GitCommit,
};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Code, Request, Response, Status, Streaming};

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many commits one stream delivers before it breaks.
pub(crate) const COMMITS: u32 = 3;

pub(crate) struct Mirror;

#[tonic::async_trait]
impl MirrorService for Mirror {
    /// Answers with who asks and how long they wait, in seconds.
    async fn list_repositories(
        &self,
        request: Request<ListRepositoriesRequest>,
    ) -> Result<Response<ListRepositoriesResponse>, Status> {
        let name = rpc::peer(&request).map(ToString::to_string).unwrap_or_default();
        let left = rpc::deadline(&request).remaining().map(|left| left.as_secs().to_string());
        let repository = Repository { name, origin: left.unwrap_or_default(), ..Repository::default() };
        Ok(Response::new(ListRepositoriesResponse { repositories: vec![repository] }))
    }

    type WatchRefsStream = BoxStream<WatchRefsResponse>;

    /// One checkpoint, then silence.
    async fn watch_refs(
        &self,
        _: Request<WatchRefsRequest>,
    ) -> Result<Response<Self::WatchRefsStream>, Status> {
        let first = WatchRefsResponse { event: Some(Event::Checkpoint(Checkpoint {})) };
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(stream::pending()))))
    }

    type ListCommitsStream = BoxStream<ListCommitsResponse>;

    /// `limit` is the position to go on from: a few commits after it, then the stream breaks. Position 1000 is gone.
    /// The repository `panic` breaks by a panic, `flood` is 1 GiB.
    async fn list_commits(
        &self,
        request: Request<ListCommitsRequest>,
    ) -> Result<Response<Self::ListCommitsStream>, Status> {
        let ListCommitsRequest { limit, repository, .. } = request.into_inner();
        if limit >= 1000 {
            return Err(rpc::status(Code::OutOfRange, "RESUME_TOKEN_EXPIRED", "history is gone"));
        }
        if repository == "flood" {
            let raw = GitCommit { raw: vec![7; 256 << 10].into(), ..GitCommit::default() };
            let chunk = ListCommitsResponse { commits: vec![raw] };
            return Ok(Response::new(Box::pin(stream::iter((0..4096).map(move |_| Ok(chunk.clone()))))));
        }
        let commits = (limit + 1..=limit + COMMITS).map(|position| Ok(commit(position.to_string())));
        let broken = stream::once(async move {
            assert!(repository != "panic", "a stream panics on purpose");
            Err(Status::unavailable("broken on purpose"))
        });
        Ok(Response::new(Box::pin(stream::iter(commits).chain(broken))))
    }

    /// The paths are sizes of files.
    async fn read_files(
        &self,
        request: Request<ReadFilesRequest>,
    ) -> Result<Response<ReadFilesResponse>, Status> {
        let paths = request.into_inner().paths.into_iter();
        let files = paths.map(|path| File { content: vec![7; path.parse().unwrap()].into(), path }).collect();
        Ok(Response::new(ReadFilesResponse { files, ..ReadFilesResponse::default() }))
    }

    /// Answers with the number of bytes.
    async fn upload_bundle(
        &self,
        request: Request<Streaming<UploadBundleRequest>>,
    ) -> Result<Response<UploadBundleResponse>, Status> {
        let mut stream = request.into_inner();
        let mut total = 0;
        while let Some(message) = stream.message().await? {
            if let Some(Part::Chunk(chunk)) = message.part {
                total += chunk.len();
            }
        }
        Ok(Response::new(UploadBundleResponse { r#ref: total.to_string() }))
    }

    /// Does what the repository is called.
    async fn tickle(&self, request: Request<TickleRequest>) -> Result<Response<TickleResponse>, Status> {
        match request.into_inner().repository.as_str() {
            "panic" => panic!("a handler panics on purpose"),
            "slow" => std::future::pending().await,
            "internal" => Err(rpc::internal("STORE_FAILED", &std::io::Error::other("the secret cause"))),
            _ => Ok(Response::new(TickleResponse {})),
        }
    }
}

fn commit(sha1: String) -> ListCommitsResponse {
    ListCommitsResponse { commits: vec![GitCommit { sha1, ..GitCommit::default() }] }
}
