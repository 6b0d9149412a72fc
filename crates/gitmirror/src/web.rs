//! Archives over HTTP: `GET /archive/REPOSITORY/COMMIT.tar`, `.tar.zst` or `.tar.gz`.

use std::{io, sync::Arc};

use async_compression::{
    Level,
    tokio::bufread::{GzipEncoder, ZstdEncoder},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{StatusCode, header};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};
use tracing::error;
use types::{CommitHash, RepositoryName};

use crate::{
    archive::{self, ArchiveError, Output},
    objects::ReadError,
    registry::Registry,
    repository::{CommitError, Repository},
    tree::{self, Commit},
};

/// Archives that are made at once; more wait.
const AT_ONCE: usize = 32;
/// Pieces between the maker of an archive and its reader.
const PIECES: usize = 4;
/// The size of compressed pieces.
const CHUNK: usize = 64 << 10;

struct Archives {
    registry: Arc<Registry>,
    places: Arc<Semaphore>,
    served: opentelemetry::metrics::Counter<u64>,
}

/// What serves archives.
pub(crate) fn router(registry: Arc<Registry>) -> Router {
    let served = runtime::telemetry::meter().u64_counter("gitmirror.archives").build();
    let archives = Archives { registry, places: Arc::new(Semaphore::new(AT_ONCE)), served };
    Router::new().route("/archive/{*path}", get(serve)).with_state(Arc::new(archives))
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Zstd,
    Gzip,
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("BAD_ARCHIVE_NAME: `{0}` is not REPOSITORY/COMMIT.tar, .tar.zst or .tar.gz")]
    Name(String),
    #[error("UNKNOWN_REPOSITORY: `{0}` is not mirrored here")]
    Repository(RepositoryName),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("cannot read the commit")]
    Read(#[from] ReadError),
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let (code, text) = match &self {
            Self::Name(_) => (StatusCode::BAD_REQUEST, self.to_string()),
            Self::Repository(_) => (StatusCode::NOT_FOUND, self.to_string()),
            Self::Commit(error @ CommitError::Unknown { .. }) => {
                (StatusCode::NOT_FOUND, format!("UNKNOWN_COMMIT: {error}"))
            }
            Self::Commit(error @ CommitError::Unreachable { source, .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("ORIGIN_UNREACHABLE: {error}: {source}"))
            }
            Self::Commit(CommitError::Read(_)) | Self::Read(_) => {
                error!("archive cannot be served: {:#}", anyhow::Error::new(self));
                let text = "GIT_FAILED: the log of gitmirror says more".to_owned();
                return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
            }
        };
        (code, text + "\n").into_response()
    }
}

async fn serve(
    State(archives): State<Arc<Archives>>,
    Path(path): Path<String>,
) -> Result<Response, ServeError> {
    let (name, commit, packing) =
        parse(&path).ok_or_else(|| ServeError::Name(path.chars().take(200).collect()))?;
    let repository = archives.registry.find(&name).ok_or(ServeError::Repository(name))?;
    let raw = repository.need(commit).await?;
    let head = tree::commit(&raw).map_err(ReadError::from)?;
    archives.served.add(1, &[]);
    let (to, pieces) = mpsc::channel(PIECES);
    let places = archives.places.clone();
    archives.registry.tasks.job("archive", async move {
        let _place = places.acquire().await;
        make(&repository, commit, &head, to).await;
    });
    let pieces = ReceiverStream::new(pieces);
    let body = match packing {
        Packing::Plain => Body::from_stream(pieces),
        Packing::Zstd => {
            let packed = ZstdEncoder::with_quality(StreamReader::new(pieces), Level::Precise(3));
            Body::from_stream(ReaderStream::with_capacity(packed, CHUNK))
        }
        Packing::Gzip => {
            let packed = GzipEncoder::with_quality(StreamReader::new(pieces), Level::Default);
            Body::from_stream(ReaderStream::with_capacity(packed, CHUNK))
        }
    };
    let kind = match packing {
        Packing::Plain => "application/x-tar",
        Packing::Zstd => "application/zstd",
        Packing::Gzip => "application/gzip",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::ETAG, format!("\"{commit}\"")),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, body).into_response())
}

async fn make(
    repository: &Repository,
    commit: CommitHash,
    head: &Commit,
    to: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut out = Output::new(to.clone());
    match archive::write(&repository.objects, head, &mut out).await {
        Ok(()) | Err(ArchiveError::ReaderGone) => {}
        Err(failure) => {
            let error = anyhow::Error::new(failure);
            let name = &repository.name;
            error!(repo.name = %name, commit.hash = %commit, "archive of `{name}` at {commit} broke off: {error:#}");
            // The reader must not take what it got for the whole.
            let _ = to.send(Err(io::Error::other("the archive broke off"))).await;
        }
    }
}

/// The repository's name may hold slashes, so the commit is what follows the last.
fn parse(path: &str) -> Option<(RepositoryName, CommitHash, Packing)> {
    let (name, file) = path.rsplit_once('/')?;
    let (commit, packing) = match file.split_once('.')? {
        (commit, "tar") => (commit, Packing::Plain),
        (commit, "tar.zst") => (commit, Packing::Zstd),
        (commit, "tar.gz") => (commit, Packing::Gzip),
        _ => return None,
    };
    Some((name.parse().ok()?, commit.parse().ok()?, packing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_are_read_strictly() {
        let commit = "a".repeat(40);
        let read = |text: &str| parse(text).map(|(name, _, packing)| (name.to_string(), packing));
        assert_eq!(read(&format!("go/{commit}.tar")), Some(("go".into(), Packing::Plain)));
        assert_eq!(read(&format!("x/tools/{commit}.tar.zst")), Some(("x/tools".into(), Packing::Zstd)));
        assert_eq!(read(&format!("go/{commit}.tar.gz")), Some(("go".into(), Packing::Gzip)));
        for path in [
            format!("{commit}.tar"),
            format!("go/{commit}"),
            format!("go/{commit}.zip"),
            format!("go/{}.tar", "A".repeat(40)),
            "go/HEAD.tar".into(),
            "go/--output=x.tar".into(),
            format!("../go/{commit}.tar"),
            format!("go/../x/{commit}.tar"),
            format!("-x/{commit}.tar"),
        ] {
            assert_eq!(read(&path), None, "{path}");
        }
    }
}
