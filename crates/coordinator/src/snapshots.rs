//! Serves snapshots to machines: `GET /snapshot/KEY.tar.zst` on the internal listener, whose clients show certificates.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use store::Blobs;
use tokio_util::io::ReaderStream;
use tracing::error;

use crate::shell::snapshot_blob;

/// The route.
pub(crate) fn router(blobs: Arc<dyn Blobs>) -> Router {
    Router::new().route("/snapshot/{name}", get(serve)).with_state(blobs)
}

async fn serve(
    State(blobs): State<Arc<dyn Blobs>>,
    peer: Option<Extension<rpc::Peer>>,
    Path(name): Path<String>,
) -> Response {
    if !matches!(peer, Some(Extension(rpc::Peer::Machine { .. } | rpc::Peer::Service(_)))) {
        return (StatusCode::FORBIDDEN, "snapshots are for machines\n").into_response();
    }
    let key = name.strip_suffix(".tar.zst").filter(|key| key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(key) = key else {
        return (StatusCode::NOT_FOUND, "there is no such snapshot\n").into_response();
    };
    match blobs.open(&snapshot_blob(key)).await {
        Ok(reader) => Body::from_stream(ReaderStream::with_capacity(reader, 256 << 10)).into_response(),
        Err(error) if error.is_not_found() => {
            (StatusCode::NOT_FOUND, "there is no such snapshot\n").into_response()
        }
        Err(error) => {
            error!("snapshot `{key}` cannot be read: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, "the snapshot cannot be read now\n").into_response()
        }
    }
}
