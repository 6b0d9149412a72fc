//! The manifest: which segments are frozen, in which order, chained by hash.
//!
//! Written to a temporary file, synced, renamed, and the folder synced, so that there is always one whole manifest.
//! The growing segment is not in it: it is the one whose number is the count of frozen ones.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha224};

use super::{
    HistoryId, OpenError, file,
    layout::{Digest, MANIFEST, SegmentName},
};

const VERSION: u32 = 1;

/// What is known about the frozen part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) history: HistoryId,
    /// In the order of the log.
    pub(super) segments: Vec<Entry>,
}

/// One frozen segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The file's name.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) mutations: u64,
    /// Of the content, hexadecimal.
    pub(super) sha224: String,
    /// Of the chain before and this digest: the whole history in one value.
    pub(super) chain: String,
}

impl Entry {
    /// The digest of the segment's content, or why there is none.
    pub(super) fn digest(&self) -> Result<Digest, String> {
        let mut digest = [0; 28];
        hex::decode_to_slice(&self.sha224, &mut digest)
            .map_err(|_| format!("`{}` is no SHA-224", self.sha224))?;
        Ok(digest)
    }
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Manifest {
    pub(super) fn new() -> Self {
        Self { version: VERSION, history: HistoryId::new(), segments: Vec::new() }
    }

    /// The value that the next segment is chained to.
    pub(super) fn chain(&self) -> String {
        match self.segments.last() {
            Some(entry) => entry.chain.clone(),
            None => hex::encode(Sha224::digest(self.history.as_bytes())),
        }
    }

    /// Adds a frozen segment.
    pub(super) fn push(&mut self, name: &SegmentName, bytes: u64, mutations: u64, digest: &Digest) {
        let sha224 = hex::encode(digest);
        let chain = link(&self.chain(), &sha224);
        self.segments.push(Entry { name: name.file_name(), bytes, mutations, sha224, chain });
    }

    /// Reads the manifest of `dir`; nothing if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = file(dir, MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { action: "read", path, source }),
        };
        let damaged = |what: String| OpenError::Manifest { path: path.clone(), what };
        let version: Version = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if version.version > VERSION {
            return Err(OpenError::NewerVersion { path, found: version.version, known: VERSION });
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        manifest.check().map_err(damaged)?;
        Ok(Some(manifest))
    }

    /// The chain must be whole, and every name one of a segment.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("its version is {}, and this program knows {VERSION}", self.version));
        }
        let mut chain = Self { segments: Vec::new(), ..self.clone() }.chain();
        for entry in &self.segments {
            chain = link(&chain, &entry.sha224);
            if chain != entry.chain {
                return Err(format!("the hash chain breaks at `{}`", entry.name));
            }
            if SegmentName::parse(&entry.name).is_none() {
                return Err(format!("`{}` is not the name of a segment", entry.name));
            }
        }
        Ok(())
    }

    /// Replaces the manifest of `dir`, durably.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = file(dir, "manifest.json.new");
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut new = File::create(&temporary)?;
        new.write_all(&text)?;
        new.sync_all()?;
        fs::rename(&temporary, file(dir, MANIFEST))?;
        sync_dir(dir)
    }
}

fn link(chain: &str, sha224: &str) -> String {
    hex::encode(Sha224::new().chain_update(chain).chain_update(sha224).finalize())
}

/// Makes created, renamed and deleted names durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new();
        for number in 0..3 {
            let digest = [number as u8; 28];
            manifest.push(&SegmentName::Frozen { number, digest }, 10, 1, &digest);
        }
        manifest
    }

    #[test]
    fn a_manifest_reads_back_and_a_broken_chain_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        let mut manifest = sample();
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest.clone()));
        manifest.segments.remove(1);
        manifest.write(dir.path()).unwrap();
        let message = Manifest::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("the hash chain breaks"), "{message}");
    }

    #[test]
    fn a_later_version_is_told_apart_from_damage() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST), r#"{"version": 2, "shape": "unknown"}"#).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(OpenError::NewerVersion { found: 2, .. })));
        fs::write(dir.path().join(MANIFEST), r#"{"version": 1"#).unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(OpenError::Manifest { .. })));
    }
}
