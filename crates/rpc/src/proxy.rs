//! Going through an HTTP proxy: `CONNECT`, and after it the stream is as if the server had been dialled.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

use crate::transport;

/// The longest answer of a proxy to `CONNECT` that is read.
const ANSWER: usize = 8 << 10;

/// An HTTP proxy, as `HTTPS_PROXY` names it.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Proxy").field(&self.address()).finish()
    }
}

/// A proxy did not make a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not the URL of an HTTP proxy. Who is named in it, with which password, is left out.
    #[error("`{0}` is not the URL of an HTTP proxy, as in `http://proxy.example.com:3128`")]
    Url(String),
    /// Nobody answers there.
    #[error("cannot reach the proxy `{proxy}`")]
    Unreachable {
        /// Host and port.
        proxy: String,
        /// What went wrong.
        source: io::Error,
    },
    /// It does not let us through.
    #[error("the proxy `{proxy}` refuses: {answer}")]
    Refused {
        /// Host and port.
        proxy: String,
        /// The first line of its answer.
        answer: String,
    },
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`, where `@` in a password is written `%40`.
    ///
    /// # Errors
    /// [`ProxyError::Url`].
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let bad = || ProxyError::Url(text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().filter(|_| url.scheme() == "http").ok_or_else(bad)?.to_owned();
        let authorization = if url.username().is_empty() {
            String::new()
        } else {
            let user = percent_decode_str(url.username());
            let password = percent_decode_str(url.password().unwrap_or_default());
            let secret: Vec<u8> = user.chain([b':']).chain(password).collect();
            format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(secret))
        };
        Ok(Self { host, port: url.port().unwrap_or(80), authorization })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A stream to `address` (host and port).
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn tunnel(&self, address: &str) -> Result<TcpStream, ProxyError> {
        let proxy = self.address();
        let unreachable = |source| ProxyError::Unreachable { proxy: proxy.clone(), source };
        let stream = transport::tcp(&self.host, self.port).await.map_err(unreachable)?;
        self.through(stream, address).await
    }

    /// Has the proxy at the other end of a stream make a tunnel of it.
    pub(crate) async fn through<S>(&self, mut stream: S, address: &str) -> Result<S, ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let proxy = self.address();
        let unreachable = |source| ProxyError::Unreachable { proxy: proxy.clone(), source };
        let authorization = &self.authorization;
        let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the blank line belongs to the tunnel.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= ANSWER {
                return Err(unreachable(io::Error::other("the proxy's answer does not end")));
            }
            answer.push(stream.read_u8().await.map_err(unreachable)?);
        }
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(stream),
            _ => Err(ProxyError::Refused { proxy, answer: line.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_proxies_are_used() {
        assert_eq!(Proxy::parse("http://u:p@proxy.test:3128").unwrap().address(), "proxy.test:3128");
        assert_eq!(Proxy::parse("http://proxy.test").unwrap().address(), "proxy.test:80");
        for bad in ["https://proxy.test", "proxy.test:3128", "socks5://proxy.test", ""] {
            assert!(matches!(Proxy::parse(bad), Err(ProxyError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn a_password_is_sent_as_it_is_meant_and_not_told() {
        let proxy = Proxy::parse("http://me:a%40b@proxy.test").unwrap();
        let sent = format!("Basic {}\r\n", STANDARD.encode("me:a@b"));
        assert!(proxy.authorization.ends_with(&sent), "{}", proxy.authorization);
        let error = Proxy::parse("https://me:opensesame@proxy.test").err().unwrap();
        assert!(!error.to_string().contains("opensesame"), "{error}");
    }
}
