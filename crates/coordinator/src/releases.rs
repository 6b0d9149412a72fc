//! Which buildlet machines are told to run: binaries by digest, and for each platform and channel a list of releases, of
//! which a machine gets the newest that it has a share in.
//!
//! What a machine is told is a manifest that the farm's authority has signed, so that neither a proxy nor a store can
//! slip it another binary; its number only grows, so that an old manifest cannot be played back.

use std::sync::Arc;

use runtime::SharedClock;
use serde::Serialize;
use store::{Batch, BlobError, BlobWriter, Blobs, Database, ReadError, Row, WriteError, values};
use types::Timestamp;

use crate::enrol::{Book, EnrolError};

mod serve;

pub(crate) use serve::router;

/// How far back a machine that has no share in newer releases is looked after.
const LOOK: usize = 50;
/// The largest binary that is taken.
const LARGEST: u64 = 256 << 20;

/// Something that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) number: u64,
    pub(crate) platform: String,
    pub(crate) channel: String,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    /// How many of a hundred machines get it.
    pub(crate) share: u32,
    pub(crate) published: Timestamp,
    pub(crate) manifest: String,
    /// The authority's signature of the manifest, in hexadecimal.
    pub(crate) seal: String,
}

/// What is to be published.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) platform: String,
    pub(crate) channel: String,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) share: u32,
}

/// What a machine reads. Fields are only added: old stage0s read new manifests.
#[derive(Serialize)]
struct Manifest<'a> {
    number: u64,
    platform: &'a str,
    channel: &'a str,
    version: &'a str,
    digest: &'a str,
    bytes: u64,
}

/// Why something is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("{0}")]
    BadRequest(String),
    #[error("the binary is of another digest than was said: `{0}`")]
    WrongDigest(String),
    #[error("no binary with digest `{0}` is known: send it")]
    UnknownBinary(String),
    #[error(transparent)]
    Authority(#[from] EnrolError),
    #[error("cannot sign the manifest")]
    Seal(#[source] rpc::TlsError),
    #[error("the binary cannot be kept")]
    Blob(#[from] BlobError),
    #[error("the database did not answer")]
    Read(#[from] ReadError),
    #[error("the database did not keep it")]
    Write(#[from] WriteError),
}

/// All releases. Clones are the same.
#[derive(Clone)]
pub(crate) struct Releases {
    database: Database,
    blobs: Arc<dyn Blobs>,
    book: Book,
    clock: SharedClock,
    /// Held while a number is taken.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A binary that is being sent.
pub(crate) struct Upload {
    writer: Box<dyn BlobWriter>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Upload {
    /// The next piece.
    pub(crate) async fn write(&mut self, chunk: bytes::Bytes) -> Result<(), PublishError> {
        self.hasher.update(&chunk);
        self.bytes += chunk.len() as u64;
        if self.bytes > LARGEST {
            return Err(PublishError::BadRequest(format!("the binary is larger than {LARGEST} bytes")));
        }
        Ok(self.writer.write(chunk).await?)
    }
}

impl Releases {
    pub(crate) fn new(database: Database, blobs: Arc<dyn Blobs>, book: Book, clock: SharedClock) -> Self {
        Self { database, blobs, book, clock, turn: Arc::default() }
    }

    /// Begins to take a binary.
    pub(crate) async fn upload(&self, wanted: &Wanted) -> Result<Upload, PublishError> {
        check(wanted)?;
        let writer = self.blobs.writer(&key(&wanted.digest)).await?;
        Ok(Upload { writer, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Publishes a binary: one that was just sent, or one that is known.
    pub(crate) async fn publish(
        &self,
        wanted: Wanted,
        sent: Option<Upload>,
    ) -> Result<Release, PublishError> {
        check(&wanted)?;
        let bytes = match sent {
            Some(upload) => {
                let found = upload.hasher.finalize().to_hex().to_string();
                if found != wanted.digest {
                    return Err(PublishError::WrongDigest(found));
                }
                upload.writer.commit().await?
            }
            None => match self.blobs.size(&key(&wanted.digest)).await {
                Err(error) if error.is_not_found() => return Err(PublishError::UnknownBinary(wanted.digest)),
                size => size?,
            },
        };
        let _turn = self.turn.lock().await;
        let last = self.database.read_first("SELECT MAX(number) AS n FROM releases", values![]).await?;
        let last: Option<u64> = last.map(|row| row.opt_number("n")).transpose()?.flatten();
        let release = self.seal(wanted, last.unwrap_or(0) + 1, bytes)?;
        self.save(&release).await?;
        tracing::info!(
            "release {} of {} for {} in {}% of machines on {}",
            release.number,
            release.version,
            release.platform,
            release.share,
            release.channel
        );
        Ok(release)
    }

    fn seal(&self, wanted: Wanted, number: u64, bytes: u64) -> Result<Release, PublishError> {
        let Wanted { platform, channel, version, digest, share } = wanted;
        let manifest = Manifest {
            number,
            platform: &platform,
            channel: &channel,
            version: &version,
            digest: &digest,
            bytes,
        };
        let manifest = serde_json::to_string(&manifest).expect("plain data is always JSON");
        let seal = self.book.authority()?.seal(manifest.as_bytes()).map_err(PublishError::Seal)?;
        let seal = hex::encode(seal);
        let published = self.clock.now();
        Ok(Release { number, platform, channel, version, digest, bytes, share, published, manifest, seal })
    }

    async fn save(&self, release: &Release) -> Result<(), PublishError> {
        let mut batch = Batch::new();
        batch.push(
            "INSERT INTO releases (number, platform, channel, version, digest, bytes, share, published, manifest, seal) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            values![
                release.number,
                release.platform.as_str(),
                release.channel.as_str(),
                release.version.as_str(),
                release.digest.as_str(),
                release.bytes,
                release.share,
                release.published,
                release.manifest.as_str(),
                release.seal.as_str(),
            ],
        );
        Ok(self.database.write(batch).await?)
    }

    /// Releases, newest first.
    pub(crate) async fn list(&self, limit: usize) -> Result<Vec<Release>, ReadError> {
        let sql = "SELECT * FROM releases ORDER BY number DESC LIMIT $1";
        let rows = self.database.read(sql, values![limit]).await?;
        rows.iter().map(read).collect()
    }

    /// What a machine is told to run: the newest release that it has a share in.
    async fn of_machine(
        &self,
        platform: &str,
        channel: &str,
        machine: &str,
    ) -> Result<Option<Release>, ReadError> {
        let sql = "SELECT * FROM releases WHERE platform = $1 AND channel = $2 ORDER BY number DESC LIMIT $3";
        let rows = self.database.read(sql, values![platform, channel, LOOK]).await?;
        let releases: Vec<Release> = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(releases.into_iter().find(|release| has_share(machine, release)))
    }
}

/// Whether a machine is among those that a release is for. A wider share of the same binary has all that had it before.
fn has_share(machine: &str, release: &Release) -> bool {
    let digest = blake3::hash(format!("{}\0{machine}", release.digest).as_bytes());
    let place = u32::from_le_bytes(digest.as_bytes()[..4].try_into().expect("a digest has 32 bytes")) % 100;
    place < release.share
}

fn key(digest: &str) -> String {
    format!("buildlets/{digest}")
}

fn check(wanted: &Wanted) -> Result<(), PublishError> {
    let word = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !text.is_empty() && text.len() <= 40 && text.bytes().all(allowed)
    };
    let bad = |text: String| Err(PublishError::BadRequest(text));
    if !wanted.platform.split_once('/').is_some_and(|(os, arch)| word(os) && word(arch)) {
        return bad(format!("`{}` is no platform, as in `linux/amd64`", wanted.platform));
    }
    if !word(&wanted.channel) {
        return bad(format!("`{}` is no channel: a-z, 0-9 and `-`", wanted.channel));
    }
    if wanted.version.len() > 100 {
        return bad("the version is longer than 100 bytes".to_owned());
    }
    if wanted.digest.len() != 64 || !wanted.digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return bad(format!("`{}` is no BLAKE3 digest", wanted.digest));
    }
    if !(1..=100).contains(&wanted.share) {
        return bad(format!("{} is no number of machines in a hundred: 1 to 100", wanted.share));
    }
    Ok(())
}

fn read(row: &Row) -> Result<Release, ReadError> {
    Ok(Release {
        number: row.number("number")?,
        platform: row.text("platform")?.to_owned(),
        channel: row.text("channel")?.to_owned(),
        version: row.text("version")?.to_owned(),
        digest: row.text("digest")?.to_owned(),
        bytes: row.number("bytes")?,
        share: row.number("share")?,
        published: row.time("published")?,
        manifest: row.text("manifest")?.to_owned(),
        seal: row.text("seal")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(share: u32) -> Release {
        Release {
            number: 1,
            platform: "linux/amd64".to_owned(),
            channel: "stable".to_owned(),
            version: "1".to_owned(),
            digest: "d".repeat(64),
            bytes: 1,
            share,
            published: Timestamp(0),
            manifest: String::new(),
            seal: String::new(),
        }
    }

    #[test]
    fn a_wider_share_holds_the_narrower_one() {
        let machines: Vec<String> = (0..1000).map(|number| format!("m{number}")).collect();
        let of = |share| machines.iter().filter(|name| has_share(name, &release(share))).collect::<Vec<_>>();
        assert!((50..=150).contains(&of(10).len()), "{}", of(10).len());
        assert_eq!(of(100).len(), 1000);
        assert!(of(10).iter().all(|name| of(40).contains(name)));
    }
}
