//! What stage0 asks for: `GET /buildlet/release/CHANNEL/OS/ARCH?machine=NAME` and `GET /buildlet/binary/DIGEST`. Everybody
//! may: a machine whose certificate has expired needs its new buildlet all the more, and nothing of it is secret.

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;
use tracing::error;

use super::{Releases, key};

/// The routes.
pub(crate) fn router(releases: Releases) -> Router {
    Router::new()
        .route("/buildlet/release/{channel}/{os}/{arch}", get(release))
        .route("/buildlet/binary/{digest}", get(binary))
        .with_state(releases)
}

#[derive(Deserialize)]
struct Asks {
    #[serde(default)]
    machine: String,
}

/// What is answered: the manifest as it was signed, and the signature.
#[derive(Serialize)]
struct Sealed {
    manifest: String,
    seal: String,
}

async fn release(
    State(releases): State<Releases>,
    Path((channel, os, arch)): Path<(String, String, String)>,
    Query(asks): Query<Asks>,
    headers: HeaderMap,
) -> Response {
    let platform = format!("{os}/{arch}");
    let found = match releases.of_machine(&platform, &channel, &asks.machine).await {
        Ok(found) => found,
        Err(error) => {
            error!("releases cannot be read: {error}");
            return (StatusCode::SERVICE_UNAVAILABLE, "releases cannot be read now\n").into_response();
        }
    };
    let Some(found) = found else {
        let text = format!(
            "nothing was published for {platform} on `{channel}`: an operator does it with `farmer buildlet publish`\n"
        );
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let tag = format!("\"{}\"", found.number);
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    let sealed = Sealed { manifest: found.manifest, seal: found.seal };
    ([(ETAG, tag)], axum::Json(sealed)).into_response()
}

async fn binary(State(releases): State<Releases>, Path(digest): Path<String>) -> Response {
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return (StatusCode::NOT_FOUND, "that is no digest\n").into_response();
    }
    let key = key(&digest);
    let opened = match releases.blobs.size(&key).await {
        Ok(size) => releases.blobs.open(&key).await.map(|reader| (size, reader)),
        Err(error) => Err(error),
    };
    match opened {
        Ok((size, reader)) => {
            let body = Body::from_stream(ReaderStream::with_capacity(reader, 256 << 10));
            ([(CONTENT_LENGTH, size)], body).into_response()
        }
        Err(error) if error.is_not_found() => {
            (StatusCode::NOT_FOUND, "there is no such binary\n").into_response()
        }
        Err(error) => {
            error!("binary `{digest}` cannot be read: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, "the binary cannot be read now\n").into_response()
        }
    }
}
