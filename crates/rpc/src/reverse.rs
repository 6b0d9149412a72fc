//! The reversed connection (decision D9): a machine behind NAT dials out, and then answers calls.
//!
//! The machine sends HTTP/1.1 `GET /reverse` with `Upgrade: buildlet-grpc/1` over TLS, with its certificate. After
//! `101 Switching Protocols` both speak HTTP/2 over the same stream with the roles reversed: the coordinator is the
//! client. Both sides notice a silent peer within 6 s.

mod dial;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

use runtime::Tasks;

use crate::{
    Channel, Peer,
    status::chain,
    transport::{self, Abortable},
};

pub use dial::{DialError, ServeError, Stream, dial, serve};

/// The protocol that the connection is upgraded to.
pub const PROTOCOL: &str = "buildlet-grpc/1";

/// The header in which the dialling side says its version.
pub const VERSION_HEADER: &str = "farmer-version";

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls may go on after shutdown began, unless their channels are dropped before.
const DRAIN: Duration = Duration::from_secs(2);

/// What is done with each machine that dials in. It must not block: it hands the connection on.
pub type OnConnect = Arc<dyn Fn(Incoming) + Send + Sync>;

/// A machine that dialled in.
#[derive(Debug)]
pub struct Incoming {
    /// Who, by its certificate: always a machine.
    pub peer: Peer,
    /// Its version, from [`VERSION_HEADER`]; empty if it did not say.
    pub version: String,
    /// The headers that it sent.
    pub headers: HeaderMap,
    /// The way to call it. The connection is closed when all clones are dropped.
    pub channel: Channel,
    /// Cancelled when the connection is gone, for whatever reason.
    pub closed: CancellationToken,
}

/// Serves `GET /reverse`; for [`crate::Server::http`] of a server with TLS.
pub fn router(on_connect: OnConnect) -> Router {
    Router::new().route("/reverse", get(accept)).with_state(on_connect)
}

async fn accept(State(on_connect): State<OnConnect>, mut request: Request) -> Response {
    let Some(peer @ Peer::Machine { .. }) = request.extensions().get::<Peer>().cloned() else {
        return (StatusCode::FORBIDDEN, "only machines connect here\n").into_response();
    };
    let Some(tasks) = request.extensions().get::<Tasks>().cloned() else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "not served by an rpc server\n").into_response();
    };
    let wanted = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    if wanted.is_none_or(|wanted| !wanted.eq_ignore_ascii_case(PROTOCOL)) {
        let headers = [(UPGRADE, PROTOCOL)];
        return (StatusCode::UPGRADE_REQUIRED, headers, "an upgrade to buildlet-grpc/1 is needed\n")
            .into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = std::mem::take(request.headers_mut());
    let shutdown = tasks.shutdown();
    tasks.job("reversed connection", begin(upgrade, peer, headers, on_connect, shutdown));
    let headers =
        [(CONNECTION, HeaderValue::from_static("upgrade")), (UPGRADE, HeaderValue::from_static(PROTOCOL))];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Takes over the upgraded stream, hands out its channel and keeps it alive.
async fn begin(
    upgrade: OnUpgrade,
    peer: Peer,
    headers: HeaderMap,
    on_connect: OnConnect,
    shutdown: CancellationToken,
) {
    let connection = CancellationToken::new();
    let _ending = connection.clone().drop_guard();
    let started = async { transport::handshake(upgrade.await?, Abortable(connection)).await };
    let (sender, driver) = match timeout(UPGRADE_TIMEOUT, started).await {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => return debug!("{peer} went away while connecting: {}", chain(&error)),
        Err(_) => return debug!("{peer} did not finish connecting"),
    };
    let closed = CancellationToken::new();
    let _closing: DropGuard = closed.clone().drop_guard();
    info!("{peer} connected");
    let version =
        headers.get(VERSION_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let channel = Channel::over(sender, http::uri::Authority::from_static("farmer"));
    on_connect(Incoming { peer: peer.clone(), version, headers, channel, closed });
    keep(driver, &peer, shutdown).await;
}

async fn keep(driver: transport::Driver<Upgraded>, peer: &Peer, shutdown: CancellationToken) {
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = driver => match ended {
            Ok(()) => info!("{peer} disconnected"),
            Err(error) => info!("{peer} was lost: {}", chain(&error)),
        },
        () = drained => {}
    }
}
