//! A log that rests in a bucket: who may write it, and what of it is durable.
//!
//! ```text
//! manifest.json                 who leads, and the frozen segments with their hash chain
//! NNNN.<sha224>.mutlog          a frozen segment, as in a folder
//! parts/NNNN/SSSSSSSS           what one write brought to segment NNNN, in order
//! ```
//!
//! Two writers are kept apart by the bucket alone, not by clocks. A part is created at the next free number, and only
//! if there is none: so of two writers one fails, and stops. Who takes over writes its name into the manifest, if that
//! is still as it was read, and then seals the parts of the one before with an empty part: a writer that was thought
//! dead finds the seal where its next part would go. Seals are never removed, so that also one that slept for days
//! finds it. The lease in the manifest only spares the living: while its beat moves, nobody takes over.
//!
//! The folder on this machine is a copy for readers. Whatever it holds beyond the bucket was never acknowledged.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{
    AppendError, HistoryId, OpenError,
    bucket::{Bucket, BucketError, Put, Version},
    layout::SegmentName,
    manifest::Manifest,
};

const MANIFEST: &str = "manifest.json";
/// A segment has no more parts than this, so that opening the log stays quick.
const MAX_PARTS: u64 = 4096;
/// So many objects are read at once.
const READERS: usize = 16;
/// So often a write is tried that somebody else won, before we give up.
const ATTEMPTS: u32 = 10;

/// A bucket, and how it is shared.
#[derive(Clone)]
pub struct Shared {
    /// Where the log rests.
    pub bucket: Arc<dyn Bucket>,
    /// A leader that is not heard of for so long is taken to be dead.
    pub lease: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (lease {:?})", self.bucket, self.lease)
    }
}

/// What the manifest in the bucket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    lease: Lease,
    log: Manifest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    /// Grows with each leader.
    epoch: u64,
    /// Which folder on which machine.
    holder: String,
    /// Moves while the leader lives.
    beat: u64,
    /// Whether the leader still leads, as far as it said.
    held: bool,
}

/// The bucket in the hands of its leader.
pub(super) struct Remote {
    bucket: Arc<dyn Bucket>,
    content: Content,
    version: Version,
    lease: Duration,
    /// The number of the next part.
    next: u64,
    /// Parts of this segment that are no seals.
    removable: Vec<String>,
}

impl Remote {
    /// Becomes the leader. `local` is the history of the folder, if it has one. Answers with what the growing segment
    /// holds. Waits for the length of the lease if another leads that may be dead.
    pub(super) fn lead(
        shared: &Shared,
        holder: &str,
        local: Option<&Manifest>,
    ) -> Result<(Self, Vec<u8>), OpenError> {
        let bucket = Arc::clone(&shared.bucket);
        for _ in 0..ATTEMPTS {
            let (content, put) = match read_manifest(&*bucket)? {
                None => {
                    let log = local.cloned().unwrap_or_else(Manifest::new);
                    let content = Content { lease: Lease::first(holder), log };
                    let put = bucket.create(MANIFEST, to_bytes(&content)).map_err(failed)?;
                    (content, put)
                }
                Some((mut content, version)) => {
                    check_history(&*bucket, &content, local)?;
                    if content.lease.held && content.lease.holder != holder {
                        wait_for_death(&*bucket, &content.lease, shared.lease)?;
                    }
                    content.lease = content.lease.next(holder);
                    let put = bucket.replace(MANIFEST, to_bytes(&content), &version).map_err(failed)?;
                    (content, put)
                }
            };
            if let Put::Done(version) = put {
                let lease = shared.lease;
                let mut remote = Self { bucket, content, version, lease, next: 0, removable: Vec::new() };
                let growing = remote.read_parts()?;
                let bytes = remote.seal(growing)?;
                info!("leads the mutation log in `{}`, epoch {}", remote.bucket, remote.content.lease.epoch);
                return Ok((remote, bytes));
            }
        }
        Err(OpenError::Bucket { what: format!("the manifest of `{bucket}` never stays as it was read") })
    }

    /// The frozen segments.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.content.log
    }

    /// How often we must say that we live.
    pub(super) fn pause(&self) -> Duration {
        self.lease / 3
    }

    /// The content of a frozen segment, or of whatever object.
    pub(super) fn read(&self, key: &str) -> Result<Bytes, OpenError> {
        let missing = || OpenError::Bucket { what: format!("`{key}` is missing in `{}`", self.bucket) };
        Ok(self.bucket.read(key).map_err(failed)?.ok_or_else(missing)?.bytes)
    }

    fn folder(&self) -> String {
        format!("parts/{:04}/", self.content.log.segments.len())
    }

    fn key(&self, part: u64) -> String {
        format!("{}{part:08}", self.folder())
    }

    /// The line before what a part holds: it tells our own from another's when an answer was lost.
    fn head(&self) -> String {
        format!("part {} {}\n", self.content.lease.epoch, self.content.lease.holder)
    }

    /// Reads the parts of the growing segment, several at once.
    fn read_parts(&mut self) -> Result<Vec<u8>, OpenError> {
        let keys = self.bucket.list(&self.folder()).map_err(failed)?;
        for (number, key) in keys.iter().enumerate() {
            if *key != self.key(number as u64) {
                let what = format!("`{}` of `{}` is missing", self.key(number as u64), self.bucket);
                return Err(OpenError::Bucket { what });
            }
        }
        let size = keys.len().div_ceil(READERS).max(1);
        let this = &*self;
        let read = |keys: &[String]| keys.iter().map(|key| this.read(key)).collect::<Result<Vec<_>, _>>();
        let parts = thread::scope(|scope| {
            let running: Vec<_> = keys.chunks(size).map(|keys| scope.spawn(move || read(keys))).collect();
            let joined = running.into_iter().map(|one| match one.join() {
                Ok(read) => read,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Result<Vec<_>, _>>()
        })?;
        let mut bytes = Vec::new();
        for (key, part) in keys.into_iter().zip(parts.into_iter().flatten()) {
            self.take_part(key, &part, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn take_part(&mut self, key: String, part: &[u8], bytes: &mut Vec<u8>) -> Result<(), OpenError> {
        let end = memchr::memchr(b'\n', part).filter(|_| part.starts_with(b"part "));
        let Some(end) = end else {
            return Err(OpenError::Bucket {
                what: format!("`{key}` of `{}` is no part of a log", self.bucket),
            });
        };
        let body = &part[end + 1..];
        bytes.extend_from_slice(body);
        if !body.is_empty() {
            self.removable.push(key);
        }
        self.next += 1;
        Ok(())
    }

    /// Makes sure that the leader before cannot write any more. What it wrote meanwhile is taken.
    fn seal(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        loop {
            let key = self.key(self.next);
            let head = Bytes::from(self.head());
            match self.bucket.create(&key, head.clone()).map_err(failed)? {
                Put::Done(_) => break,
                Put::Lost => {
                    let part = self.read(&key)?;
                    if part == head {
                        break;
                    }
                    self.take_part(key, &part, &mut bytes)?;
                }
            }
        }
        self.next += 1;
        Ok(bytes)
    }

    /// Makes bytes of the growing segment durable.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let (key, head) = (self.key(self.next), self.head());
        let part = Bytes::from([head.as_bytes(), bytes].concat());
        let put = self.bucket.create(&key, part.clone()).map_err(lost)?;
        if put == Put::Lost && self.bucket.read(&key).map_err(lost)?.is_none_or(|object| object.bytes != part)
        {
            return Err(self.deposed());
        }
        self.removable.push(key);
        self.next += 1;
        Ok(())
    }

    /// Whether the growing segment should be frozen, however small.
    pub(super) fn has_many_parts(&self) -> bool {
        self.next >= MAX_PARTS
    }

    /// Makes the growing segment a frozen one of this content, as the manifest then says.
    pub(super) fn freeze(&mut self, log: &Manifest, content: Bytes) -> Result<(), AppendError> {
        let Some(entry) = log.segments.last() else { return Ok(()) };
        // Its name is its content: one that is there already is the same.
        self.bucket.create(&entry.name, content).map_err(lost)?;
        let mut next = self.content.clone();
        next.log = log.clone();
        next.lease.beat += 1;
        self.write(next)?;
        for key in std::mem::take(&mut self.removable) {
            if let Err(error) = self.bucket.delete(&key) {
                warn!("a part of a frozen segment is left in the bucket: {error}");
            }
        }
        self.next = 0;
        Ok(())
    }

    /// Says that we live.
    pub(super) fn beat(&mut self) -> Result<(), AppendError> {
        let mut next = self.content.clone();
        next.lease.beat += 1;
        self.write(next)
    }

    /// Lets another lead at once. Without it, that one waits for the length of the lease.
    pub(super) fn release(&mut self) {
        let mut next = self.content.clone();
        next.lease.held = false;
        if let Err(error) = self.write(next) {
            warn!("the lease of the mutation log is not given back: {error}");
        }
    }

    fn write(&mut self, next: Content) -> Result<(), AppendError> {
        let bytes = to_bytes(&next);
        let version = match self.bucket.replace(MANIFEST, bytes.clone(), &self.version).map_err(lost)? {
            Put::Done(version) => version,
            // Perhaps ours, when the answer to an earlier try was lost.
            Put::Lost => match self.bucket.read(MANIFEST).map_err(lost)? {
                Some(object) if object.bytes == bytes => object.version,
                _ => return Err(self.deposed()),
            },
        };
        (self.version, self.content) = (version, next);
        Ok(())
    }

    fn deposed(&self) -> AppendError {
        AppendError::Deposed { bucket: self.bucket.to_string() }
    }
}

impl Lease {
    fn first(holder: &str) -> Self {
        Self { epoch: 1, holder: holder.into(), beat: 0, held: true }
    }

    fn next(&self, holder: &str) -> Self {
        Self { epoch: self.epoch + 1, holder: holder.into(), beat: 0, held: true }
    }
}

/// Whether there is no log in the bucket yet.
pub(super) fn is_new(shared: &Shared) -> Result<bool, OpenError> {
    Ok(shared.bucket.read(MANIFEST).map_err(failed)?.is_none())
}

/// Brings a log that is only in a folder into a bucket that has none: the objects first, so that the manifest which
/// [`Remote::lead`] then writes names nothing that is not there.
pub(super) fn bring(
    shared: &Shared,
    holder: &str,
    local: &Manifest,
    read: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let bucket = &*shared.bucket;
    for entry in &local.segments {
        bucket.create(&entry.name, read(&entry.name)?.into()).map_err(io::Error::other)?;
    }
    let number = local.segments.len();
    let growing = match read(&SegmentName::Growing { number: number as u32 }.file_name()) {
        Ok(bytes) if !bytes.is_empty() => bytes,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Nobody leads yet: what an earlier try left is of no use.
    let key = format!("parts/{number:04}/{:08}", 0);
    bucket.delete(&key).map_err(io::Error::other)?;
    let part = [format!("part 0 {holder}\n").as_bytes(), &growing].concat();
    bucket.create(&key, part.into()).map_err(io::Error::other)?;
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: BucketError) -> OpenError {
    OpenError::Bucket { what: error.to_string() }
}

fn lost(error: BucketError) -> AppendError {
    AppendError::Bucket(error)
}

fn to_bytes(content: &Content) -> Bytes {
    serde_json::to_vec_pretty(content).expect("plain data is always JSON").into()
}

fn read_manifest(bucket: &dyn Bucket) -> Result<Option<(Content, Version)>, OpenError> {
    let Some(object) = bucket.read(MANIFEST).map_err(failed)? else { return Ok(None) };
    let damaged =
        |what: String| OpenError::Bucket { what: format!("the manifest of `{bucket}` is damaged: {what}") };
    let content: Content =
        serde_json::from_slice(&object.bytes).map_err(|error| damaged(error.to_string()))?;
    content.log.check().map_err(damaged)?;
    Ok(Some((content, object.version)))
}

/// A folder with another history is no copy of this log: bringing the two together would lose one of them.
fn check_history(bucket: &dyn Bucket, content: &Content, local: Option<&Manifest>) -> Result<(), OpenError> {
    let here = local.map_or(content.log.history, |manifest| manifest.history);
    if here == content.log.history {
        return Ok(());
    }
    Err(OpenError::Bucket {
        what: format!("`{bucket}` holds another log than this folder: use another bucket, or a new folder"),
    })
}

/// Watches the lease of another for as long as it is good. Nobody's clock is asked what time it is.
fn wait_for_death(bucket: &dyn Bucket, seen: &Lease, lease: Duration) -> Result<(), OpenError> {
    info!("`{}` leads the mutation log in `{bucket}`: waiting {lease:?} for a sign of it", seen.holder);
    for _ in 0..10 {
        thread::sleep(lease / 10);
        match read_manifest(bucket)? {
            Some((content, _)) if content.lease == *seen => {}
            Some((content, _)) if !content.lease.held => return Ok(()),
            _ => return Err(OpenError::Led { bucket: bucket.to_string(), holder: seen.holder.clone() }),
        }
    }
    warn!("`{}` is not heard of any more: taking over the mutation log in `{bucket}`", seen.holder);
    Ok(())
}

/// The name under which this folder leads. Kept in the folder, so that a restart need not wait for its own death.
pub(super) fn holder(dir: &Path) -> io::Result<String> {
    let path = dir.join("holder");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => name_holder(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => name_holder(&path),
        Err(error) => Err(error),
    }
}

fn name_holder(path: &Path) -> io::Result<String> {
    let name = HistoryId::new().to_string();
    std::fs::write(path, format!("{name}\n"))?;
    Ok(name)
}
