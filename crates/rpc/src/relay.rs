//! How a replica that does not lead hands connections on to the one that does, whatever is spoken over them.
//!
//! Bytes are carried, nothing is read: TLS, certificates, pages, calls, streams and reversed connections are between the
//! client and the leader. A listener that speaks TLS is handed on to the same listener of the leader. One that does not,
//! which other machines cannot reach, is handed on through that one: HTTP/1.1 `GET /relay/NAME` with
//! `Upgrade: farmer-relay/1`, by mTLS, and at its end the leader connects to its own listener of that name.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use http::{
    StatusCode,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use runtime::Tasks;

use crate::{Identity, Peer, TlsError, channel::drive, tls::server_name};

/// The protocol that a connection to the leader is upgraded to.
const PROTOCOL: &str = "farmer-relay/1";
/// How long a client is held while there is no leader that can be reached. The next one leads before.
const HOLD: Duration = Duration::from_secs(10);
/// How long one attempt to reach the leader may take.
const REACH: Duration = Duration::from_secs(3);
/// The pause after a failed one.
const AGAIN: Duration = Duration::from_millis(100);
const BUFFER: usize = 64 << 10;

/// What bytes can be carried over.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The way from a listener to that of the leader. Clones are the same.
#[derive(Clone)]
pub struct Way {
    /// Where the leader listens with TLS, as `HOST:PORT`; empty while nobody is known to lead.
    leader: watch::Receiver<String>,
    /// Which listener is reached through that one; none for that one itself.
    through: Option<(&'static str, TlsConnector)>,
}

impl Way {
    /// To the leader's listener that speaks TLS. Its address, `HOST:PORT`, is what `leader` says; empty while there is
    /// none.
    pub fn direct(leader: watch::Receiver<String>) -> Self {
        Self { leader, through: None }
    }

    /// To another listener of the leader's: one that it gave this name to [`router`].
    ///
    /// # Errors
    /// [`TlsError`] if the identity cannot be used.
    pub fn through(
        leader: watch::Receiver<String>,
        name: &'static str,
        identity: &Identity,
    ) -> Result<Self, TlsError> {
        let tls = TlsConnector::from(identity.client_config(b"http/1.1")?);
        Ok(Self { leader, through: Some((name, tls)) })
    }

    /// Carries a connection to its end, or `until`. Gives it back if it had not reached the leader by then.
    pub(crate) async fn carry(mut self, client: TcpStream, until: CancellationToken) -> Option<TcpStream> {
        let server = tokio::select! {
            biased;
            () = until.cancelled() => return Some(client),
            reached = timeout(HOLD, self.reach()) => reached,
        };
        let Ok(server) = server else {
            debug!("no leader could be reached for a client, which is sent away");
            return None;
        };
        let _ = client.set_nodelay(true);
        tokio::select! {
            () = until.cancelled() => {}
            () = splice(client, server) => {}
        }
        None
    }

    /// Connects to the leader, and goes on trying: it may just have died, and another be about to lead.
    async fn reach(&mut self) -> Box<dyn Duplex> {
        loop {
            let leader = self.leader.borrow_and_update().clone();
            if !leader.is_empty() {
                match timeout(REACH, self.connect(&leader)).await {
                    Ok(Ok(stream)) => return stream,
                    Ok(Err(error)) => debug!("cannot reach the leader at `{leader}`: {error}"),
                    Err(_) => debug!("the leader at `{leader}` does not answer"),
                }
            }
            tokio::select! {
                // Once nobody watches who leads any more, only time passes.
                Ok(()) = self.leader.changed() => {}
                () = sleep(AGAIN) => {}
            }
        }
    }

    async fn connect(&self, leader: &str) -> io::Result<Box<dyn Duplex>> {
        let stream = TcpStream::connect(leader).await?;
        stream.set_nodelay(true)?;
        let Some((name, tls)) = &self.through else { return Ok(Box::new(stream)) };
        let stream = tls.connect(server_name(), stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Its end is that of the stream.
        drive(async move {
            let _ = connection.with_upgrades().await;
        });
        let request = http::Request::get(format!("/relay/{name}"))
            .header(HOST, leader)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, PROTOCOL)
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(io::Error::other(format!("it answers {}", response.status())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let through = self.through.as_ref().map(|(name, _)| name);
        f.debug_struct("Way").field("through", &through).finish_non_exhaustive()
    }
}

/// What the leader's listener with TLS serves for its replicas.
struct Relays {
    /// The service whose replicas may come.
    service: &'static str,
    listeners: Vec<(&'static str, SocketAddr)>,
}

/// Serves `GET /relay/NAME`, for [`crate::Server::http`] of a server with TLS, to other replicas of `service`: brings their
/// clients to the listener of that name on this machine.
pub fn router(service: &'static str, listeners: Vec<(&'static str, SocketAddr)>) -> Router {
    Router::new().route("/relay/{name}", get(accept)).with_state(Arc::new(Relays { service, listeners }))
}

async fn accept(
    State(relays): State<Arc<Relays>>,
    Path(name): Path<String>,
    mut request: Request,
) -> Response {
    let peer = request.extensions().get::<Peer>();
    if !peer.is_some_and(|peer| matches!(peer, Peer::Service(name) if *name == relays.service)) {
        return (StatusCode::FORBIDDEN, "only replicas connect here\n").into_response();
    }
    let offered = request.headers().get(UPGRADE).is_some_and(|offer| offer == PROTOCOL);
    let Some(tasks) = request.extensions().get::<Tasks>().cloned().filter(|_| offered) else {
        let message = format!("an upgrade to {PROTOCOL} is needed\n");
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, PROTOCOL)], message).into_response();
    };
    let Some((_, address)) = relays.listeners.iter().find(|(known, _)| *known == name) else {
        return (StatusCode::NOT_FOUND, format!("nothing is called `{name}` here\n")).into_response();
    };
    let server = match TcpStream::connect(reachable(*address)).await {
        Ok(server) => server,
        Err(error) => {
            let message = format!("cannot reach `{address}`: {error}\n");
            return (StatusCode::BAD_GATEWAY, message).into_response();
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.job("relayed connection", async move {
        let _ = server.set_nodelay(true);
        // A replica that is gone before it is there has taken its client with it.
        if let Ok(client) = upgrade.await {
            splice(TokioIo::new(client), server).await;
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)]).into_response()
}

/// Where this machine reaches what listens there: what listens everywhere does so on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Carries bytes both ways until both sides have sent their last, or one is lost.
async fn splice(mut client: impl Duplex, mut server: impl Duplex) {
    if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await {
        debug!("a relayed connection was lost: {error}");
    }
}
