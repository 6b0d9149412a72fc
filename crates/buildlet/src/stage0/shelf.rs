//! The binaries that are here, which of them is wanted, which was good last, and which are bad.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::keys::write;

/// Failures in a row, each soon after the start, that make a binary bad.
const STRIKES: u32 = 3;
/// How many bad digests are remembered.
const REMEMBERED: usize = 20;

/// What is remembered.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Memory {
    /// The newest release that was seen.
    pub(super) release: Option<Seen>,
    /// The binary that worked last.
    good: Option<String>,
    /// Binaries that are not run while there is another.
    bad: Vec<String>,
    /// How often the wanted binary has failed in a row.
    strikes: u32,
}

/// A release that was seen, and whose signature was right.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Seen {
    /// For asking only for news.
    pub(super) tag: String,
    pub(super) number: u64,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) bytes: u64,
}

/// A binary that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) path: PathBuf,
    /// None for this very program.
    pub(super) digest: Option<String>,
}

/// The shelf.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    memory: Memory,
}

impl Shelf {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join("bin"))?;
        // A file that is damaged is as good as none: what is wanted is asked for again.
        let text = fs::read_to_string(folder.join("memory.json")).unwrap_or_default();
        let memory = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { folder: folder.to_owned(), memory })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where a binary lies.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join("bin").join(digest)
    }

    /// Whether a binary is here, whole: it is renamed to its name only when it is.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_file()
    }

    pub(super) fn is_bad(&self, digest: &str) -> bool {
        self.memory.bad.iter().any(|bad| bad == digest)
    }

    /// Notes a release. Another binary begins without strikes.
    pub(super) fn note(&mut self, seen: Seen) {
        let same = self.memory.release.as_ref().is_some_and(|known| known.digest == seen.digest);
        if !same {
            self.memory.strikes = 0;
        }
        self.memory.release = Some(seen);
        self.save();
        self.tidy();
    }

    /// What to run: the newest release unless it is bad or not here, else what was good last, else `own`.
    pub(super) fn choose(&self, own: &Path) -> Binary {
        let newest = self.memory.release.as_ref().map(|seen| &seen.digest);
        let mut wanted = newest.into_iter().chain(&self.memory.good);
        match wanted.find(|digest| self.has(digest) && !self.is_bad(digest)) {
            Some(digest) => Binary { path: self.path(digest), digest: Some(digest.clone()) },
            None => Binary { path: own.to_owned(), digest: None },
        }
    }

    /// A binary has worked.
    pub(super) fn worked(&mut self, binary: &Binary) {
        let Some(digest) = &binary.digest else { return };
        if self.memory.good.as_ref() != Some(digest) || self.memory.strikes > 0 {
            self.memory.good = Some(digest.clone());
            self.memory.strikes = 0;
            self.save();
            self.tidy();
        }
    }

    /// A binary has failed soon after its start. True if it is bad from now on.
    pub(super) fn failed(&mut self, binary: &Binary) -> bool {
        let Some(digest) = &binary.digest else { return false };
        self.memory.strikes += 1;
        let bad = self.memory.strikes >= STRIKES;
        if bad {
            self.condemn(&digest.clone());
        }
        self.save();
        bad
    }

    /// A binary is bad: it is not run while there is another.
    pub(super) fn condemn(&mut self, digest: &str) {
        if !self.is_bad(digest) {
            self.memory.bad.push(digest.to_owned());
            let extra = self.memory.bad.len().saturating_sub(REMEMBERED);
            self.memory.bad.drain(..extra);
        }
        if self.memory.good.as_deref() == Some(digest) {
            self.memory.good = None;
        }
        self.memory.strikes = 0;
        self.save();
    }

    fn save(&self) {
        let text = serde_json::to_vec(&self.memory).unwrap_or_default();
        if let Err(error) = write(&self.folder.join("memory.json"), &text, 0o644) {
            tracing::warn!("cannot note what is known about binaries: {error}");
        }
    }

    /// Removes binaries that nobody will run.
    fn tidy(&self) {
        let newest = self.memory.release.as_ref().map(|seen| seen.digest.as_str());
        for entry in fs::read_dir(self.folder.join("bin")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str();
            if name != newest && name != self.memory.good.as_deref() {
                // One that still runs may be unlinked.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u64, digest: &str) -> Seen {
        let (tag, version) = (format!("\"{number}\""), number.to_string());
        Seen { tag, number, version, digest: digest.to_owned(), bytes: 1 }
    }

    fn put(shelf: &mut Shelf, number: u64, digest: &str) -> Binary {
        fs::write(shelf.path(digest), "x").unwrap();
        shelf.note(seen(number, digest));
        shelf.choose(Path::new("/own"))
    }

    #[test]
    fn a_binary_that_fails_gives_way_to_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path()).unwrap();
        assert_eq!(shelf.choose(Path::new("/own")), Binary { path: "/own".into(), digest: None });
        let first = put(&mut shelf, 1, "a");
        assert_eq!(first.digest.as_deref(), Some("a"));
        shelf.worked(&first);
        let second = put(&mut shelf, 2, "b");
        assert_eq!(second.digest.as_deref(), Some("b"));
        assert_eq!(
            [shelf.failed(&second), shelf.failed(&second), shelf.failed(&second)],
            [false, false, true]
        );
        assert_eq!(shelf.choose(Path::new("/own")), first);
        // What is known outlives a restart, and a third binary gets its chance.
        let mut shelf = Shelf::open(folder.path()).unwrap();
        assert_eq!(shelf.choose(Path::new("/own")), first);
        assert_eq!(put(&mut shelf, 3, "c").digest.as_deref(), Some("c"));
        assert!(shelf.has("a") && !shelf.has("b"), "only what may be run is kept");
    }

    #[test]
    fn without_any_good_binary_this_program_itself_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path()).unwrap();
        let only = put(&mut shelf, 1, "a");
        shelf.condemn("a");
        assert_eq!(only.digest.as_deref(), Some("a"));
        assert_eq!(shelf.choose(Path::new("/own")).digest, None);
        fs::write(folder.path().join("memory.json"), "{ half").unwrap();
        assert_eq!(*Shelf::open(folder.path()).unwrap().memory(), Memory::default());
    }
}
