//! All commits in one arena. Others refer to them by index.

use types::{CommitHash, Timestamp};

use super::{
    parse::ParsedCommit,
    strings::{Strings, Text},
    table::Table,
};

/// The index of a commit.
pub(super) type Index = u32;

/// What is kept of a commit.
#[derive(Debug, Clone)]
struct Entry {
    hash: CommitHash,
    parents_start: u32,
    parents: u16,
    /// Whether more is known than that another commit names it as a parent.
    known: bool,
    author: Text,
    subject: Text,
    authored: i64,
    committed: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Commits {
    entries: Vec<Entry>,
    parents: Vec<Index>,
    table: Table,
    /// Commits that are only named so far.
    missing: u32,
}

/// A commit of the corpus.
#[derive(Clone, Copy)]
pub struct Commit<'a> {
    commits: &'a Commits,
    strings: &'a Strings,
    index: Index,
}

impl<'a> Commit<'a> {
    fn entry(&self) -> &'a Entry {
        &self.commits.entries[self.index as usize]
    }

    /// Its name.
    pub fn hash(&self) -> CommitHash {
        self.entry().hash
    }

    /// The first paragraph of its message in one line.
    pub fn subject(&self) -> &'a str {
        self.strings.text(self.entry().subject)
    }

    /// `Name <email>` of who wrote it.
    pub fn author(&self) -> &'a str {
        self.strings.text(self.entry().author)
    }

    /// When it was written.
    pub fn authored(&self) -> Timestamp {
        Timestamp::from_seconds(self.entry().authored)
    }

    /// When it was committed.
    pub fn committed(&self) -> Timestamp {
        Timestamp::from_seconds(self.entry().committed)
    }

    /// The names of its parents, the first is the one it was made on. The log may not hold them.
    pub fn parents(&self) -> impl Iterator<Item = CommitHash> + use<'a> {
        let commits = self.commits;
        commits.parents_of(self.index).iter().map(|parent| commits.entries[*parent as usize].hash)
    }

    /// The commit it was made on, if it has one.
    pub fn first_parent(&self) -> Option<CommitHash> {
        self.parents().next()
    }
}

impl std::fmt::Debug for Commit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.hash().short(), self.subject())
    }
}

/// Mixes all of the name, so that names which share a part do not meet in the table.
fn hash_of(hash: &CommitHash) -> u64 {
    let bytes = hash.as_bytes();
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    let mixed =
        (word(0) ^ word(8).rotate_left(23) ^ word(12).rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

impl Commits {
    fn find(&self, hash: &CommitHash) -> Option<Index> {
        self.table.find(hash_of(hash), |index| self.entries[index as usize].hash == *hash)
    }

    fn parents_of(&self, index: Index) -> &[Index] {
        let entry = &self.entries[index as usize];
        let start = entry.parents_start as usize;
        &self.parents[start..start + usize::from(entry.parents)]
    }

    /// The index of a commit that may be only named so far.
    fn named(&mut self, hash: CommitHash) -> Index {
        if let Some(index) = self.find(&hash) {
            return index;
        }
        let index = self.entries.len() as u32;
        self.entries.push(Entry {
            hash,
            parents_start: 0,
            parents: 0,
            known: false,
            author: Text::default(),
            subject: Text::default(),
            authored: 0,
            committed: 0,
        });
        self.missing += 1;
        let entries = &self.entries;
        self.table.insert(hash_of(&hash), index, |other| hash_of(&entries[other as usize].hash));
        index
    }

    /// Adds a commit. One that is there already stays as it is: a commit never changes.
    pub(super) fn add(&mut self, strings: &mut Strings, hash: CommitHash, commit: &ParsedCommit<'_>) {
        let index = self.named(hash);
        if self.entries[index as usize].known {
            return;
        }
        let parents: Vec<Index> = commit.parents.iter().map(|parent| self.named(*parent)).collect();
        let entry = &mut self.entries[index as usize];
        entry.known = true;
        entry.parents_start = self.parents.len() as u32;
        entry.parents = parents.len().min(usize::from(u16::MAX)) as u16;
        entry.author = strings.intern(&commit.author.name);
        entry.subject = strings.store(&commit.subject());
        entry.authored = commit.author.seconds;
        entry.committed = commit.committer.seconds;
        self.parents.extend_from_slice(&parents);
        self.missing -= 1;
    }

    /// A commit that the log holds.
    pub(super) fn known<'a>(&'a self, strings: &'a Strings, hash: &CommitHash) -> Option<Commit<'a>> {
        let index = self.find(hash).filter(|index| self.entries[*index as usize].known)?;
        Some(Commit { commits: self, strings, index })
    }

    /// How many commits the log holds.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.missing as usize
    }

    /// Commits that others name as parents, but that the log does not hold.
    pub(super) fn missing(&self) -> impl Iterator<Item = CommitHash> {
        self.entries.iter().filter(|entry| !entry.known).map(|entry| entry.hash)
    }

    /// Whether `ancestor` can be reached from `commit` by one step or more. Looks at each commit once.
    pub(super) fn has_ancestor(&self, commit: &CommitHash, ancestor: &CommitHash) -> bool {
        let (Some(start), Some(goal)) = (self.find(commit), self.find(ancestor)) else { return false };
        let mut seen = vec![false; self.entries.len()];
        let mut waiting = vec![start];
        while let Some(index) = waiting.pop() {
            for parent in self.parents_of(index) {
                if *parent == goal {
                    return true;
                }
                if !std::mem::replace(&mut seen[*parent as usize], true) {
                    waiting.push(*parent);
                }
            }
        }
        false
    }
}
