//! The reversed connection (decision D9): a machine behind NAT dials out, and then answers calls.
//!
//! The machine sends HTTP/1.1 `GET /reverse` with `Upgrade: buildlet-grpc/1` over TLS, with its certificate. After
//! `101 Switching Protocols` both speak HTTP/2 over the same stream with the roles reversed: the coordinator is the
//! client. Both sides notice a silent peer within 6 s.

mod dial;
#[cfg(test)]
mod fuzz;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONNECTION, LOCATION, UPGRADE},
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

/// What all versions of the protocol begin with; what follows is a number.
const FAMILY: &str = "buildlet-grpc/";

/// The header in which the dialling side says its version.
pub const VERSION_HEADER: &str = "farmer-version";

/// The header in which the dialling side says which of its lives this is, so that two machines with one name can be told
/// from one machine that connects again.
pub const INSTANCE_HEADER: &str = "farmer-instance";

/// The header in which the answering side says what time it is, in microseconds since 1970.
const TIME_HEADER: &str = "farmer-time";

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls may go on after shutdown began, unless their channels are dropped before.
const DRAIN: Duration = Duration::from_secs(2);

/// What is done with each machine that dials in. It must not block: it hands the connection on.
pub type OnConnect = Arc<dyn Fn(Incoming) + Send + Sync>;

/// Decides about each machine that wants to connect, before it is taken in.
pub type Admit = Arc<dyn Fn(Caller) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// A machine that wants to connect.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, by its certificate: always a machine.
    pub peer: Peer,
    /// Which of its lives this is, by [`INSTANCE_HEADER`]; empty if it did not say.
    pub instance: String,
}

/// What becomes of a machine that wants to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken in.
    Welcome,
    /// It is told why not, with this status. It tries again, so a later answer may be another one.
    Refused(StatusCode, String),
    /// It is told to dial this URL.
    Elsewhere(String),
}

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
    /// Which of its lives this is, by [`INSTANCE_HEADER`]; empty if it did not say.
    pub instance: String,
    /// Cancelled when the connection is gone, for whatever reason.
    pub closed: CancellationToken,
    /// To be cancelled to close the connection, whoever still holds its channel.
    pub cut: CancellationToken,
}

/// Serves `GET /reverse`; for [`crate::Server::http`] of a server with TLS. Every machine is taken in.
pub fn router(on_connect: OnConnect) -> Router {
    admitting_router(Arc::new(|_| Box::pin(std::future::ready(Verdict::Welcome))), on_connect)
}

/// As [`router`], for the machines that `admit` lets in.
pub fn admitting_router(admit: Admit, on_connect: OnConnect) -> Router {
    Router::new().route("/reverse", get(accept)).with_state((admit, on_connect))
}

async fn accept(State((admit, on_connect)): State<(Admit, OnConnect)>, mut request: Request) -> Response {
    if let Err((status, message)) = protocol(request.headers()) {
        return (status, [(UPGRADE, PROTOCOL)], message).into_response();
    }
    let Some(peer @ Peer::Machine { .. }) = request.extensions().get::<Peer>().cloned() else {
        let message = "only machines connect here, with the certificate that `buildlet enroll` got them\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    };
    let Some(tasks) = request.extensions().get::<Tasks>().cloned() else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "not served by an rpc server\n").into_response();
    };
    let instance = text(request.headers(), INSTANCE_HEADER);
    match admit(Caller { peer: peer.clone(), instance }).await {
        Verdict::Welcome => {}
        Verdict::Refused(status, message) => return (status, message).into_response(),
        Verdict::Elsewhere(url) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, url)]).into_response();
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = std::mem::take(request.headers_mut());
    let shutdown = tasks.shutdown();
    tasks.job("reversed connection", begin(upgrade, peer, headers, on_connect, shutdown));
    let now = runtime::system_clock().now().0.to_string();
    let headers = [
        (CONNECTION, "upgrade".to_owned()),
        (UPGRADE, PROTOCOL.to_owned()),
        (HeaderName::from_static(TIME_HEADER), now),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Whether we have a protocol in common. If not: what to do about it, for the one who dialled.
fn protocol(headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
    let wanted = text(headers, UPGRADE.as_str());
    let mut offers = wanted.split(',').map(str::trim);
    if offers.any(|offer| offer.eq_ignore_ascii_case(PROTOCOL)) {
        return Ok(());
    }
    if headers.contains_key("x-go-host-type") {
        let message =
            "this farm does not speak revdial: run Farmer's buildlet, which takes the same command line\n";
        return Err((StatusCode::BAD_REQUEST, message.to_owned()));
    }
    let number = |offer: &str| offer.trim().strip_prefix(FAMILY)?.parse::<u32>().ok();
    let ours = number(PROTOCOL);
    let message = match wanted.split(',').filter_map(number).max() {
        None => format!("an upgrade to {PROTOCOL} is needed\n"),
        theirs if theirs < ours => format!(
            "this buildlet ({}) is too old: it speaks {wanted}, the farm {PROTOCOL}; update the buildlet\n",
            text(headers, VERSION_HEADER)
        ),
        _ => format!("this buildlet is too new: it speaks {wanted}, the farm {PROTOCOL}; update the farm\n"),
    };
    Err((StatusCode::UPGRADE_REQUIRED, message))
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
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
    let (version, instance) = (text(&headers, VERSION_HEADER), text(&headers, INSTANCE_HEADER));
    let channel = Channel::over(sender, http::uri::Authority::from_static("farmer"));
    let cut = CancellationToken::new();
    on_connect(Incoming {
        peer: peer.clone(),
        version,
        headers,
        channel,
        instance,
        closed,
        cut: cut.clone(),
    });
    tokio::select! {
        () = keep(driver, &peer, shutdown) => {}
        () = cut.cancelled() => info!("{peer} was cut off"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, wanted.parse().unwrap());
        headers.insert(VERSION_HEADER, "0.1.0".parse().unwrap());
        let answer = protocol(&headers).map_or_else(|(_, message)| message, |()| "yes".to_owned());
        assert!(answer.contains(expected), "{wanted}: {answer}");
    }

    #[test]
    fn who_speaks_another_version_is_told_who_must_be_updated() {
        check("buildlet-grpc/1", "yes");
        check("buildlet-grpc/7, Buildlet-gRPC/1", "yes");
        check("buildlet-grpc/0", "this buildlet (0.1.0) is too old");
        check("buildlet-grpc/2", "update the farm");
        check("websocket", "an upgrade to buildlet-grpc/1 is needed");
        let mut headers = HeaderMap::new();
        headers.insert("X-Go-Host-Type", "host-linux".parse().unwrap());
        assert!(protocol(&headers).unwrap_err().1.contains("run Farmer's buildlet"));
    }
}
