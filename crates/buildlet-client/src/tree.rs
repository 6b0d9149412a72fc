//! Trees: archives on their way to and from a machine.

use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll, ready},
};

use api::buildlet::{ReadTreeResponse, read_tree_response::Part};
use bytes::Bytes;
use futures_util::Stream;
use types::Timestamp;

use crate::Error;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFormat {
    /// Plain tar.
    Tar,
    /// tar.gz.
    TarGz,
    /// tar.zst.
    TarZst,
}

impl ArchiveFormat {
    /// The file name's ending, as the contract names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
        }
    }
}

/// What was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes fetched.
    pub bytes: u64,
    /// Files and folders made.
    pub entries: u64,
}

/// A file, folder or symbolic link below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its path below the folder.
    pub path: String,
    /// What it is.
    pub kind: TreeEntryKind,
    /// The lower nine bits of its mode.
    pub mode: u32,
    /// When it was changed last.
    pub modified: Timestamp,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEntryKind {
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// Its BLAKE3, lower-case hexadecimal, if asked for.
        digest: Option<String>,
    },
    /// A folder.
    Folder,
    /// A symbolic link, and where it leads.
    Link(String),
}

/// What makes one tree of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths to remove first. What lies below a folder goes with it and is not listed.
    pub remove: Vec<String>,
    /// Paths to write then, in the order in which they are wanted.
    pub write: Vec<String>,
}

/// What to remove and write so that a folder that holds `found` holds `wanted`. Times do not count; files are compared by
/// digest, and one without is another.
pub fn changes(wanted: &[TreeEntry], found: &[TreeEntry]) -> Changes {
    let by_path = |entries: &'_ [TreeEntry]| -> HashMap<String, TreeEntry> {
        entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (wanted_by_path, found_by_path) = (by_path(wanted), by_path(found));
    let mut remove: Vec<String> = Vec::new();
    for entry in found {
        let stays = wanted_by_path.get(&entry.path).is_some_and(|wanted| same_kind(wanted, entry));
        let below = |folder: &String| {
            entry.path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if !stays && !remove.last().is_some_and(below) {
            remove.push(entry.path.clone());
        }
    }
    let differs =
        |entry: &&TreeEntry| !found_by_path.get(&entry.path).is_some_and(|found| same(entry, found));
    let write = wanted.iter().filter(differs).map(|entry| entry.path.clone()).collect();
    Changes { remove, write }
}

fn same_kind(one: &TreeEntry, other: &TreeEntry) -> bool {
    std::mem::discriminant(&one.kind) == std::mem::discriminant(&other.kind)
}

fn same(one: &TreeEntry, other: &TreeEntry) -> bool {
    let known = !matches!(&one.kind, TreeEntryKind::File { digest: None, .. });
    known && one.kind == other.kind && one.mode == other.mode
}

/// A folder as tar.zst, in chunks. Ends only when all bytes have come and their digest is right, else with an error.
pub struct TreeChunks {
    inner: tonic::Streaming<ReadTreeResponse>,
    hasher: blake3::Hasher,
    digest: Option<String>,
}

impl TreeChunks {
    pub(crate) fn new(inner: tonic::Streaming<ReadTreeResponse>) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), digest: None }
    }

    /// The next chunk; none once the tree is whole.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        futures_util::StreamExt::next(self).await
    }

    /// The BLAKE3 of all chunks, lower-case hexadecimal; none before the stream has ended well.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    fn finish(&mut self, digest: String) -> Result<(), Error> {
        let ours = self.hasher.finalize().to_hex();
        if ours.as_str() != digest {
            return Err(Error::WrongDigest(format!("the tree's digest is `{ours}`, not `{digest}`")));
        }
        self.digest = Some(digest);
        Ok(())
    }
}

impl Stream for TreeChunks {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.digest.is_some() {
            return Poll::Ready(None);
        }
        let item = match ready!(Pin::new(&mut self.inner).poll_next(context)) {
            None => Some(Err(Error::Unavailable("the tree was broken off before its digest".to_owned()))),
            Some(Err(status)) => Some(Err(Error::from(status))),
            Some(Ok(ReadTreeResponse { part: Some(Part::Chunk(chunk)) })) => {
                self.hasher.update(&chunk);
                Some(Ok(chunk))
            }
            Some(Ok(ReadTreeResponse { part: Some(Part::Digest(digest)) })) => {
                self.finish(digest).err().map(Err)
            }
            Some(Ok(ReadTreeResponse { part: None })) => {
                Some(Err(Error::Malformed("an empty part of a tree".to_owned())))
            }
        };
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for TreeChunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeChunks").field("digest", &self.digest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: TreeEntryKind) -> TreeEntry {
        TreeEntry { path: path.to_owned(), kind, mode: 0o644, modified: Timestamp::from_parts(0, 0) }
    }

    fn file(path: &str, digest: &str) -> TreeEntry {
        entry(path, TreeEntryKind::File { size: 1, digest: Some(digest.to_owned()) })
    }

    #[test]
    fn only_what_changed_is_written_and_only_what_is_not_wanted_is_removed() {
        let folder = |path: &str| entry(path, TreeEntryKind::Folder);
        let link = |path: &str, to: &str| entry(path, TreeEntryKind::Link(to.to_owned()));
        let found = [
            folder("d"),
            file("d/a", "1"),
            folder("old"),
            file("old/x", "1"),
            file("old.txt", "1"),
            file("s", "1"),
        ];
        let wanted = [folder("d"), file("d/a", "2"), file("d/b", "1"), file("old.txt", "1"), link("s", "d")];
        let changes = changes(&wanted, &found);
        assert_eq!(changes.remove, ["old", "s"]);
        assert_eq!(changes.write, ["d/a", "d/b", "s"]);
    }

    #[test]
    fn a_file_whose_mode_changed_is_written() {
        let (mut executable, plain) = (file("x", "1"), file("x", "1"));
        executable.mode = 0o755;
        let plain = [plain];
        assert_eq!(changes(&[executable], &plain).write, ["x"]);
        assert_eq!(changes(&plain, &plain), Changes::default());
    }
}
