//! A corpus as plain bytes, and back: the arenas as they are, and what finds things in them made anew.
//!
//! What refers to the log goes on referring to it: the same pieces must be attached, in the same order.

use std::borrow::Cow;

use api::maintpb::{BuildResult, GerritMutation, GitRef, RepositoryMutation};
use bytes::Bytes;
use prost::Message;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    builds::Builds,
    commits::Commits,
    corpus::{Corpus, Statistics},
    gerrit, github,
    payloads::Payloads,
    pool::Pool,
    strings::Strings,
};

/// Changes whenever the meaning of the bytes does.
pub const FROZEN_VERSION: u32 = 2;

/// What a section holds. The order is that of the parts of a corpus.
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
}

/// A corpus as sections of bytes, each with a number that says what it is.
pub type Sections<'a> = Vec<(u32, Cow<'a, [u8]>)>;

/// The commits of a corpus, which are half of it: another thread may thaw them.
#[derive(Debug)]
pub struct FrozenCommits(Commits);

impl FrozenCommits {
    /// Whether these commits come from the section with this number.
    pub fn has(tag: u32) -> bool {
        [Tag::Commits, Tag::Parents, Tag::Notes].iter().any(|own| *own as u32 == tag)
    }

    /// Those of these sections. Nothing if one is missing or makes no sense.
    pub fn thaw(sections: &[(u32, &[u8])]) -> Option<Self> {
        let thawed = Thawed(sections);
        let (rows, parents) = (thawed.rows(Tag::Commits)?, thawed.rows(Tag::Parents)?);
        Commits::from_parts(rows, parents, thawed.rows(Tag::Notes)?).map(Self)
    }
}

fn rows<T: IntoBytes + Immutable>(rows: &[T]) -> Cow<'_, [u8]> {
    Cow::Borrowed(rows.as_bytes())
}

/// The free places of a pool: for each size how many, and where.
fn free<T>(pool: &Pool<T>) -> Cow<'_, [u8]> {
    let words = pool
        .free
        .iter()
        .flat_map(|places| std::iter::once(places.len() as u32).chain(places.iter().copied()));
    Cow::Owned(words.flat_map(u32::to_le_bytes).collect())
}

fn messages<M: Message>(all: impl Iterator<Item = M>) -> Cow<'static, [u8]> {
    let mut bytes = Vec::new();
    for one in all {
        bytes.extend(one.encode_length_delimited_to_vec());
    }
    Cow::Owned(bytes)
}

impl Corpus {
    /// The corpus as bytes. Nothing if it holds copies of mutations: only one that was read from attached pieces of
    /// the log can be frozen, since they are not part of the bytes. Nothing either if it is not settled.
    pub fn freeze(&self) -> Option<Sections<'_>> {
        let attached = self.payloads.attached().filter(|_| self.commits.is_settled())?;
        let mut sections = self.freeze_github();
        sections.extend(self.freeze_gerrit());
        let statistics = self.statistics;
        let counts = [statistics.mutations, statistics.skipped, statistics.malformed];
        let plain = self.repositories.iter().map(|(name, refs)| {
            let refs = refs.iter().map(|(name, hash)| GitRef { r#ref: name.clone(), sha1: hash.to_string() });
            RepositoryMutation { repository: name.clone(), refs: refs.collect(), deleted_refs: Vec::new() }
        });
        let own: [(Tag, Cow<'_, [u8]>); 9] = [
            (Tag::Text, Cow::Borrowed(self.strings.bytes.as_bytes())),
            (Tag::TextEnds, rows(&self.strings.ends)),
            (Tag::Commits, rows(&self.commits.rows)),
            (Tag::Parents, rows(&self.commits.parents)),
            (Tag::Notes, rows(&self.commits.notes)),
            (Tag::PlainRefs, messages(plain)),
            (Tag::Results, messages(self.builds.results(&self.strings))),
            (Tag::Statistics, Cow::Owned(counts.as_bytes().to_vec())),
            (Tag::Attached, Cow::Owned(attached.as_bytes().to_vec())),
        ];
        sections.extend(own.map(|(tag, bytes)| (tag as u32, bytes)));
        Some(sections)
    }

    fn freeze_github(&self) -> Sections<'_> {
        let state = &self.github;
        let sections: [(Tag, Cow<'_, [u8]>); 10] = [
            (Tag::Repositories, rows(&state.repositories)),
            (Tag::Issues, rows(&state.issues)),
            (Tag::Comments, rows(&state.comments)),
            (Tag::Events, rows(&state.events)),
            (Tag::Reviews, rows(&state.reviews)),
            (Tag::Users, rows(&state.users)),
            (Tag::Labels, rows(&state.labels)),
            (Tag::Milestones, rows(&state.milestones)),
            (Tag::GithubLists, rows(&state.lists.cells)),
            (Tag::GithubFree, free(&state.lists)),
        ];
        sections.into_iter().map(|(tag, bytes)| (tag as u32, bytes)).collect()
    }

    fn freeze_gerrit(&self) -> Sections<'_> {
        let state = &self.gerrit;
        let waiting = state.waiting.iter().flat_map(|(commit, changes)| {
            [*commit, changes.len() as u32].into_iter().chain(changes.iter().copied())
        });
        let refs = state.refs.iter().map(|refs| {
            let refs = refs.iter().map(|(name, hash)| GitRef { r#ref: name.clone(), sha1: hash.to_string() });
            GerritMutation { refs: refs.collect(), ..GerritMutation::default() }
        });
        let sections: [(Tag, Cow<'_, [u8]>); 15] = [
            (Tag::InlineComments, rows(&state.comments.cells)),
            (Tag::InlineCommentsFree, free(&state.comments)),
            (Tag::Projects, rows(&state.projects)),
            (Tag::Changes, rows(&state.changes)),
            (Tag::References, rows(&state.references)),
            (Tag::PatchSets, rows(&state.patch_sets.cells)),
            (Tag::PatchSetsFree, free(&state.patch_sets)),
            (Tag::Votes, rows(&state.votes.cells)),
            (Tag::VotesFree, free(&state.votes)),
            (Tag::Roles, rows(&state.roles.cells)),
            (Tag::RolesFree, free(&state.roles)),
            (Tag::GerritLists, rows(&state.lists.cells)),
            (Tag::GerritFree, free(&state.lists)),
            (Tag::Waiting, Cow::Owned(waiting.flat_map(u32::to_le_bytes).collect())),
            (Tag::ProjectRefs, messages(refs)),
        ];
        sections.into_iter().map(|(tag, bytes)| (tag as u32, bytes)).collect()
    }

    /// The corpus that these sections were, but for the commits, which were thawed elsewhere, with the pieces of the
    /// log attached that it was read from. `commits` may wait for them. Nothing if a section is missing or makes no
    /// sense, or if a piece has another length.
    pub fn thaw(
        sections: &[(u32, &[u8])],
        attached: Vec<Bytes>,
        commits: impl FnOnce() -> Option<FrozenCommits>,
    ) -> Option<Self> {
        let thawed = Thawed(sections);
        let lengths: Vec<u64> = attached.iter().map(|piece| piece.len() as u64).collect();
        if thawed.rows::<u64>(Tag::Attached)? != lengths {
            return None;
        }
        let mut payloads = Payloads::default();
        for piece in attached {
            payloads.attach(piece);
        }
        let text = String::from_utf8(thawed.get(Tag::Text)?.to_vec()).ok()?;
        let mut strings = Strings::from_parts(text, thawed.rows(Tag::TextEnds)?)?;
        let github = thawed.github(&strings)?;
        let mut gerrit = thawed.gerrit()?;
        let mut builds = Builds::default();
        for result in thawed.messages::<BuildResult>(Tag::Results)? {
            builds.add(&mut strings, &result);
        }
        let mut repositories = std::collections::BTreeMap::new();
        for one in thawed.messages::<RepositoryMutation>(Tag::PlainRefs)? {
            repositories.insert(one.repository, refs(&one.refs)?);
        }
        let commits = commits()?.0;
        gerrit.index(commits.rows.len())?;
        let counts: [u64; 3] = thawed.rows(Tag::Statistics)?.try_into().ok()?;
        let [mutations, skipped, malformed] = counts;
        let statistics = Statistics { mutations, skipped, malformed };
        Some(Self { strings, payloads, commits, github, gerrit, builds, repositories, statistics })
    }
}

fn refs(all: &[GitRef]) -> Option<std::collections::BTreeMap<String, types::CommitHash>> {
    all.iter().map(|one| Some((one.r#ref.clone(), one.sha1.parse().ok()?))).collect()
}

/// Sections that are read again.
struct Thawed<'a>(&'a [(u32, &'a [u8])]);

impl Thawed<'_> {
    fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| *other == tag as u32).map(|(_, bytes)| *bytes)
    }

    fn rows<T: FromBytes + Immutable + Clone>(&self, tag: Tag) -> Option<Vec<T>> {
        let bytes = self.get(tag)?;
        // A section that is not aligned comes from elsewhere than a file of ours.
        if let Ok(rows) = <[T]>::ref_from_bytes(bytes) {
            return Some(rows.to_vec());
        }
        let mut copy = Vec::with_capacity(bytes.len() / size_of::<T>());
        let mut chunks = bytes.chunks_exact(size_of::<T>());
        for chunk in &mut chunks {
            copy.push(T::read_from_bytes(chunk).ok()?);
        }
        chunks.remainder().is_empty().then_some(copy)
    }

    fn messages<M: Message + Default>(&self, tag: Tag) -> Option<Vec<M>> {
        let mut bytes = self.get(tag)?;
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(M::decode_length_delimited(&mut bytes).ok()?);
        }
        Some(all)
    }

    fn pool<T: FromBytes + Immutable + Clone>(&self, cells: Tag, free: Tag) -> Option<Pool<T>> {
        let cells: Vec<T> = self.rows(cells)?;
        let words: Vec<u32> = self.rows(free)?;
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

    fn github(&self, strings: &Strings) -> Option<github::State> {
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
            ..github::State::default()
        };
        state.index(|text| strings.text(text).to_owned())?;
        Some(state)
    }

    fn gerrit(&self) -> Option<gerrit::State> {
        let projects = self.messages::<GerritMutation>(Tag::ProjectRefs)?;
        let words: Vec<u32> = self.rows(Tag::Waiting)?;
        let mut rest = &words[..];
        let mut waiting = std::collections::BTreeMap::new();
        while let [commit, count, after @ ..] = rest {
            let (changes, after) = after.split_at_checked(*count as usize)?;
            waiting.insert(*commit, changes.to_vec());
            rest = after;
        }
        let state = gerrit::State {
            projects: self.rows(Tag::Projects)?,
            changes: self.rows(Tag::Changes)?,
            references: self.rows(Tag::References)?,
            patch_sets: self.pool(Tag::PatchSets, Tag::PatchSetsFree)?,
            votes: self.pool(Tag::Votes, Tag::VotesFree)?,
            roles: self.pool(Tag::Roles, Tag::RolesFree)?,
            comments: self.pool(Tag::InlineComments, Tag::InlineCommentsFree)?,
            lists: self.pool(Tag::GerritLists, Tag::GerritFree)?,
            waiting,
            refs: projects.iter().map(|project| refs(&project.refs)).collect::<Option<_>>()?,
            ..gerrit::State::default()
        };
        Some(state)
    }
}
