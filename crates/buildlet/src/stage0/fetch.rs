//! Asking the farm what to run, and fetching it: nothing is believed that the farm's authority has not signed, and nothing
//! is kept whose digest is another.

use std::{io::Write as _, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{ETAG, IF_NONE_MATCH},
};
use http_body_util::{BodyExt as _, Limited};
use rpc::{Channel, Proxy, ResponseBody, Trust};
use serde::Deserialize;
use tokio::time::timeout;
use tower::ServiceExt as _;
use types::MachineName;

use super::shelf::{Seen, Shelf};
use crate::platform;

/// How long the farm may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// The largest manifest that is read.
const MANIFEST: usize = 64 << 10;
/// How long a new binary may take to say its version.
const TRIAL: Duration = Duration::from_secs(20);

/// Where binaries come from.
#[derive(Debug)]
pub(super) struct Source {
    channel: Channel,
    authority_pem: String,
    platform: String,
    follows: String,
    machine: MachineName,
}

/// What the farm answers.
#[derive(Deserialize)]
struct Sealed {
    manifest: String,
    seal: String,
}

/// What is signed.
#[derive(Deserialize)]
struct Manifest {
    number: u64,
    platform: String,
    channel: String,
    version: String,
    digest: String,
    bytes: u64,
}

impl Source {
    pub(super) fn new(
        url: &str,
        proxy: Option<&str>,
        authority_pem: String,
        (follows, machine): (&str, &MachineName),
    ) -> anyhow::Result<Self> {
        let proxy = proxy.map(Proxy::parse).transpose()?;
        let channel =
            rpc::connect_via(url, Trust::Guest(&authority_pem), proxy.as_ref()).context("connect")?;
        let (follows, machine) = (follows.to_owned(), machine.clone());
        Ok(Self { channel, authority_pem, platform: platform::name(), follows, machine })
    }

    /// Asks what to run, and fetches it if it is not here. What is wrong is said, and nothing has changed then.
    pub(super) async fn ask(&self, shelf: &mut Shelf) -> anyhow::Result<()> {
        if let Some(seen) = self.news(shelf).await? {
            tracing::info!("the farm has published buildlet {} (release {})", seen.version, seen.number);
            shelf.note(seen);
        }
        let Some(wanted) = shelf.memory().release.clone() else { return Ok(()) };
        if shelf.has(&wanted.digest) || shelf.is_bad(&wanted.digest) {
            return Ok(());
        }
        self.fetch(&wanted, shelf).await.with_context(|| format!("fetch buildlet {}", wanted.version))
    }

    /// The newest release, if it is another than the one that was seen last.
    async fn news(&self, shelf: &Shelf) -> anyhow::Result<Option<Seen>> {
        let path = format!("/buildlet/release/{}/{}?machine={}", self.follows, self.platform, self.machine);
        let known = shelf.memory().release.as_ref();
        let response = self.get(&path, known.map(|seen| seen.tag.as_str())).await?;
        let tag =
            response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
        match response.status() {
            StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            status => bail!("the farm answers {status}"),
        }
        let body = timeout(SILENCE, Limited::new(response.into_body(), MANIFEST).collect()).await;
        let body = body.context("the farm says nothing")?;
        let body = body.map_err(|error| anyhow::anyhow!("the manifest cannot be read: {error}"))?.to_bytes();
        self.check(&body, tag, known)
    }

    /// Believes a manifest, or says why not.
    fn check(&self, body: &[u8], tag: String, known: Option<&Seen>) -> anyhow::Result<Option<Seen>> {
        let sealed: Sealed = serde_json::from_slice(body).context("the manifest cannot be read")?;
        let seal = hex::decode(&sealed.seal).context("the signature of the manifest cannot be read")?;
        if !rpc::is_sealed(&self.authority_pem, sealed.manifest.as_bytes(), &seal) {
            bail!("the manifest is not signed by the farm's authority: it is not followed");
        }
        let manifest: Manifest =
            serde_json::from_str(&sealed.manifest).context("the manifest cannot be read")?;
        if manifest.platform != self.platform || manifest.channel != self.follows {
            bail!("the manifest is for {} on `{}`: it is not followed", manifest.platform, manifest.channel);
        }
        // However it is written, it is kept as digests are compared.
        let digest = hex::decode(&manifest.digest).ok().filter(|digest| digest.len() == 32);
        let digest = hex::encode(digest.context("the manifest names no digest")?);
        if known.is_some_and(|known| manifest.number < known.number) {
            // Somebody plays back an old one, or this machine has lost its share in the newer one: it keeps that.
            return Ok(None);
        }
        let Manifest { number, version, bytes, .. } = manifest;
        Ok(Some(Seen { tag, number, version, digest, bytes }))
    }

    /// Fetches a binary, checks it, tries it, and only then gives it its name.
    async fn fetch(&self, wanted: &Seen, shelf: &mut Shelf) -> anyhow::Result<()> {
        let path = shelf.path(&wanted.digest);
        let part = path.with_extension("part");
        let fetched = self.download(wanted, &part).await;
        if let Err(error) = fetched {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
        if let Err(error) = works(&part).await {
            let _ = std::fs::remove_file(&part);
            shelf.condemn(&wanted.digest);
            return Err(error.context("it does not even say its version: it is not run"));
        }
        std::fs::rename(&part, &path).context("keep it")
    }

    async fn download(&self, wanted: &Seen, part: &std::path::Path) -> anyhow::Result<()> {
        let response = self.get(&format!("/buildlet/binary/{}", wanted.digest), None).await?;
        if response.status() != StatusCode::OK {
            bail!("the farm answers {}", response.status());
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = platform::with_mode(&mut options, 0o755).open(part).context("write it")?;
        let (mut body, mut hasher, mut bytes) = (response.into_body(), blake3::Hasher::new(), 0);
        while let Some(frame) = timeout(SILENCE, body.frame()).await.context("the farm says nothing")? {
            let frame = frame.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
            let chunk: Bytes = frame.into_data().unwrap_or_default();
            bytes += chunk.len() as u64;
            if bytes > wanted.bytes {
                bail!("it has more bytes than the {} that were signed", wanted.bytes);
            }
            hasher.update(&chunk);
            file.write_all(&chunk).context("write it")?;
        }
        if hasher.finalize().to_hex().as_str() != wanted.digest {
            bail!("it is another binary than was signed, or cut short");
        }
        file.sync_all().context("write it")
    }

    async fn get(&self, path: &str, tag: Option<&str>) -> anyhow::Result<Response<ResponseBody>> {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(tonic::body::Body::empty()).context("ask")?;
        let answered =
            timeout(SILENCE, self.channel.clone().oneshot(request)).await.context("the farm says nothing")?;
        answered.map_err(|status| anyhow::anyhow!("{}", status.message()))
    }
}

/// Whether a binary can be run at all on this machine.
async fn works(path: &std::path::Path) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().context("start it")?;
    let status = timeout(TRIAL, child.wait()).await.context("it does not end")?.context("wait for it")?;
    if !status.success() {
        bail!("it ends with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rpc::Authority;

    use super::*;

    fn manifest(platform: &str, number: u64) -> String {
        let digest = blake3::hash(b"a binary").to_hex();
        serde_json::json!({
            "number": number, "platform": platform, "channel": "stable", "version": "0.1.0",
            "digest": digest.as_str(), "bytes": 8,
        })
        .to_string()
    }

    #[test]
    fn whatever_a_farm_says_is_to_be_run_only_what_was_signed_is_believed() {
        runtime::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let name: MachineName = "m1".parse().unwrap();
        let ca = authority.certificate_pem().to_owned();
        let source = Source::new("https://farm.invalid", None, ca, ("stable", &name)).unwrap();
        let seal = |manifest: &str| {
            let seal = hex::encode(authority.seal(manifest.as_bytes()).unwrap());
            serde_json::json!({ "manifest": manifest, "seal": seal }).to_string().into_bytes()
        };
        let good = [manifest(&platform::name(), 7), manifest("plan9/mips", 7)];
        let sealed: Vec<_> = good.iter().map(|manifest| seal(manifest)).collect();
        let examples: Vec<_> =
            good.iter().map(|manifest| manifest.clone().into_bytes()).chain(sealed).collect();
        let known =
            Seen { tag: String::new(), number: 3, version: String::new(), digest: String::new(), bytes: 0 };
        let mut believed = 0;
        testkit::fuzz("manifests", &std::env::temp_dir(), &examples, |input| {
            // As it comes, its seal is right only if nobody has changed what it seals.
            if let Ok(Some(_)) = source.check(input, String::new(), None) {
                let sealed: Sealed = serde_json::from_slice(input).unwrap();
                assert_eq!(sealed.manifest, good[0]);
            }
            // And as one that the farm itself has signed.
            let Ok(text) = std::str::from_utf8(input) else { return };
            if let Ok(Some(seen)) = source.check(&seal(text), "tag".to_owned(), Some(&known)) {
                believed += 1;
                let digest = seen.digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                assert!(digest && seen.digest.len() == 64 && seen.number >= known.number, "{seen:?}");
            }
        });
        assert!(believed > 0, "no input came as far as it should");
    }
}
