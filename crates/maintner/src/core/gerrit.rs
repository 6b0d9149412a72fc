//! Gerrit's changes, read from git alone: refs tell which commits are patch sets and which hold the state (NoteDb).
//!
//! A change is complete when its state can be followed to its first commit and its latest patch set is there; only
//! then can it be reached. What a ref names may come later: then the change waits for it.

mod comments;
mod fold;
mod view;
mod votes;
mod warm;

use std::collections::BTreeMap;

use types::CommitHash;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    commits::{Commits, Index},
    decode::RefDraft,
    parse::parse_number,
    payloads::Payloads,
    pool::{List, Pool},
    rows::Rows,
    strings::{Name, Strings, Text},
    table::{Table, mix},
};

pub(super) use comments::CommentCell;
pub use comments::InlineComment;
pub use view::{Change, Gerrit, Message, Meta, PatchSet, Project, Vote};

/// Projects whose commits may name issues by number alone, and where those are.
const BARE_REFERENCES: &[(&str, &str)] = &[("go.googlesource.com/go", "golang/go")];
/// What is kept of refs that are not of changes: not what Gerrit keeps there for itself.
const OWN_REFS: &[&str] = &[
    "refs/meta/",
    "refs/users/",
    "refs/cache-automerge/",
    "refs/changes/",
    "refs/groups/",
    "refs/sequences/",
    "refs/starred-changes/",
    "refs/draft-comments/",
];

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ProjectRow {
    name: Text,
    /// Where issues are that are named by number alone; empty if nowhere.
    bare: Text,
}

#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ChangeRow {
    created: i64,
    updated: i64,
    project: u32,
    number: u32,
    /// The latest patch set whose commit is known: its commit, an index plus one, and its number.
    commit: u32,
    version: u32,
    /// Where the state is now, and up to where it was read: indices plus one.
    meta: u32,
    folded: u32,
    /// The patch set that the state speaks of.
    patch_set: u32,
    branch: Text,
    topic: Text,
    hashtags: Text,
    owner: Text,
    flags: u32,
    patch_sets: List,
    metas: List,
    votes: List,
    attention: List,
    roles: List,
    references: List,
    comments: List,
}

/// The lower two bits are the status.
const STATUS: u32 = 3;
const PRIVATE: u32 = 4;
const WIP: u32 = 8;

/// A number and the index of its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct PatchSetCell {
    number: u32,
    commit: Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct VoteCell {
    label: Text,
    voter: Text,
    patch_set: u32,
    value: i16,
    /// Whether it counts for its patch set only: [`super::notes::VoteKind`].
    bound: u16,
}

/// An issue, and the changes whose latest patch set names it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ReferenceRow {
    repository: Text,
    number: u32,
    changes: List,
}

/// Two words in a list: who, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RoleCell {
    who: Text,
    role: u32,
}

/// All that is known of Gerrit.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) projects: Rows<ProjectRow>,
    pub(super) changes: Rows<ChangeRow>,
    pub(super) references: Rows<ReferenceRow>,
    pub(super) patch_sets: Pool<PatchSetCell>,
    pub(super) votes: Pool<VoteCell>,
    pub(super) roles: Pool<RoleCell>,
    pub(super) comments: Pool<CommentCell>,
    /// Commits of NoteDb, people, references and changes, by index.
    pub(super) lists: Pool<u32>,
    /// Refs that are not of changes, by project.
    pub(super) refs: Vec<BTreeMap<String, CommitHash>>,
    /// Changes that wait for a commit, by its index.
    pub(super) waiting: BTreeMap<Index, Vec<u32>>,
    /// By project and number.
    pub(super) order: BTreeMap<(u32, u32), u32>,
    pub(super) table: Table,
    pub(super) reference_table: Table,
}

/// What the fold looks at beside its own state.
pub(super) struct Around<'a> {
    pub(super) strings: &'a mut Strings,
    pub(super) commits: &'a mut Commits,
    pub(super) payloads: &'a Payloads,
}

/// The change that a ref is of, and the patch set, if it is not that of the state.
pub fn change_of_ref(name: &str) -> Option<(u32, Option<u32>)> {
    parse_change_ref(name.as_bytes()).map(|(number, what)| match what {
        ChangeRef::Meta => (number, None),
        ChangeRef::PatchSet(patch_set) => (number, Some(patch_set)),
    })
}

/// Whether a corpus keeps a ref of a project at Gerrit: all but what Gerrit keeps there for itself.
pub fn keeps_ref(name: &str) -> bool {
    parse_change_ref(name.as_bytes()).is_some() || !OWN_REFS.iter().any(|own| name.starts_with(own))
}

/// The name of a ref of a change: of its state, or of a patch set.
fn change_ref(number: u32, patch_set: Option<u32>) -> String {
    let shard = number % 100;
    match patch_set {
        None => format!("refs/changes/{shard:02}/{number}/meta"),
        Some(patch_set) => format!("refs/changes/{shard:02}/{number}/{patch_set}"),
    }
}

/// What a ref of a change names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeRef {
    Meta,
    PatchSet(u32),
}

/// `refs/changes/34/1234/meta` and `refs/changes/34/1234/5`.
pub(super) fn parse_change_ref(name: &[u8]) -> Option<(u32, ChangeRef)> {
    let mut parts = name.strip_prefix(b"refs/changes/")?.splitn(3, |byte| *byte == b'/');
    let (_, number, last) = (parts.next()?, parts.next()?, parts.next()?);
    let positive = |text: &[u8]| {
        let digits = text.first().is_some_and(u8::is_ascii_digit);
        parse_number(text).filter(|number| digits && (1..=i64::from(i32::MAX)).contains(number))
    };
    let number = positive(number)? as u32;
    Some((
        number,
        if last == b"meta" { ChangeRef::Meta } else { ChangeRef::PatchSet(positive(last)? as u32) },
    ))
}

impl State {
    /// Makes what is in order again from the things themselves. Nothing if an index leads nowhere.
    pub(super) fn index(&mut self, commits: usize) -> Option<()> {
        let mut order = Vec::with_capacity(self.changes.len());
        for (at, row) in (0..).zip(self.changes.iter()) {
            order.push(((row.project, row.number), at));
        }
        order.sort_unstable();
        self.order = order.into_iter().collect();
        let projects = self.projects.len();
        let inside = self.refs.len() == projects
            && self.changes.iter().all(|row| {
                (row.project as usize) < projects
                    && [row.commit, row.meta, row.folded].iter().all(|commit| *commit as usize <= commits)
                    && self.patch_sets.get(row.patch_sets).iter().all(|cell| (cell.commit as usize) < commits)
                    && self.lists.get(row.metas).iter().all(|meta| (*meta as usize) < commits)
            });
        inside.then_some(())
    }

    pub(super) fn project_name<'a>(&self, strings: &'a Strings, project: u32) -> Option<&'a str> {
        Some(strings.text(self.projects.get(project as usize)?.name))
    }

    fn find_project(&self, name: Text) -> Option<u32> {
        self.projects.iter().position(|row| row.name == name).map(|at| at as u32)
    }

    /// The index of a project.
    pub(super) fn project(&mut self, strings: &mut Strings, name: Name<'_>) -> u32 {
        let name = strings.intern(name);
        // There are few, and the same is named again and again.
        if let Some(at) = self.find_project(name) {
            return at;
        }
        let bare = BARE_REFERENCES.iter().find(|(project, _)| *project == strings.text(name));
        let bare = bare.map_or(Text::default(), |(_, issues)| strings.intern(Name::new(issues.as_bytes())));
        self.projects.push(ProjectRow { name, bare });
        self.refs.push(BTreeMap::new());
        self.projects.len() as u32 - 1
    }

    fn find_change(&self, project: u32, number: u32) -> Option<u32> {
        self.table.find(mix(project.into(), number.into()), |at| {
            let row = &self.changes[at as usize];
            row.project == project && row.number == number
        })
    }

    fn change(&mut self, project: u32, number: u32) -> u32 {
        if let Some(at) = self.find_change(project, number) {
            return at;
        }
        let at = self.changes.len() as u32;
        self.changes.push(ChangeRow { project, number, ..ChangeRow::default() });
        self.table.insert(mix(project.into(), number.into()), at);
        self.order.insert((project, number), at);
        at
    }

    fn find_reference(&self, repository: Text, number: u32) -> Option<u32> {
        self.reference_table.find(mix(repository.0.into(), number.into()), |at| {
            let row = &self.references[at as usize];
            row.repository == repository && row.number == number
        })
    }

    /// A ref stands at a commit now.
    pub(super) fn set_ref(&mut self, around: &mut Around<'_>, project: u32, draft: &RefDraft<'_>) {
        let RefDraft { name, hash, change } = *draft;
        let Some((number, what)) = change else {
            let name = &*String::from_utf8_lossy(name);
            if OWN_REFS.iter().any(|own| name.starts_with(own)) {
                return;
            }
            let refs = &mut self.refs[project as usize];
            match refs.get_mut(name) {
                Some(known) => *known = hash,
                None => drop(refs.insert(name.to_owned(), hash)),
            }
            return;
        };
        let (change, commit) = (self.change(project, number), around.commits.named(&hash));
        match what {
            ChangeRef::Meta => {
                self.changes[change as usize].meta = commit + 1;
                self.fold(around, change);
            }
            ChangeRef::PatchSet(number) => {
                self.set_patch_set(change, number, commit);
                self.choose_commit(around, change);
            }
        }
    }

    fn set_patch_set(&mut self, change: u32, number: u32, commit: Index) {
        let cell = PatchSetCell { number, commit };
        let list = &mut self.changes[change as usize].patch_sets;
        let cells = self.patch_sets.get_mut(*list);
        match cells.binary_search_by_key(&number, |cell| cell.number) {
            Ok(at) => cells[at] = cell,
            Err(at) => self.patch_sets.insert(list, at, cell),
        }
    }

    /// A ref is gone. A change without its state, or without its patch sets, is complete no longer.
    pub(super) fn delete_ref(&mut self, around: &mut Around<'_>, project: u32, name: &[u8]) {
        let Some((number, what)) = parse_change_ref(name) else {
            self.refs[project as usize].remove(&*String::from_utf8_lossy(name));
            return;
        };
        let Some(change) = self.find_change(project, number) else { return };
        match what {
            ChangeRef::Meta => {
                self.forget_state(change);
                let row = &mut self.changes[change as usize];
                row.meta = 0;
                self.comments.clear(&mut row.comments);
            }
            ChangeRef::PatchSet(number) => {
                let list = &mut self.changes[change as usize].patch_sets;
                let at = self.patch_sets.get(*list).binary_search_by_key(&number, |cell| cell.number);
                if let Ok(at) = at {
                    self.patch_sets.remove(list, at);
                    self.choose_commit(around, change);
                }
            }
        }
    }

    /// A commit is there that changes waited for.
    pub(super) fn arrived(&mut self, around: &mut Around<'_>, commit: Index) {
        for change in self.waiting.remove(&commit).unwrap_or_default() {
            self.choose_commit(around, change);
            self.fold(around, change);
        }
    }

    fn wait(&mut self, around: &mut Around<'_>, change: u32, commit: Index) {
        around.commits.wait_for(commit);
        let waiting = self.waiting.entry(commit).or_default();
        if !waiting.contains(&change) {
            waiting.push(change);
        }
    }

    /// Where a ref of a project stands, those of changes too.
    fn stands(&self, commits: &Commits, project: u32, name: &str) -> Option<CommitHash> {
        let Some((number, what)) = parse_change_ref(name.as_bytes()) else {
            return self.refs[project as usize].get(name).copied();
        };
        let row = &self.changes[self.find_change(project, number)? as usize];
        let commit = match what {
            ChangeRef::Meta => row.meta.checked_sub(1)?,
            ChangeRef::PatchSet(number) => {
                let cells = self.patch_sets.get(row.patch_sets);
                cells[cells.binary_search_by_key(&number, |cell| cell.number).ok()?].commit
            }
        };
        Some(commits.hash(commit))
    }

    /// The names of the refs of the changes of a project, by number.
    fn change_refs(&self, project: u32) -> impl Iterator<Item = String> {
        let rows = self.order.range((project, 0)..=(project, u32::MAX));
        rows.map(|(_, at)| &self.changes[*at as usize]).flat_map(|row| {
            let patch_sets = self.patch_sets.get(row.patch_sets).iter();
            let meta = (row.meta != 0).then(|| change_ref(row.number, None));
            patch_sets.map(|cell| change_ref(row.number, Some(cell.number))).chain(meta)
        })
    }

    /// What is wrong with changes.
    pub(super) fn check(&self, strings: &Strings, commits: &Commits, problems: &mut Vec<String>) {
        for row in self.changes.iter() {
            let name = || {
                format!("change {} of {}", row.number, strings.text(self.projects[row.project as usize].name))
            };
            if row.meta != 0 && row.meta != row.folded {
                problems.push(format!("the state of {} cannot be read to its end", name()));
            }
            let unknown = |cell: &&PatchSetCell| !commits.is_known(cell.commit);
            if let Some(cell) = self.patch_sets.get(row.patch_sets).iter().find(unknown) {
                problems.push(format!("patch set {} of {} is missing", cell.number, name()));
            }
        }
        for (project, refs) in self.projects.iter().zip(self.refs.iter()) {
            for (name, hash) in refs {
                if !commits.find(hash).is_some_and(|commit| commits.is_known(commit)) {
                    let project = strings.text(project.name);
                    problems.push(format!("`{name}` of `{project}` names {hash}, which is missing"));
                }
            }
        }
    }
}
