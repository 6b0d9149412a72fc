//! All commits in one arena. Others refer to them by index.
//!
//! A row has what is looked at often; the rest of a commit is read from the log when it is asked for.

mod notes;
mod view;

use types::CommitHash;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    decode::{Batch, CommitDraft, Step, part},
    payloads::Span,
    rows::Rows,
    strings::{Strings, Text},
    table::{Table, mix},
};

pub(super) use notes::Stored;
pub use view::{Commit, FileChange};

/// The index of a commit.
pub(super) type Index = u32;

/// More is known than that another commit names it as a parent.
const KNOWN: u16 = 1;
/// A commit that the log holds names it as a parent.
const PARENT: u16 = 2;
/// A change waits for it.
const AWAITED: u16 = 4;

/// What is kept of a commit. What whoever finds one by its name looks at comes first, so that it is in one line of the
/// cache: large pieces of memory begin sixteen bytes after such a line does.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Row {
    /// The `GitCommit` in the log.
    span: Span,
    hash: [u8; 20],
    /// One more than that of any parent; 1 if there is none, or if it is not known yet.
    generation: u32,
    flags: u16,
    /// The first Gerrit project that listed it, plus one.
    origin: u16,
    parents: u16,
    notes: u16,
    committed: i64,
    author: Text,
    committer: Text,
    parents_start: u32,
    notes_start: u32,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    pub(super) rows: Rows<Row>,
    pub(super) parents: Rows<Index>,
    /// What messages say, packed: see [`Stored`].
    pub(super) notes: Rows<u64>,
    pub(super) table: Table,
    /// Commits that are only named so far.
    unknown: u32,
    /// A commit came after its child, so that generations may be too low.
    stale: bool,
}

/// Mixes all of the name, so that names which share a part do not meet in the table.
fn hash_of(hash: &[u8; 20]) -> u64 {
    let word = |at: usize| hash[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    mix(word(0) ^ word(12), word(8))
}

impl Commits {
    /// Those that were stored elsewhere. Nothing if an index leads nowhere.
    pub(super) fn from_parts(
        rows: Rows<Row>,
        parents: Rows<Index>,
        notes: Rows<u64>,
        table: impl FnOnce(usize) -> Option<Table>,
    ) -> Option<Self> {
        let mut unknown = 0;
        let inside = rows.iter().all(|row| {
            unknown += u32::from(row.flags & KNOWN == 0);
            row.parents_start as usize + usize::from(row.parents) <= parents.len()
                && row.notes_start as usize + usize::from(row.notes) <= notes.len()
        });
        if !inside || parents.iter().any(|parent| *parent as usize >= rows.len()) {
            return None;
        }
        let table = table(rows.len())?;
        Some(Self { rows, parents, notes, table, unknown, stale: false })
    }

    /// Has room for about so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.table.reserve(self.rows.len() + more);
        self.rows.reserve(more);
    }

    #[inline]
    pub(super) fn find(&self, hash: &CommitHash) -> Option<Index> {
        let hash = hash.as_bytes();
        self.table.find(hash_of(hash), |index| self.rows[index as usize].hash == *hash)
    }

    pub(super) fn hash(&self, index: Index) -> CommitHash {
        CommitHash::from_bytes(self.rows[index as usize].hash)
    }

    pub(super) fn is_known(&self, index: Index) -> bool {
        self.rows[index as usize].flags & KNOWN != 0
    }

    #[inline]
    pub(super) fn parents_of(&self, index: Index) -> &[Index] {
        let row = &self.rows[index as usize];
        let start = row.parents_start as usize;
        self.parents.slice(start..start + usize::from(row.parents)).unwrap_or_default()
    }

    pub(super) fn committed(&self, index: Index) -> i64 {
        self.rows[index as usize].committed
    }

    pub(super) fn author(&self, index: Index) -> Text {
        self.rows[index as usize].author
    }

    /// Where the whole of a commit is in the log.
    pub(super) fn span(&self, index: Index) -> Span {
        self.rows[index as usize].span
    }

    /// What the message of a commit says.
    pub(super) fn notes_of(&self, index: Index) -> impl Iterator<Item = Stored> {
        let row = &self.rows[index as usize];
        let start = row.notes_start as usize;
        notes::unpack(self.notes.slice(start..start + usize::from(row.notes)).unwrap_or_default())
    }

    /// The index of a commit that may be only named so far.
    #[inline]
    pub(super) fn named(&mut self, hash: &CommitHash) -> Index {
        let (rows, bytes, new) = (&self.rows, hash.as_bytes(), self.rows.len() as u32);
        let (index, is_new) =
            self.table.find_or_insert(hash_of(bytes), new, |index| rows[index as usize].hash == *bytes);
        if is_new {
            self.push_named(hash);
        }
        index
    }

    /// A row of a commit of which nothing else is known.
    fn push_named(&mut self, hash: &CommitHash) {
        self.rows.push(Row {
            span: Span::default(),
            committed: 0,
            hash: *hash.as_bytes(),
            author: Text::default(),
            committer: Text::default(),
            parents_start: 0,
            notes_start: 0,
            generation: 1,
            parents: 0,
            notes: 0,
            origin: 0,
            flags: 0,
        });
        self.unknown += 1;
    }

    /// Looks where the commits of these steps and their parents are to be found, all at once: nearly all the time of
    /// finding one goes into waiting for memory.
    pub(super) fn warm(&self, batch: &Batch<'_>, steps: &[Step<'_>]) {
        let commits = || steps.iter().flat_map(|step| part(&batch.commits, &step.commits()));
        let parents = commits().flat_map(|draft| part(&batch.parents, &draft.parents));
        let refs = steps.iter().flat_map(|step| part(&batch.refs, &step.change_refs()));
        let named = commits().map(|draft| &draft.hash).chain(parents).chain(refs.map(|draft| &draft.hash));
        let mut touched = 0;
        for index in named.filter_map(|hash| self.table.first(hash_of(hash.as_bytes()))) {
            touched ^= self.rows.get(index as usize).map_or(0, |row| row.flags);
        }
        std::hint::black_box(touched);
    }

    /// Remembers that a change waits for a commit.
    pub(super) fn wait_for(&mut self, index: Index) {
        self.rows[index as usize].flags |= AWAITED;
    }

    /// Adds a commit. One that is there already stays as it is: a commit never changes. Answers with its index if a
    /// change waits for it.
    pub(super) fn add(
        &mut self,
        strings: &mut Strings,
        batch: &Batch<'_>,
        draft: &CommitDraft<'_>,
        origin: u16,
    ) -> Option<Index> {
        let index = self.named(&draft.hash);
        let row = self.rows[index as usize];
        if row.flags & KNOWN != 0 {
            return None;
        }
        let start = self.parents.len();
        let mut generation = 1;
        for parent in part(&batch.parents, &draft.parents).iter().take(usize::from(u16::MAX)) {
            let parent = self.named(parent);
            self.parents.push(parent);
            let parent = &mut self.rows[parent as usize];
            parent.flags |= PARENT;
            generation = generation.max(parent.generation.saturating_add(1));
        }
        let (parents_start, parents) = (start as u32, (self.parents.len() - start) as u16);
        let start = self.notes.len();
        for note in part(&batch.notes, &draft.notes) {
            notes::pack(note, strings, &mut self.notes);
            if self.notes.len() - start >= usize::from(u16::MAX) - 1 {
                break;
            }
        }
        let (notes_start, notes) = (start as u32, (self.notes.len() - start) as u16);
        // Whoever names it so far believes that it has no parents.
        self.stale |= row.flags & PARENT != 0 && generation > 1;
        self.unknown -= 1;
        self.rows[index as usize] = Row {
            span: draft.span,
            committed: draft.committed,
            hash: row.hash,
            author: strings.intern(draft.author),
            committer: strings.intern(draft.committer),
            parents_start,
            notes_start,
            generation,
            parents,
            notes,
            origin,
            flags: row.flags & !AWAITED | KNOWN,
        };
        (row.flags & AWAITED != 0).then_some(index)
    }

    /// How many commits the log holds.
    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.unknown as usize
    }

    /// Commits that others name as parents, but that the log does not hold.
    pub(super) fn missing(&self) -> impl Iterator<Item = CommitHash> {
        let missing = self.rows.iter().filter(|row| row.flags & (KNOWN | PARENT) == PARENT);
        missing.map(|row| CommitHash::from_bytes(row.hash))
    }

    /// Whether `ancestor` can be reached from `commit` by one step or more. Looks at each commit once, and at none
    /// that is of an earlier generation than the ancestor.
    pub(super) fn has_ancestor(&self, commit: Index, ancestor: Index) -> bool {
        let least = if self.stale { 0 } else { self.rows[ancestor as usize].generation };
        let mut seen = vec![0u64; self.rows.len().div_ceil(64)];
        let mut waiting = vec![commit];
        while let Some(index) = waiting.pop() {
            for parent in self.parents_of(index) {
                if *parent == ancestor {
                    return true;
                }
                let (word, bit) = (*parent as usize / 64, 1 << (parent % 64));
                if self.rows[*parent as usize].generation > least && seen[word] & bit == 0 {
                    seen[word] |= bit;
                    waiting.push(*parent);
                }
            }
        }
        false
    }

    /// Makes the generations right again after commits came before their parents. Takes time in proportion to the
    /// number of commits, and none if they did not.
    pub(super) fn settle(&mut self) {
        /// Stands for a commit whose parents are being looked at: only damage makes it its own ancestor.
        const OPEN: u32 = u32::MAX;
        if !std::mem::take(&mut self.stale) {
            return;
        }
        for row in self.rows.iter_mut() {
            row.generation = 0;
        }
        let mut waiting = Vec::new();
        for start in 0..self.rows.len() as u32 {
            waiting.push(start);
            while let Some(index) = waiting.last().copied() {
                let own = self.rows[index as usize].generation;
                if own != 0 && own != OPEN {
                    waiting.pop();
                    continue;
                }
                let (before, mut generation) = (waiting.len(), 1);
                for parent in self.parents_of(index) {
                    match self.rows[*parent as usize].generation {
                        0 => waiting.push(*parent),
                        OPEN => {}
                        known => generation = generation.max(known + 1),
                    }
                }
                let done = waiting.len() == before;
                self.rows[index as usize].generation = if done { generation } else { OPEN };
            }
        }
    }

    /// Whether there is nothing to settle.
    pub(super) fn is_settled(&self) -> bool {
        !self.stale
    }

    /// What is wrong with generations and flags.
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        problems.extend(self.missing().map(|hash| format!("the parent {hash} is missing")));
        for (index, row) in self.rows.iter().enumerate() {
            if self.find(&CommitHash::from_bytes(row.hash)) != Some(index as u32) {
                problems.push(format!("{} is not found by its name", CommitHash::from_bytes(row.hash)));
            }
            let wrong = |parent: &&Index| self.rows[**parent as usize].generation >= row.generation;
            if !self.stale
                && let Some(parent) = self.parents_of(index as u32).iter().find(wrong)
            {
                let (child, parent) = (CommitHash::from_bytes(row.hash), self.hash(*parent));
                problems.push(format!("{child} is of no later generation than its parent {parent}"));
            }
        }
    }
}
