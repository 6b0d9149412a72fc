//! Fetching archives from the farm's own servers, as this machine.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use rpc::Channel;
use tower::ServiceExt;

use crate::{
    keys::Credentials,
    tree::{Feeder, Format},
};

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_mins(1);

/// An archive could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It is no URL that can be fetched.
    #[error("cannot fetch `{url}`: {why}")]
    BadUrl { url: String, why: String },
    /// The server cannot be reached, cannot answer now, or broke off.
    #[error("cannot fetch `{url}` now: {why}")]
    Failed { url: String, why: String },
    /// The server says no.
    #[error("cannot fetch `{url}`: the server answers {status}")]
    Refused { url: String, status: StatusCode },
    /// Other bytes came than were wanted.
    #[error("`{url}` has the digest `{found}`, not `{wanted}`")]
    WrongDigest { url: String, found: String, wanted: String },
}

/// A URL that can be fetched, and how the archive there is packed.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    url: String,
    uri: Uri,
    pub(crate) format: Format,
}

impl Archive {
    /// Reads a URL, whose path must end as an archive's does.
    pub(crate) fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = |why: &str| FetchError::BadUrl { url: url.to_owned(), why: why.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) || uri.host().is_none() {
            return Err(bad("it is no https URL"));
        }
        let format =
            Format::of_path(uri.path()).ok_or_else(|| bad("it does not end in .tar, .tar.gz or .tar.zst"))?;
        Ok(Self { url: url.to_owned(), uri, format })
    }

    fn failed(&self, why: impl std::fmt::Display) -> FetchError {
        FetchError::Failed { url: self.url.clone(), why: why.to_string() }
    }
}

/// Fetches archives. Keeps one connection to each server, which any number of fetches share.
#[derive(Debug)]
pub(crate) struct Fetcher {
    identity: Option<Credentials>,
    /// By server, with the version of the identity that each was made with.
    channels: Mutex<HashMap<String, (u64, Channel)>>,
}

impl Fetcher {
    /// Fetches as the machine that the identity names.
    pub(crate) fn new(identity: Option<Credentials>) -> Self {
        Self { identity, channels: Mutex::default() }
    }

    /// Fetches an archive into a feeder; returns how many bytes there were. A feeder whose reader is gone is no error
    /// here: the reader knows better. The digest, if not empty, is checked at the end.
    pub(crate) async fn fetch(
        &self,
        archive: &Archive,
        digest: &str,
        feeder: Feeder,
    ) -> Result<u64, FetchError> {
        let channel = self.channel(archive)?;
        let request = Request::get(archive.uri.clone()).body(tonic::body::Body::empty());
        let request = request.map_err(|error| archive.failed(error))?;
        let response = within(archive, channel.oneshot(request)).await?;
        let response = response.map_err(|status| archive.failed(status.message()))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_server_error() => {
                return Err(archive.failed(format_args!("the server answers {status}")));
            }
            status => return Err(FetchError::Refused { url: archive.url.clone(), status }),
        }
        let mut body = response.into_body();
        let (mut fetched, mut hasher) = (0, blake3::Hasher::new());
        while let Some(frame) = within(archive, body.frame()).await? {
            let frame = frame.map_err(|status| archive.failed(status.message()))?;
            let Ok(chunk) = frame.into_data() else { continue };
            fetched += chunk.len() as u64;
            if !digest.is_empty() {
                hasher.update(&chunk);
            }
            if !feed(&feeder, chunk).await {
                return Ok(fetched);
            }
        }
        let found = hasher.finalize().to_hex();
        if !digest.is_empty() && found.as_str() != digest {
            let (url, wanted) = (archive.url.clone(), digest.to_owned());
            return Err(FetchError::WrongDigest { url, found: found.to_string(), wanted });
        }
        feeder.finish().await;
        Ok(fetched)
    }

    fn channel(&self, archive: &Archive) -> Result<Channel, FetchError> {
        let bad = |why: String| FetchError::BadUrl { url: archive.url.clone(), why };
        let scheme = archive.uri.scheme_str().unwrap_or("https");
        let host = archive.uri.host().unwrap_or_default();
        let port = archive.uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let server = format!("{scheme}://{host}:{port}");
        let (version, identity) = self.identity.as_ref().map(Credentials::versioned).unzip();
        let version = version.unwrap_or_default();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, channel)) = channels.get(&server).filter(|(made, _)| *made == version) {
            return Ok(channel.clone());
        }
        let channel = rpc::connect(&server, identity.as_ref()).map_err(|error| bad(error.to_string()))?;
        channels.insert(server, (version, channel.clone()));
        Ok(channel)
    }
}

async fn feed(feeder: &Feeder, chunk: Bytes) -> bool {
    chunk.is_empty() || feeder.feed(chunk).await
}

async fn within<T>(archive: &Archive, waiting: impl Future<Output = T>) -> Result<T, FetchError> {
    tokio::time::timeout(SILENCE, waiting).await.map_err(|_| archive.failed("the server says nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_archives_on_servers_are_fetched() {
        assert_eq!(Archive::parse("https://h:1/a/b.tar.gz?x=1").unwrap().format, Format::TarGz);
        for url in
            ["ftp://h/a.tar", "/a.tar", "https://h/a.zip", "https:///a.tar", "h/a.tar", "file:///a.tar"]
        {
            assert!(matches!(Archive::parse(url), Err(FetchError::BadUrl { .. })), "{url}");
        }
    }
}
