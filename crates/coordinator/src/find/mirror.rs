//! gitmirror, as the coordinator uses it.

use std::collections::BTreeMap;

use api::gitmirror::{
    BundleHeader, ListCommitsRequest, ListRepositoriesRequest, ReadFilesRequest, Repository,
    UploadBundleRequest, mirror_service_client::MirrorServiceClient, upload_bundle_request::Part,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tonic::{Code, Status};
use types::{CommitHash, RepositoryName};

use super::Commit;
use crate::ports::Commits;

/// gitmirror did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It has no such commit.
    #[error("there is no commit `{commit}` in `{repository}`")]
    UnknownCommit {
        /// Where it was looked for.
        repository: RepositoryName,
        /// The commit.
        commit: CommitHash,
    },
    /// It cannot be reached, or failed.
    #[error("gitmirror: {}", .0.message())]
    Failed(Status),
}

impl MirrorError {
    /// Whether the same may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::UnknownCommit { .. } => false,
            Self::Failed(status) => {
                !matches!(status.code(), Code::InvalidArgument | Code::Unimplemented | Code::NotFound)
            }
        }
    }
}

/// Files of a commit.
pub struct Files {
    /// The commit's tree.
    pub tree: String,
    /// Those that are there.
    pub files: BTreeMap<String, Bytes>,
}

/// A client of gitmirror.
#[derive(Clone)]
pub(crate) struct Mirror(MirrorServiceClient<rpc::Channel>);

impl Mirror {
    pub(crate) fn new(channel: rpc::Channel) -> Self {
        Self(MirrorServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE))
    }

    /// Brings a bundle into a repository.
    pub(crate) async fn upload(
        &self,
        header: BundleHeader,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<(), Status> {
        let part = |part| UploadBundleRequest { part: Some(part) };
        let parts = futures_util::stream::once(std::future::ready(part(Part::Header(header))))
            .chain(chunks.map(move |chunk| part(Part::Chunk(chunk))));
        let request = rpc::with_deadline(parts, std::time::Duration::from_mins(10));
        self.0.clone().upload_bundle(request).await?;
        Ok(())
    }

    /// What is mirrored, and how fresh it is.
    pub(crate) async fn repositories(&self) -> Result<Vec<Repository>, Status> {
        let request = rpc::with_deadline(ListRepositoriesRequest {}, std::time::Duration::from_secs(2));
        Ok(self.0.clone().list_repositories(request).await?.into_inner().repositories)
    }
}

#[async_trait]
impl Commits for Mirror {
    async fn files(
        &self,
        repository: &RepositoryName,
        commit: CommitHash,
        paths: Vec<String>,
    ) -> Result<Files, MirrorError> {
        let request =
            ReadFilesRequest { repository: repository.to_string(), commit: commit.to_string(), paths };
        let response =
            self.0.clone().read_files(request).await.map_err(|status| unknown(status, repository, commit))?;
        let response = response.into_inner();
        let files = response.files.into_iter().map(|file| (file.path, file.content)).collect();
        Ok(Files { tree: response.tree, files })
    }

    async fn commits(
        &self,
        repository: &RepositoryName,
        include: CommitHash,
        exclude: &[CommitHash],
        limit: u32,
    ) -> Result<Vec<Commit>, MirrorError> {
        let request = ListCommitsRequest {
            repository: repository.to_string(),
            include: vec![include.to_string()],
            exclude: exclude.iter().take(10_000).map(ToString::to_string).collect(),
            limit,
        };
        let failed = |status| unknown(status, repository, include);
        let mut stream = self.0.clone().list_commits(request).await.map_err(failed)?.into_inner();
        let mut commits = Vec::new();
        while let Some(response) = stream.message().await.map_err(failed)? {
            commits.extend(response.commits.iter().filter_map(Commit::parse));
        }
        Ok(commits)
    }
}

fn unknown(status: Status, repository: &RepositoryName, commit: CommitHash) -> MirrorError {
    if rpc::reason(&status).as_deref() == Some("UNKNOWN_COMMIT") {
        return MirrorError::UnknownCommit { repository: repository.clone(), commit };
    }
    MirrorError::Failed(status)
}
