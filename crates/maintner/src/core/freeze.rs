//! A corpus as plain bytes, and back: the arenas and their tables as they are, and what is in order made anew.
//!
//! What refers to the log goes on referring to it: the same pieces must be attached, in the same order.

use std::{borrow::Cow, collections::BTreeMap};

use api::maintpb::{BuildResult, GerritMutation, GitRef, RepositoryMutation};
use bytes::Bytes;
use prost::Message;
use types::CommitHash;
use zerocopy::IntoBytes;

use super::{
    builds::Builds,
    commits::Commits,
    corpus::{Corpus, Statistics},
    gerrit, github,
    payloads::Payloads,
    pool::Pool,
    rows::{Plain, Rows},
    strings::Strings,
    table::Table,
};
use crate::map::Section;

/// Changes whenever the meaning of the bytes does.
pub(crate) const FROZEN_VERSION: u32 = 8;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Tag {
    Text = 1,
    TextEnds,
    Commits,
    Parents,
    Notes,
    Repositories,
    Issues,
    Comments,
    Events,
    Reviews,
    Users,
    Labels,
    Milestones,
    GithubLists,
    GithubFree,
    Projects,
    Changes,
    References,
    PatchSets,
    PatchSetsFree,
    Votes,
    VotesFree,
    Roles,
    RolesFree,
    GerritLists,
    GerritFree,
    Waiting,
    ProjectRefs,
    PlainRefs,
    Results,
    Statistics,
    Attached,
    InlineComments,
    InlineCommentsFree,
    ReviewComments,
    ReviewCommentsFree,
    GithubText,
    GithubTextEnds,
    // Where things are found, by the hash of what they are found by.
    TextTable = 100,
    CommitTable,
    IssueTable,
    CommentTable,
    EventTable,
    ReviewTable,
    UserTable,
    ChangeTable,
    ReferenceTable,
    GithubTextTable,
}

/// A section of a frozen corpus.
#[derive(Debug)]
pub struct Frozen<'a> {
    /// What it is.
    pub(crate) tag: u32,
    /// Its bytes, in two parts of which either may be empty.
    pub(crate) parts: [Cow<'a, [u8]>; 2],
}

impl Frozen<'_> {
    /// Whether it only says where others are found: equal corpora may differ in it.
    pub fn is_index(&self) -> bool {
        self.tag >= Tag::TextTable as u32
    }

    /// What it is, and its bytes.
    pub fn to_bytes(&self) -> (u32, Vec<u8>) {
        (self.tag, self.parts.concat())
    }
}

/// A corpus as sections of bytes.
pub type Sections<'a> = Vec<Frozen<'a>>;

fn frozen(tag: Tag, parts: [Cow<'_, [u8]>; 2]) -> Frozen<'_> {
    Frozen { tag: tag as u32, parts }
}

fn owned<'a>(tag: Tag, bytes: Vec<u8>) -> Frozen<'a> {
    frozen(tag, [Cow::Owned(bytes), Cow::Borrowed(&[])])
}

fn text(tag: Tag, strings: &Strings) -> Frozen<'_> {
    frozen(tag, [Cow::Borrowed(strings.bytes.as_bytes()), Cow::Borrowed(&[])])
}

fn rows<T: Plain>(tag: Tag, rows: &Rows<T>) -> Frozen<'_> {
    frozen(tag, rows.parts().map(|part| Cow::Borrowed(part.as_bytes())))
}

fn table(tag: Tag, table: &Table) -> Frozen<'_> {
    frozen(tag, [Cow::Borrowed(table.slots().as_bytes()), Cow::Borrowed(&[])])
}

/// The free places of a pool: for each size how many, and where.
fn free<T>(tag: Tag, pool: &Pool<T>) -> Frozen<'_> {
    let words = pool
        .free
        .iter()
        .flat_map(|places| std::iter::once(places.len() as u32).chain(places.iter().copied()));
    owned(tag, words.flat_map(u32::to_le_bytes).collect())
}

fn messages<'a, M: Message>(tag: Tag, all: impl Iterator<Item = M>) -> Frozen<'a> {
    let mut bytes = Vec::new();
    for one in all {
        bytes.extend(one.encode_length_delimited_to_vec());
    }
    owned(tag, bytes)
}

fn to_refs(refs: &BTreeMap<String, CommitHash>) -> Vec<GitRef> {
    refs.iter().map(|(name, hash)| GitRef { r#ref: name.clone(), sha1: hash.to_string() }).collect()
}

impl Corpus {
    /// The corpus as bytes. Nothing if it holds copies of mutations: only one that was read from attached pieces of
    /// the log can be frozen, since they are not part of the bytes. Nothing either if it is not settled.
    pub fn freeze(&self) -> Option<Sections<'_>> {
        let attached = self.payloads.attached().filter(|_| self.commits.is_settled())?;
        let mut sections = self.freeze_github();
        sections.extend(self.freeze_gerrit());
        let statistics = self.statistics();
        let counts = [statistics.mutations, statistics.skipped, statistics.malformed];
        let plain = self.repositories.iter().map(|(name, refs)| RepositoryMutation {
            repository: name.clone(),
            refs: to_refs(refs),
            deleted_refs: Vec::new(),
        });
        sections.extend([
            text(Tag::Text, &self.strings),
            rows(Tag::TextEnds, &self.strings.ends),
            table(Tag::TextTable, &self.strings.table),
            text(Tag::GithubText, &self.github_strings),
            rows(Tag::GithubTextEnds, &self.github_strings.ends),
            table(Tag::GithubTextTable, &self.github_strings.table),
            rows(Tag::Commits, &self.commits.rows),
            rows(Tag::Parents, &self.commits.parents),
            rows(Tag::Notes, &self.commits.notes),
            table(Tag::CommitTable, &self.commits.table),
            messages(Tag::PlainRefs, plain),
            messages(Tag::Results, self.builds.results(&self.strings)),
            owned(Tag::Statistics, counts.as_bytes().to_vec()),
            owned(Tag::Attached, attached.as_bytes().to_vec()),
        ]);
        Some(sections)
    }

    fn freeze_github(&self) -> Sections<'_> {
        let state = &self.github;
        vec![
            rows(Tag::Repositories, &state.repositories),
            rows(Tag::Issues, &state.issues),
            rows(Tag::Comments, &state.comments),
            rows(Tag::Events, &state.events),
            rows(Tag::Reviews, &state.reviews),
            rows(Tag::Users, &state.users),
            rows(Tag::Labels, &state.labels),
            rows(Tag::Milestones, &state.milestones),
            rows(Tag::GithubLists, &state.lists.cells),
            free(Tag::GithubFree, &state.lists),
            rows(Tag::ReviewComments, &state.review_comments.cells),
            free(Tag::ReviewCommentsFree, &state.review_comments),
            table(Tag::IssueTable, &state.issue_table),
            table(Tag::CommentTable, &state.comment_table),
            table(Tag::EventTable, &state.event_table),
            table(Tag::ReviewTable, &state.review_table),
            table(Tag::UserTable, &state.user_table),
        ]
    }

    fn freeze_gerrit(&self) -> Sections<'_> {
        let state = &self.gerrit;
        let waiting = state.waiting.iter().flat_map(|(commit, changes)| {
            [*commit, changes.len() as u32].into_iter().chain(changes.iter().copied())
        });
        let refs =
            state.refs.iter().map(|refs| GerritMutation { refs: to_refs(refs), ..GerritMutation::default() });
        vec![
            rows(Tag::Projects, &state.projects),
            rows(Tag::Changes, &state.changes),
            rows(Tag::References, &state.references),
            rows(Tag::PatchSets, &state.patch_sets.cells),
            free(Tag::PatchSetsFree, &state.patch_sets),
            rows(Tag::Votes, &state.votes.cells),
            free(Tag::VotesFree, &state.votes),
            rows(Tag::Roles, &state.roles.cells),
            free(Tag::RolesFree, &state.roles),
            rows(Tag::GerritLists, &state.lists.cells),
            free(Tag::GerritFree, &state.lists),
            owned(Tag::Waiting, waiting.flat_map(u32::to_le_bytes).collect()),
            messages(Tag::ProjectRefs, refs),
            rows(Tag::InlineComments, &state.comments.cells),
            free(Tag::InlineCommentsFree, &state.comments),
            table(Tag::ChangeTable, &state.table),
            table(Tag::ReferenceTable, &state.reference_table),
        ]
    }

    /// The corpus that these sections were, with the pieces of the log attached that it was read from. Uses the
    /// sections where they lie. Nothing if one is missing or makes no sense, or if a piece has another length.
    pub(crate) fn thaw(
        sections: impl IntoIterator<Item = (u32, Section)>,
        attached: Vec<Bytes>,
    ) -> Option<Self> {
        let mut thawed = Thawed(sections.into_iter().collect());
        let lengths = attached.iter().map(|piece| piece.len() as u64);
        if !thawed.rows::<u64>(Tag::Attached)?.iter().copied().eq(lengths) {
            return None;
        }
        let mut payloads = Payloads::default();
        for piece in attached {
            payloads.attach(piece);
        }
        let commits = thawed.commits()?;
        let mut strings = thawed.strings(Tag::Text, Tag::TextEnds, Tag::TextTable)?;
        let github_strings = thawed.strings(Tag::GithubText, Tag::GithubTextEnds, Tag::GithubTextTable)?;
        let github = thawed.github(&github_strings)?;
        let gerrit = thawed.gerrit(commits.rows.len())?;
        let mut builds = Builds::default();
        for result in thawed.messages::<BuildResult>(Tag::Results)? {
            builds.add(&mut strings, &result);
        }
        let mut repositories = BTreeMap::new();
        for one in thawed.messages::<RepositoryMutation>(Tag::PlainRefs)? {
            repositories.insert(one.repository, from_refs(&one.refs)?);
        }
        let counts = thawed.rows::<u64>(Tag::Statistics)?;
        let [mutations, skipped, malformed] = [*counts.get(0)?, *counts.get(1)?, *counts.get(2)?];
        let statistics = Statistics { mutations, skipped, malformed };
        Some(Self {
            strings,
            github_strings,
            payloads,
            commits,
            github,
            gerrit,
            builds,
            repositories,
            statistics,
            github_malformed: 0,
        })
    }
}

fn from_refs(all: &[GitRef]) -> Option<BTreeMap<String, CommitHash>> {
    all.iter().map(|one| Some((one.r#ref.clone(), one.sha1.parse().ok()?))).collect()
}

/// Sections that are used again, each once.
struct Thawed(BTreeMap<u32, Section>);

impl Thawed {
    fn take(&mut self, tag: Tag) -> Option<Section> {
        self.0.remove(&(tag as u32))
    }

    fn rows<T: Plain>(&mut self, tag: Tag) -> Option<Rows<T>> {
        Rows::thaw(self.take(tag)?)
    }

    /// The table of so many things.
    fn table(&mut self, tag: Tag, used: usize) -> Option<Table> {
        Table::thaw(self.take(tag)?, used)
    }

    fn messages<M: Message + Default>(&mut self, tag: Tag) -> Option<Vec<M>> {
        let section = self.take(tag)?;
        let mut bytes: &[u8] = &section;
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(M::decode_length_delimited(&mut bytes).ok()?);
        }
        Some(all)
    }

    fn words(&mut self, tag: Tag) -> Option<Vec<u32>> {
        Some(self.rows::<u32>(tag)?.parts().concat())
    }

    fn pool<T: Plain>(&mut self, cells: Tag, free: Tag) -> Option<Pool<T>> {
        let cells: Rows<T> = self.rows(cells)?;
        let words = self.words(free)?;
        let mut rest = &words[..];
        let mut places = Vec::new();
        while let Some((count, after)) = rest.split_first() {
            let (of_size, after) = after.split_at_checked(*count as usize)?;
            let room = 1usize.checked_shl(places.len() as u32)?;
            if of_size.iter().any(|start| *start as usize + room > cells.len()) {
                return None;
            }
            places.push(of_size.to_vec());
            rest = after;
        }
        Some(Pool { cells, free: places })
    }

    fn strings(&mut self, text: Tag, ends: Tag, table: Tag) -> Option<Strings> {
        let text = String::from_utf8(self.take(text)?.to_vec()).ok()?;
        let ends = self.rows(ends)?;
        Strings::from_parts(text, ends, |texts| self.table(table, texts))
    }

    fn commits(&mut self) -> Option<Commits> {
        let (rows, parents) = (self.rows(Tag::Commits)?, self.rows(Tag::Parents)?);
        let notes = self.rows(Tag::Notes)?;
        Commits::from_parts(rows, parents, notes, |commits| self.table(Tag::CommitTable, commits))
    }

    fn github(&mut self, strings: &Strings) -> Option<github::State> {
        let mut state = github::State {
            repositories: self.rows(Tag::Repositories)?,
            issues: self.rows(Tag::Issues)?,
            comments: self.rows(Tag::Comments)?,
            events: self.rows(Tag::Events)?,
            reviews: self.rows(Tag::Reviews)?,
            users: self.rows(Tag::Users)?,
            labels: self.rows(Tag::Labels)?,
            milestones: self.rows(Tag::Milestones)?,
            lists: self.pool(Tag::GithubLists, Tag::GithubFree)?,
            review_comments: self.pool(Tag::ReviewComments, Tag::ReviewCommentsFree)?,
            ..github::State::default()
        };
        state.issue_table = self.table(Tag::IssueTable, state.issues.len())?;
        state.comment_table = self.table(Tag::CommentTable, state.comments.len())?;
        state.event_table = self.table(Tag::EventTable, state.events.len())?;
        state.review_table = self.table(Tag::ReviewTable, state.reviews.len())?;
        state.user_table = self.table(Tag::UserTable, state.users.len())?;
        state.index(|text| strings.text(text).to_owned())?;
        Some(state)
    }

    fn gerrit(&mut self, commits: usize) -> Option<gerrit::State> {
        let projects = self.messages::<GerritMutation>(Tag::ProjectRefs)?;
        let words = self.words(Tag::Waiting)?;
        let mut rest = &words[..];
        let mut waiting = BTreeMap::new();
        while let [commit, count, after @ ..] = rest {
            let (changes, after) = after.split_at_checked(*count as usize)?;
            waiting.insert(*commit, changes.to_vec());
            rest = after;
        }
        let mut state = gerrit::State {
            projects: self.rows(Tag::Projects)?,
            changes: self.rows(Tag::Changes)?,
            references: self.rows(Tag::References)?,
            patch_sets: self.pool(Tag::PatchSets, Tag::PatchSetsFree)?,
            votes: self.pool(Tag::Votes, Tag::VotesFree)?,
            roles: self.pool(Tag::Roles, Tag::RolesFree)?,
            comments: self.pool(Tag::InlineComments, Tag::InlineCommentsFree)?,
            lists: self.pool(Tag::GerritLists, Tag::GerritFree)?,
            waiting,
            refs: projects.iter().map(|project| from_refs(&project.refs)).collect::<Option<_>>()?,
            ..gerrit::State::default()
        };
        state.table = self.table(Tag::ChangeTable, state.changes.len())?;
        state.reference_table = self.table(Tag::ReferenceTable, state.references.len())?;
        state.index(commits)?;
        Some(state)
    }
}
