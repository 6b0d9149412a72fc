//! The dialling side: the machine that answers calls over a connection it made itself.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{DRAIN, PROTOCOL};
use crate::{Identity, Peer, Service, TlsError, channel::drive, status::chain, tls::server_name, transport};

/// TCP, proxy, TLS and upgrade together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer of a proxy to `CONNECT` that is read.
const PROXY_ANSWER: usize = 8 << 10;
/// The longest text of a refusal that is shown.
const REFUSAL: usize = 1 << 10;

/// Why no reversed connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an `https` URL with a host, or not a proxy's `http` URL.
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
    /// The proxy does not let us through.
    #[error("the proxy `{proxy}` refuses: {answer}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// The first line of its answer.
        answer: String,
    },
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
            Self::Unreachable { .. } | Self::Proxy { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Url(_) | Self::Identity(_) | Self::Stranger(_) => false,
        }
    }
}

/// A connection that was upgraded; [`serve`] answers over it.
#[derive(Debug)]
pub struct Stream {
    upgraded: Upgraded,
    peer: Peer,
}

impl Stream {
    /// The service at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Dials `https://host:port` and upgrades the connection. `headers` go with the request (see
/// [`super::VERSION_HEADER`]); `proxy` is the `http://[user:password@]host:port` of an HTTP proxy to go through.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    url: &str,
    identity: &Identity,
    headers: HeaderMap,
    proxy: Option<&str>,
) -> Result<Stream, DialError> {
    let (url, host, port) = parse(url, "https", 443)?;
    let address = format!("{host}:{port}");
    let proxy = proxy.map(|proxy| parse(proxy, "http", 80)).transpose()?;
    let tls = TlsConnector::from(identity.client_config(b"http/1.1")?);
    let unreachable = |source| DialError::Unreachable { address: address.clone(), source };
    let dialled = async {
        let tcp = match &proxy {
            None => transport::tcp(&host, port).await.map_err(unreachable)?,
            Some(proxy) => tunnel(proxy, &address).await?,
        };
        let tls = tls.connect(server_name(), tcp).await.map_err(unreachable)?;
        let peer = service_of(&tls).ok_or_else(|| DialError::Stranger(address.clone()))?;
        let upgraded = upgrade(tls, &url, headers, &address).await?;
        Ok(Stream { upgraded, peer })
    };
    let late = || unreachable(io::ErrorKind::TimedOut.into());
    timeout(DIAL_TIMEOUT, dialled).await.unwrap_or_else(|_| Err(late()))
}

fn parse(text: &str, scheme: &str, default_port: u16) -> Result<(Url, String, u16), DialError> {
    let bad = || DialError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().filter(|_| url.scheme() == scheme).ok_or_else(bad)?.to_owned();
    let port = url.port().unwrap_or(default_port);
    Ok((url, host, port))
}

/// The service that the verified certificate of the server names.
fn service_of(stream: &TlsStream<TcpStream>) -> Option<Peer> {
    let certificate: &CertificateDer<'_> = stream.get_ref().1.peer_certificates()?.first()?;
    Peer::from_certificate(certificate).filter(|peer| matches!(peer, Peer::Service(_)))
}

/// Asks an HTTP proxy for a tunnel.
async fn tunnel((url, host, port): &(Url, String, u16), address: &str) -> Result<TcpStream, DialError> {
    let proxy = format!("{host}:{port}");
    let unreachable = |source| DialError::Unreachable { address: proxy.clone(), source };
    let mut stream = transport::tcp(host, *port).await.map_err(unreachable)?;
    let authorization = if url.username().is_empty() {
        String::new()
    } else {
        let secret = format!("{}:{}", url.username(), url.password().unwrap_or_default());
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(secret))
    };
    let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the blank line belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER {
            return Err(unreachable(io::Error::other("the proxy's answer does not end")));
        }
        answer.push(stream.read_u8().await.map_err(unreachable)?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(stream),
        _ => Err(DialError::Proxy { proxy, answer: line.to_owned() }),
    }
}

/// Sends the request for the upgrade and waits for its answer.
async fn upgrade(
    tls: TlsStream<TcpStream>,
    url: &Url,
    headers: HeaderMap,
    address: &str,
) -> Result<Upgraded, DialError> {
    let lost = |error: hyper::Error| DialError::Unreachable {
        address: address.to_owned(),
        source: io::Error::other(error),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(lost)?;
    drive(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("dialled connection ended: {}", chain(&error));
        }
    });
    let path = format!("{}/reverse", url.path().trim_end_matches('/'));
    let mut request =
        Request::get(path).body(Empty::<Bytes>::new()).map_err(|_| DialError::Url(url.to_string()))?;
    *request.headers_mut() = headers;
    let fixed = [(HOST, address), (CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)];
    for (name, value) in fixed {
        let value = value.parse().map_err(|_| DialError::Url(url.to_string()))?;
        request.headers_mut().insert(name, value);
    }
    let response = sender.send_request(request).await.map_err(lost)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    hyper::upgrade::on(response).await.map_err(lost)
}

async fn refusal(response: Response<Incoming>) -> DialError {
    let status = response.status();
    let body = Limited::new(response.into_body(), REFUSAL).collect().await;
    let message =
        body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
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
    let Stream { upgraded, peer } = stream;
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
