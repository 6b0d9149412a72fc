//! Reaching a server: TCP, TLS with the farm's identities, HTTP/2.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::uri::{Authority, Scheme, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Status;

use super::drive;
use crate::{
    Identity, Proxy, TlsError, Trouble,
    status::{chain, unavailable},
    tls::{guest_config, provider, server_name},
    transport::{self, Sender},
};

/// TCP and TLS together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// An address or identity that no connection can be made with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a URL with a host.
    #[error("`{0}` is not a URL of the form `https://HOST:PORT`")]
    Url(String),
    /// Plain HTTP to another machine: everybody on the way could read and change the calls.
    #[error("`{0}` is not on this machine: use `https`")]
    PlainNotLoopback(String),
    /// The machine's own certificate authorities cannot be used.
    #[error("cannot use this machine's certificate authorities")]
    Authorities(#[source] rustls::Error),
    /// The identity cannot be used.
    #[error("cannot use the identity")]
    Identity(#[from] TlsError),
}

/// Whom a client trusts to be the server that it means, and what it shows of itself.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Services of a farm; it shows its own certificate.
    Farm(&'a Identity),
    /// Services of the farm that these authorities (PEM) sign for; it shows nothing, and is a guest.
    Guest(&'a str),
    /// Servers that the world knows; it shows nothing.
    World,
}

/// Makes connections to one service: at one address, or at that of whichever replica answers.
pub(super) struct Dialler {
    places: Vec<Place>,
    /// The place that answered last, or the one after it if it answers no more.
    next: AtomicUsize,
    proxy: Option<Proxy>,
}

/// One address.
struct Place {
    host: String,
    port: u16,
    /// With the name that the server's certificate must have.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The URLs of a service's replicas, as one text names them: with commas between.
pub fn urls(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(',').map(str::trim).filter(|url| !url.is_empty())
}

impl Dialler {
    /// The scheme and the authority that requests name are those of the first URL.
    pub(super) fn new(
        text: &str,
        trust: Trust<'_>,
        proxy: Option<Proxy>,
    ) -> Result<(Self, Scheme, Authority), ConnectError> {
        let bad = || ConnectError::Url(text.to_owned());
        let found: Vec<_> = urls(text).map(|url| Place::new(url, trust)).collect::<Result<_, _>>()?;
        let (first, authority) = found.first().ok_or_else(bad)?;
        let scheme = |place: &Place| if place.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let (named, authority) = (scheme(first), authority.clone());
        if found.iter().any(|(place, _)| scheme(place) != named) {
            return Err(bad());
        }
        let places = found.into_iter().map(|(place, _)| place).collect();
        Ok((Self { places, next: AtomicUsize::new(0), proxy }, named, authority))
    }

    /// Connects, to the first place that answers. The connection lives until every sender is dropped or the peer is gone.
    pub(super) async fn dial(&self) -> Result<Sender, Status> {
        let first = self.next.load(Ordering::Relaxed);
        let mut failed = None;
        for turn in 0..self.places.len() {
            let index = (first + turn) % self.places.len();
            // What is not waited for to its end is not tried first again.
            self.next.store(index + 1, Ordering::Relaxed);
            match self.places[index].dial(self.proxy.as_ref()).await {
                Ok(sender) => {
                    self.next.store(index, Ordering::Relaxed);
                    return Ok(sender);
                }
                Err(status) => failed = Some(status),
            }
        }
        Err(failed.unwrap_or_else(|| unavailable("there is no address")))
    }
}

impl Place {
    fn new(url: &str, trust: Trust<'_>) -> Result<(Self, Authority), ConnectError> {
        let bad = || ConnectError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().cloned().ok_or_else(bad)?;
        let host = authority.host().to_owned();
        let (tls, default_port) = match uri.scheme_str() {
            Some("https") => {
                let (config, name) = match trust {
                    Trust::Farm(identity) => (identity.client_config(b"h2")?, server_name()),
                    Trust::Guest(ca_pem) => (guest_config(ca_pem, b"h2")?, server_name()),
                    Trust::World => {
                        (public(b"h2")?, ServerName::try_from(bare(&host).to_owned()).map_err(|_| bad())?)
                    }
                };
                (Some((TlsConnector::from(config), name)), 443)
            }
            Some("http") if is_loopback(&host) => (None, 80),
            Some("http") => return Err(ConnectError::PlainNotLoopback(url.to_owned())),
            _ => return Err(bad()),
        };
        let port = authority.port_u16().unwrap_or(default_port);
        Ok((Self { host, port, tls }, authority))
    }

    async fn dial(&self, proxy: Option<&Proxy>) -> Result<Sender, Status> {
        let failed =
            |what: &str| unavailable(format_args!("cannot reach `{}:{}`: {what}", self.host, self.port));
        match timeout(DIAL_TIMEOUT, self.open(proxy)).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) => match Trouble::of(&*error) {
                Some(trouble) => Err(failed(&trouble.to_string())),
                None => Err(failed(&chain(&*error))),
            },
            Err(_) => Err(failed("no answer in time")),
        }
    }

    async fn open(&self, proxy: Option<&Proxy>) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        let stream = match proxy {
            None => transport::tcp(&self.host, self.port).await?,
            Some(proxy) => proxy.tunnel(&format!("{}:{}", self.host, self.port)).await?,
        };
        match &self.tls {
            None => begin(stream).await,
            Some((tls, name)) => begin(tls.connect(name.clone(), stream).await?).await,
        }
    }
}

async fn begin<S>(stream: S) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) =
        transport::handshake(TokioIo::new(stream), transport::Abortable::default()).await?;
    drive(async move {
        if let Err(error) = driver.await {
            tracing::debug!("connection ended: {}", chain(&error));
        }
    });
    Ok(sender)
}

/// TLS to a server that the world knows: its certificate is judged as this machine's browsers would.
fn public(protocol: &[u8]) -> Result<Arc<ClientConfig>, ConnectError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(ConnectError::Authorities)?
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host can only be this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = bare(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let text = match Dialler::new(url, Trust::World, None) {
            Ok((dialler, ..)) => {
                let places = dialler.places.iter().map(|place| format!("{} {}", place.host, place.port));
                places.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn replicas_are_all_in_the_clear_or_none() {
        check("https://a:1,https://b", "a 1, b 443");
        check(
            "https://a:1,http://127.0.0.1:1",
            "`https://a:1,http://127.0.0.1:1` is not a URL of the form `https://HOST:PORT`",
        );
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        check("http://127.0.0.1:80", "127.0.0.1 80");
        check("http://localhost:8080", "localhost 8080");
        check("http://[::1]:8080", "[::1] 8080");
        check(
            "http://127.0.0.1.evil.test:1",
            "`http://127.0.0.1.evil.test:1` is not on this machine: use `https`",
        );
        check("http://10.0.0.1:1", "`http://10.0.0.1:1` is not on this machine: use `https`");
        check("https://farm.example.com", "farm.example.com 443");
        check("ftp://x", "`ftp://x` is not a URL of the form `https://HOST:PORT`");
        check("http://127.0.0.1:1, http://127.0.0.2:2,", "127.0.0.1 1, 127.0.0.2 2");
        check("nonsense", "`nonsense` is not a URL of the form `https://HOST:PORT`");
    }
}
