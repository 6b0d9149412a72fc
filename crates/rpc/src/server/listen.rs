//! Accepting connections, and letting them end in peace.

use std::{io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Bound, Service};
use crate::{Peer, transport};

/// Connections of one listener at the same time; more wait to be accepted.
pub(super) const CONNECTIONS: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls in progress may go on after shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// The pause after a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What each connection of a listener needs.
#[derive(Clone)]
struct Connector {
    tls: Option<TlsAcceptor>,
    /// Whether clients without a certificate come in; the service decides how far.
    guests: bool,
    service: Service,
    shutdown: CancellationToken,
}

/// Accepts until shutdown.
pub(super) async fn run(bound: Bound) -> anyhow::Result<()> {
    let Bound { name, tasks, mut listener, tls, guests, service, health } = bound;
    let shutdown = tasks.shutdown();
    let connector = Connector { tls, guests, service, shutdown: shutdown.clone() };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tracing::info!("{name} listens on {}", listener.addr());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        match accepted {
            (Ok(stream), place) => {
                let connector = connector.clone();
                tasks.job("connection", async move {
                    let _place = place;
                    if let Err(error) = connector.serve(stream).await {
                        debug!("connection to {name} ended: {error}");
                    }
                });
            }
            (Err(error), _) => {
                warn!("{name} cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    health.set_serving(false).await;
    Ok(())
}

impl Connector {
    async fn serve(self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return self.converse(stream, None).await };
        let stream = tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => stream??,
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if self.guests && certificate.is_none() {
            return self.converse(stream, None).await;
        }
        let Some(peer) = certificate.and_then(Peer::from_certificate) else {
            return Err(io::Error::other("the client's certificate names no service and no machine"));
        };
        self.converse(stream, Some(peer)).await
    }

    async fn converse<S>(self, stream: S, peer: Option<Peer>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self.service;
        let answer = service_fn(move |request| service.clone().answer(request, peer.clone()));
        let builder = transport::auto_server();
        let mut connection = Box::pin(builder.serve_connection_with_upgrades(TokioIo::new(stream), answer));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN, connection).await?
            }
        };
        ended.map_err(io::Error::other)
    }
}
