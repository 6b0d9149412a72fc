//! The dialling side: the machine that answers calls over a connection it made itself.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONNECTION, HOST, LOCATION, UPGRADE},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use types::Timestamp;

use super::{DRAIN, PROTOCOL, TIME_HEADER};
use crate::{
    Identity, Peer, Proxy, ProxyError, Service, TlsError,
    channel::drive,
    status::chain,
    tls::{Trouble, server_name},
    transport,
};

/// TCP, proxy, TLS and upgrade together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest text of a refusal that is shown.
const REFUSAL: usize = 1 << 10;
/// How often in a row one may be sent elsewhere.
const REDIRECTS: usize = 2;

/// Why no reversed connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an `https` URL with a host.
    #[error("`{0}` is not a URL that can be dialled")]
    Url(String),
    /// The identity cannot be used.
    #[error("cannot use the identity")]
    Identity(#[from] TlsError),
    /// Nobody answers there, or the connection broke.
    #[error("cannot reach `{address}`")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The proxy makes no tunnel.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// One side does not accept the certificate of the other.
    #[error("no connection to `{address}`: {trouble}")]
    Certificate {
        /// Host and port.
        address: String,
        /// Whose certificate, and what is wrong with it.
        trouble: Trouble,
    },
    /// The two sides speak different versions: one of them must be updated.
    #[error("{0}")]
    Outdated(String),
    /// It was sent elsewhere, again and again.
    #[error("`{0}` sends elsewhere once too often")]
    Redirects(String),
    /// Somebody answers who is no service of our farm.
    #[error("`{0}` is not a service of this machine's farm")]
    Stranger(String),
    /// The coordinator does not want us.
    #[error("the coordinator refuses with {status}: {message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
}

impl DialError {
    /// Whether dialling again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Proxy(error) => !matches!(error, ProxyError::Url(_)),
            Self::Unreachable { .. } | Self::Redirects(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Url(_)
            | Self::Identity(_)
            | Self::Stranger(_)
            | Self::Certificate { .. }
            | Self::Outdated(_) => false,
        }
    }
}

/// A connection that was upgraded; [`serve`] answers over it.
#[derive(Debug)]
pub struct Stream {
    upgraded: Upgraded,
    peer: Peer,
    time: Option<Timestamp>,
}

impl Stream {
    /// The service at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What time it was there when the connection was made, if it said so.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }
}

/// Dials `https://host:port` and upgrades the connection. `headers` go with the request (see
/// [`super::VERSION_HEADER`]); `proxy` is the `http://[user:password@]host:port` of an HTTP proxy to go through. Follows
/// the server to another one, if it says so.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    url: &str,
    identity: &Identity,
    headers: HeaderMap,
    proxy: Option<&str>,
) -> Result<Stream, DialError> {
    let proxy = proxy.map(Proxy::parse).transpose()?;
    let tls = TlsConnector::from(identity.client_config(b"http/1.1")?);
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let (parsed, host, port) = parse(&url)?;
        let address = format!("{host}:{port}");
        let begun = begin(&tls, &parsed, (&host, port), &headers, proxy.as_ref());
        let late = || DialError::Unreachable { address, source: io::ErrorKind::TimedOut.into() };
        match timeout(DIAL_TIMEOUT, begun).await.unwrap_or_else(|_| Err(late()))? {
            Answer::Upgraded(stream) => return Ok(stream),
            Answer::Elsewhere(other) => url = other,
        }
    }
    Err(DialError::Redirects(url))
}

/// What a server answers to one who may connect.
enum Answer {
    Upgraded(Stream),
    Elsewhere(String),
}

async fn begin(
    tls: &TlsConnector,
    url: &Url,
    (host, port): (&str, u16),
    headers: &HeaderMap,
    proxy: Option<&Proxy>,
) -> Result<Answer, DialError> {
    let address = format!("{host}:{port}");
    let tcp = match proxy {
        None => transport::tcp(host, port).await.map_err(|source| lost(&address, source))?,
        Some(proxy) => proxy.tunnel(&address).await?,
    };
    let tls = tls.connect(server_name(), tcp).await.map_err(|source| lost(&address, source))?;
    let peer = service_of(&tls).ok_or_else(|| DialError::Stranger(address.clone()))?;
    upgrade(tls, url, headers, &address, peer).await
}

/// A connection that was not made or broke. A certificate that one side does not accept shows as this, too.
fn lost(address: &str, source: io::Error) -> DialError {
    match Trouble::of(&source) {
        Some(trouble) => DialError::Certificate { address: address.to_owned(), trouble },
        None => DialError::Unreachable { address: address.to_owned(), source },
    }
}

fn parse(text: &str) -> Result<(Url, String, u16), DialError> {
    let bad = || DialError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().filter(|_| url.scheme() == "https").ok_or_else(bad)?.to_owned();
    let port = url.port().unwrap_or(443);
    Ok((url, host, port))
}

/// The service that the verified certificate of the server names.
fn service_of(stream: &TlsStream<TcpStream>) -> Option<Peer> {
    let certificate: &CertificateDer<'_> = stream.get_ref().1.peer_certificates()?.first()?;
    Peer::from_certificate(certificate).filter(|peer| matches!(peer, Peer::Service(_)))
}

/// Sends the request for the upgrade and waits for its answer.
async fn upgrade(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
    headers: &HeaderMap,
    address: &str,
    peer: Peer,
) -> Result<Answer, DialError> {
    let lost = |error: hyper::Error| lost(address, io::Error::other(error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    drive(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("dialled connection ended: {}", chain(&error));
        }
    });
    let path = format!("{}/reverse", url.path().trim_end_matches('/'));
    let mut request =
        Request::get(path).body(Empty::<Bytes>::new()).map_err(|_| DialError::Url(url.to_string()))?;
    *request.headers_mut() = headers.clone();
    let fixed = [(HOST, address), (CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)];
    for (name, value) in fixed {
        let value = value.parse().map_err(|_| DialError::Url(url.to_string()))?;
        request.headers_mut().insert(name, value);
    }
    let response = sender.send_request(request).await.map_err(lost)?;
    let text = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let time = text(TIME_HEADER).and_then(|micros| micros.parse().ok()).map(Timestamp);
            let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
            Ok(Answer::Upgraded(Stream { upgraded, peer, time }))
        }
        StatusCode::TEMPORARY_REDIRECT => match text(LOCATION.as_str()) {
            Some(other) => Ok(Answer::Elsewhere(other)),
            None => Err(refusal(response).await),
        },
        _ => Err(refusal(response).await),
    }
}

async fn refusal(response: Response<Incoming>) -> DialError {
    let status = response.status();
    let body = Limited::new(response.into_body(), REFUSAL).collect().await;
    let message =
        body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    if status == StatusCode::UPGRADE_REQUIRED {
        return DialError::Outdated(message);
    }
    DialError::Refused { status, message }
}

/// The connection was lost: dial again.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the coordinator was lost")]
pub struct ServeError(#[source] hyper::Error);

/// Answers calls over a dialled connection until it ends, the peer falls silent, or `cancel`; then calls in progress
/// may finish for a moment. The service is that of [`crate::Server::service`].
///
/// # Errors
/// [`ServeError`] if the connection broke. A peer that closed it in order is no error; one that closed it while we
/// were writing cannot be told from one that died.
pub async fn serve(stream: Stream, service: Service, cancel: CancellationToken) -> Result<(), ServeError> {
    let Stream { upgraded, peer, .. } = stream;
    let answer =
        service_fn(move |request: Request<Incoming>| service.clone().answer(request, Some(peer.clone())));
    let mut connection = Box::pin(transport::http2_server().serve_connection(upgraded, answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // We leave: how the connection ends is of no interest any more.
            let _ = timeout(DRAIN, connection).await;
            Ok(())
        }
    };
    ended.map_err(ServeError)
}

/// The half of dialling that comes after TLS, for tests of what a farm may answer.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Asks at the other end of a stream; none if it does not upgrade. Where it sends one instead must be read or refused.
    pub(in super::super) async fn upgrade(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        headers: HeaderMap,
    ) -> Option<Stream> {
        let url = Url::parse("https://farm.invalid").unwrap();
        let peer = Peer::Service("coordinator".to_owned());
        match super::upgrade(stream, &url, &headers, "farm.invalid:443", peer).await {
            Ok(Answer::Upgraded(stream)) => return Some(stream),
            Ok(Answer::Elsewhere(other)) => drop(parse(&other)),
            Err(error) => assert!(error.to_string().len() < 4 * REFUSAL, "{error}"),
        }
        None
    }
}
