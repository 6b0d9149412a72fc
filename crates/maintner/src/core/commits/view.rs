//! What is shown of a commit.

use std::borrow::Cow;

use types::{CommitHash, Timestamp};

use super::{Index, KNOWN, Row};
use crate::core::{
    Corpus,
    parse::{Header, parse_commit, scan_commit, subject_of},
    wire::{Fields, find_bytes},
};

/// A commit of the corpus.
#[derive(Clone, Copy)]
pub struct Commit<'a> {
    corpus: &'a Corpus,
    index: Index,
}

/// What a commit did to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange<'a> {
    /// The path from the root of the repository. git quotes unusual ones.
    pub path: Cow<'a, str>,
    /// Lines that it added.
    pub added: u64,
    /// Lines that it deleted.
    pub deleted: u64,
    /// Whether it is not text: then there are no lines.
    pub binary: bool,
}

impl<'a> Commit<'a> {
    /// The commit with this index, if the log holds it.
    pub(in crate::core) fn at(corpus: &'a Corpus, index: Index) -> Option<Self> {
        let row = corpus.commits.rows.get(index as usize)?;
        (row.flags & KNOWN != 0).then_some(Self { corpus, index })
    }

    fn row(&self) -> &'a Row {
        &self.corpus.commits.rows[self.index as usize]
    }

    /// The object, as `git cat-file commit` prints it.
    pub fn raw(&self) -> &'a [u8] {
        find_bytes(self.corpus.payloads.get(self.row().span), 2).unwrap_or_default()
    }

    pub(in crate::core) fn header(&self) -> Option<Header<'a>> {
        scan_commit(self.raw(), |_| ()).ok()
    }

    /// Its name.
    pub fn hash(&self) -> CommitHash {
        CommitHash::from_bytes(self.row().hash)
    }

    /// The message, verbatim. Bytes that are not UTF-8 are replaced.
    pub fn message(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.header().map_or(&b""[..], |header| header.message))
    }

    /// The first paragraph of its message in one line.
    pub fn subject(&self) -> String {
        subject_of(&self.message())
    }

    /// `Name <email>` of who wrote it.
    pub fn author(&self) -> &'a str {
        self.corpus.strings.text(self.row().author)
    }

    /// `Name <email>` of who committed it.
    pub fn committer(&self) -> &'a str {
        self.corpus.strings.text(self.row().committer)
    }

    /// When it was written.
    pub fn authored(&self) -> Timestamp {
        Timestamp::from_seconds(self.header().map_or(0, |header| header.author.seconds))
    }

    /// When it was committed.
    pub fn committed(&self) -> Timestamp {
        Timestamp::from_seconds(self.row().committed)
    }

    /// How far the clocks of author and committer were ahead of UTC, in minutes.
    pub fn zones(&self) -> (i32, i32) {
        parse_commit(self.raw()).map_or((0, 0), |raw| (raw.author.zone_minutes, raw.committer.zone_minutes))
    }

    /// The name of its tree.
    pub fn tree(&self) -> Option<CommitHash> {
        Some(self.header()?.tree)
    }

    /// The names of its parents, the first is the one it was made on. The log may not hold them.
    pub fn parents(&self) -> impl Iterator<Item = CommitHash> + use<'a> {
        let commits = &self.corpus.commits;
        commits.parents_of(self.index).iter().map(|parent| commits.hash(*parent))
    }

    /// The commit it was made on, if it has one.
    pub fn first_parent(&self) -> Option<CommitHash> {
        self.parents().next()
    }

    /// What it changed, in the order of paths. Nothing for the first commit, a merge, or one whose diff is not in the
    /// log.
    pub fn files(&self) -> impl Iterator<Item = FileChange<'a>> + use<'a> {
        let diff = find_bytes(self.corpus.payloads.get(self.row().span), 3).unwrap_or_default();
        let mut fields = Fields(diff);
        std::iter::from_fn(move || {
            while let Ok(Some((number, value))) = fields.next() {
                if number == 1 {
                    return value.bytes().ok().map(file);
                }
            }
            None
        })
    }

    /// Whether both changed the same files by as many lines; no if that is not known of one of them.
    pub fn has_same_diff(&self, other: &Commit<'_>) -> bool {
        self.files().next().is_some() && self.files().eq(other.files())
    }

    /// Who reviewed it, by a line `Reviewer: ` of the message.
    pub fn reviewer(&self) -> Option<String> {
        let message = self.message();
        let line = message.lines().find_map(|line| line.strip_prefix("Reviewer: "))?;
        Some(line.trim().to_owned())
    }

    /// One more than that of any parent.
    pub fn generation(&self) -> u32 {
        self.row().generation
    }

    /// The first Gerrit project that listed it, such as `go.googlesource.com/tools`.
    pub fn project(&self) -> Option<&'a str> {
        let project = u32::from(self.row().origin).checked_sub(1)?;
        self.corpus.gerrit.project_name(&self.corpus.strings, project)
    }
}

fn file(message: &[u8]) -> FileChange<'_> {
    let mut change = FileChange { path: Cow::Borrowed(""), added: 0, deleted: 0, binary: false };
    let mut fields = Fields(message);
    while let Ok(Some((number, value))) = fields.next() {
        match number {
            1 => change.path = String::from_utf8_lossy(value.bytes().unwrap_or_default()),
            2 => change.added = value.number().unwrap_or(0) as u64,
            3 => change.deleted = value.number().unwrap_or(0) as u64,
            4 => change.binary = value.number().unwrap_or(0) != 0,
            _ => {}
        }
    }
    change
}

impl PartialEq for Commit<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl std::fmt::Debug for Commit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.hash().short(), self.subject())
    }
}
