//! What is shown of Gerrit. Only complete changes are reachable.

use std::{borrow::Cow, collections::BTreeSet};

use api::maintpb::{GerritComment, GerritMutation};
use types::{CommitHash, Timestamp};

use super::{
    ChangeRow, InlineComment, PRIVATE, State, VoteCell, WIP, comments::in_order, parse_change_ref, votes,
};
use crate::core::{
    Corpus,
    commits::{Commit, Index, Stored},
    notes::{self, Role, Status},
    strings::Text,
};

/// Gerrit, as far as the corpus knows it.
#[derive(Debug, Clone, Copy)]
pub struct Gerrit<'a> {
    corpus: &'a Corpus,
}

/// A project of a Gerrit.
#[derive(Debug, Clone, Copy)]
pub struct Project<'a> {
    corpus: &'a Corpus,
    index: u32,
}

/// A change that is complete.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    corpus: &'a Corpus,
    row: &'a ChangeRow,
}

/// A patch set of a change.
#[derive(Debug, Clone, Copy)]
pub struct PatchSet<'a> {
    /// From 1; there may be gaps.
    pub number: u32,
    /// Its commit.
    pub commit: Commit<'a>,
}

/// A vote that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote<'a> {
    /// On what, such as `Code-Review`.
    pub label: &'a str,
    /// Who: `account@server`.
    pub voter: &'a str,
    /// Which way.
    pub value: i8,
    /// The patch set it was given to, or copied to.
    pub patch_set: u32,
}

/// A commit of the state of a change.
#[derive(Clone, Copy)]
pub struct Meta<'a> {
    corpus: &'a Corpus,
    index: Index,
    commit: Commit<'a>,
}

/// Something that was said of a change.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// What, beginning with `Patch Set 3:` or the like.
    pub text: Cow<'a, str>,
    /// Which patch set it is about.
    pub patch_set: u32,
    /// The commit of the state that says it.
    pub commit: Commit<'a>,
}

impl<'a> Gerrit<'a> {
    pub(in crate::core) fn new(corpus: &'a Corpus) -> Self {
        Self { corpus }
    }

    /// All projects, by `host/project`.
    pub fn projects(&self) -> impl Iterator<Item = Project<'a>> + use<'a> {
        let corpus = self.corpus;
        let mut all: Vec<Project<'a>> =
            (0..corpus.gerrit.projects.len() as u32).map(|index| Project { corpus, index }).collect();
        all.sort_by_key(Project::name);
        all.into_iter()
    }

    /// A project by `host/project`.
    pub fn project(&self, name: &str) -> Option<Project<'a>> {
        let name = self.corpus.strings.find(name)?;
        Some(Project { corpus: self.corpus, index: self.corpus.gerrit.find_project(name)? })
    }

    /// All changes that are complete, in the order in which the log first told of them.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = Change<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.changes.iter().filter(|row| row.is_complete()).map(move |row| Change { corpus, row })
    }

    /// The changes whose refs a mutation moved, or whose comments it told, each once, by number.
    pub fn changes_of(&self, mutation: &GerritMutation) -> Vec<Change<'a>> {
        let Some(project) = self.project(&mutation.project) else { return Vec::new() };
        let moved = mutation.refs.iter().filter_map(|one| parse_change_ref(one.r#ref.as_bytes()));
        let spoken_of = mutation.comments.iter().filter_map(|one| u32::try_from(one.change).ok());
        let numbers: BTreeSet<u32> = moved.map(|(number, _)| number).chain(spoken_of).collect();
        numbers.into_iter().filter_map(|number| project.change(number)).collect()
    }

    /// The changes whose latest patch set names this issue of `owner/repository`.
    pub fn changes_of_issue(
        &self,
        repository: &str,
        number: u32,
    ) -> impl Iterator<Item = Change<'a>> + use<'a> {
        let corpus = self.corpus;
        let repository = corpus.strings.find(&repository.to_ascii_lowercase());
        let row = repository.and_then(|repository| corpus.gerrit.find_reference(repository, number));
        let list = row.map(|row| corpus.gerrit.references[row as usize].changes).unwrap_or_default();
        let rows = corpus.gerrit.lists.get(list).iter().map(|at| &corpus.gerrit.changes[*at as usize]);
        rows.filter(|row| row.is_complete()).map(move |row| Change { corpus, row })
    }
}

impl ChangeRow {
    fn is_complete(&self) -> bool {
        self.meta != 0 && self.folded != 0 && self.commit != 0
    }

    fn is_open(&self) -> bool {
        self.is_complete() && self.status() == Status::New && self.flags & PRIVATE == 0
    }
}

impl<'a> Project<'a> {
    fn state(&self) -> &'a State {
        &self.corpus.gerrit
    }

    /// `host/project`.
    pub fn name(&self) -> &'a str {
        self.state().project_name(&self.corpus.strings, self.index).unwrap_or_default()
    }

    /// All changes that are complete, private ones too, by number.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = Change<'a>> + use<'a> {
        let (corpus, project) = (self.corpus, self.index);
        let rows = corpus.gerrit.order.range((project, 0)..=(project, u32::MAX));
        let rows = rows.map(|(_, at)| &corpus.gerrit.changes[*at as usize]);
        rows.filter(|row| row.is_complete()).map(move |row| Change { corpus, row })
    }

    /// The changes that are under review, without private ones, by number.
    pub fn open_changes(&self) -> impl DoubleEndedIterator<Item = Change<'a>> + use<'a> {
        self.changes().filter(|change| change.row.is_open())
    }

    /// A change that is complete.
    pub fn change(&self, number: u32) -> Option<Change<'a>> {
        let row = &self.state().changes[self.state().find_change(self.index, number)? as usize];
        row.is_complete().then_some(Change { corpus: self.corpus, row })
    }

    /// What the log says of the inline comments of a change, complete or not, in the order in which it first told of
    /// them.
    pub fn comments_of(&self, number: u32) -> impl Iterator<Item = GerritComment> + use<'a> {
        self.state().comments_of(&self.corpus.payloads, self.index, number)
    }

    /// Branches, tags and `HEAD`, by name. Not the refs of changes, nor what Gerrit keeps for itself.
    pub fn refs(&self) -> impl Iterator<Item = (&'a str, CommitHash)> + use<'a> {
        self.state().refs[self.index as usize].iter().map(|(name, hash)| (name.as_str(), *hash))
    }

    /// Where a ref stands.
    pub fn find_ref(&self, name: &str) -> Option<CommitHash> {
        self.state().refs[self.index as usize].get(name).copied()
    }

    /// Where a ref stands that may be of a change, complete or not: what was last said of it, whether its commit is
    /// there or not.
    pub fn stands(&self, name: &str) -> Option<CommitHash> {
        self.state().stands(&self.corpus.commits, self.index, name)
    }

    /// The names of all refs that stand somewhere: those of [`Self::refs`], then those of changes by number.
    pub fn all_refs(&self) -> impl Iterator<Item = String> + use<'a> {
        self.refs().map(|(name, _)| name.to_owned()).chain(self.state().change_refs(self.index))
    }
}

impl<'a> Change<'a> {
    fn text(&self, text: Text) -> &'a str {
        self.corpus.strings.text(text)
    }

    /// Where it is.
    pub fn project(&self) -> Project<'a> {
        Project { corpus: self.corpus, index: self.row.project }
    }

    /// Its number. Later changes may have lower ones.
    pub fn number(&self) -> u32 {
        self.row.number
    }

    /// Whether it is under review, submitted or given up.
    pub fn status(&self) -> Status {
        self.row.status()
    }

    /// Whether only few may see it, as of now.
    pub fn is_private(&self) -> bool {
        self.row.flags & PRIVATE != 0
    }

    /// Whether its owner still works on it.
    pub fn is_work_in_progress(&self) -> bool {
        self.row.flags & WIP != 0
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        Timestamp::from_seconds(self.row.created)
    }

    /// When its state last changed.
    pub fn updated(&self) -> Timestamp {
        Timestamp::from_seconds(self.row.updated)
    }

    /// The branch it is for, such as `refs/heads/main`. Changes may move.
    pub fn branch(&self) -> &'a str {
        self.text(self.row.branch)
    }

    /// Its topic; empty if it has none.
    pub fn topic(&self) -> &'a str {
        self.text(self.row.topic)
    }

    /// The owner, as `account@server`.
    pub fn owner(&self) -> &'a str {
        self.text(self.row.owner)
    }

    /// The number of the owner's account.
    pub fn owner_account(&self) -> Option<u64> {
        self.owner().split_once('@')?.0.parse().ok()
    }

    /// Its hashtags, as they are written.
    pub fn hashtags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        split_hashtags(self.text(self.row.hashtags))
    }

    /// The number of the latest patch set.
    pub fn version(&self) -> u32 {
        self.row.version
    }

    /// The commit of the latest patch set.
    pub fn commit(&self) -> Commit<'a> {
        Commit::at(self.corpus, self.row.commit - 1).expect("a complete change has a commit that is known")
    }

    /// The first paragraph of the latest patch set's message in one line.
    pub fn subject(&self) -> String {
        self.commit().subject()
    }

    /// The id that all patch sets share, if the latest names a valid one.
    pub fn change_id(&self) -> Option<String> {
        let message = self.commit().message();
        let id = message.lines().rev().find_map(|line| line.strip_prefix("Change-Id:"))?.trim();
        (id.len() == 41 && id.starts_with('I')).then(|| id.to_owned())
    }

    /// The value of the first footer of the latest patch set's message with this key, colon included.
    pub fn footer(&self, key: &str) -> Option<String> {
        let message = self.commit().message();
        message.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
    }

    /// Its patch sets whose commits are there, by number.
    pub fn patch_sets(&self) -> impl DoubleEndedIterator<Item = PatchSet<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.patch_sets.get(self.row.patch_sets).iter().filter_map(move |cell| {
            Some(PatchSet { number: cell.number, commit: Commit::at(corpus, cell.commit)? })
        })
    }

    /// The commits of its state, the first first.
    pub fn metas(&self) -> impl DoubleEndedIterator<Item = Meta<'a>> + use<'a> {
        let corpus = self.corpus;
        let list = corpus.gerrit.lists.get(self.row.metas);
        list.iter().filter_map(move |at| Some(Meta { corpus, index: *at, commit: Commit::at(corpus, *at)? }))
    }

    /// What was said of it, the first first.
    pub fn messages(&self) -> impl Iterator<Item = Message<'a>> + use<'a> {
        self.metas().filter_map(|meta| meta.message())
    }

    /// Inline comments, the first first. Reads them from the log.
    pub fn comments(&self) -> Vec<InlineComment> {
        in_order(self.project().comments_of(self.row.number))
    }

    /// The votes that count now.
    pub fn votes(&self) -> impl Iterator<Item = Vote<'a>> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.votes.get(self.row.votes).iter().map(move |cell| vote(corpus, cell))
    }

    /// The sum of the votes on a label that count now.
    pub fn vote_sum(&self, label: &str) -> i32 {
        let Some(label) = self.corpus.strings.find(label) else { return 0 };
        let votes = self.corpus.gerrit.votes.get(self.row.votes).iter();
        votes.filter(|vote| vote.label == label).map(|vote| i32::from(vote.value)).sum()
    }

    /// The votes that counted after the first `metas` commits of the state.
    pub fn votes_after(&self, metas: usize) -> Vec<Vote<'a>> {
        let corpus = self.corpus;
        let (mut cells, mut patch_set) = (Vec::new(), 0);
        let diff_of = |number: u32| self.patch_sets().find(|patch_set| patch_set.number == number);
        let same_diff = |number: u32| {
            let pair = (diff_of(number), diff_of(number.saturating_sub(1)));
            matches!(pair, (Some(new), Some(old)) if new.commit.has_same_diff(&old.commit))
        };
        let of_a_diff = |label: Text| votes::OF_A_DIFF.contains(&corpus.strings.text(label));
        for meta in corpus.gerrit.lists.get(self.row.metas).iter().take(metas) {
            patch_set = votes::step(&corpus.commits, *meta, patch_set, &mut cells, same_diff, of_a_diff);
        }
        cells.iter().map(|cell| vote(corpus, cell)).collect()
    }

    /// The hashtags after the first `metas` commits of the state.
    pub fn hashtags_after(&self, metas: usize) -> impl Iterator<Item = &'a str> + use<'a> {
        let list = self.corpus.gerrit.lists.get(self.row.metas);
        let last = list.iter().take(metas).rev().find_map(|meta| {
            let notes = self.corpus.commits.notes_of(*meta);
            notes.filter_map(|note| if let Stored::Hashtags(text) = note { Some(text) } else { None }).last()
        });
        split_hashtags(last.map_or("", |text| self.text(text)))
    }

    /// Whose turn it is, as `account@server`.
    pub fn attention(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.lists.get(self.row.attention).iter().map(move |who| corpus.strings.text(Text(*who)))
    }

    /// Reviewers and those who are told, as `account@server`. Those who were removed are listed too.
    pub fn people(&self) -> impl Iterator<Item = (&'a str, Role)> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.roles.get(self.row.roles).iter().map(move |cell| {
            let role = [Role::Reviewer, Role::Cc, Role::Removed].get(cell.role as usize);
            (corpus.strings.text(cell.who), role.copied().unwrap_or(Role::Removed))
        })
    }

    /// The issues that the latest patch set names: `owner/repository` and number, in their order.
    pub fn issues(&self) -> impl Iterator<Item = (&'a str, u32)> + use<'a> {
        let corpus = self.corpus;
        corpus.gerrit.lists.get(self.row.references).iter().map(move |at| {
            let reference = &corpus.gerrit.references[*at as usize];
            (corpus.strings.text(reference.repository), reference.number)
        })
    }
}

fn vote<'a>(corpus: &'a Corpus, cell: &VoteCell) -> Vote<'a> {
    Vote {
        label: corpus.strings.text(cell.label),
        voter: corpus.strings.text(cell.voter),
        value: cell.value as i8,
        patch_set: cell.patch_set,
    }
}

fn split_hashtags(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty())
}

impl std::fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{} {}", self.project().name(), self.number(), self.subject())
    }
}

impl<'a> Meta<'a> {
    /// The commit.
    pub fn commit(&self) -> Commit<'a> {
        self.commit
    }

    fn head(&self) -> Option<(u32, Text)> {
        self.corpus.commits.notes_of(self.index).find_map(|note| match note {
            Stored::Head { patch_set, tag } => Some((patch_set, tag)),
            _ => None,
        })
    }

    /// The patch set it is about.
    pub fn patch_set(&self) -> u32 {
        self.head().map_or(0, |(patch_set, _)| patch_set)
    }

    /// Which program wrote it and why, such as `autogenerated:gerrit:merged`; empty for people.
    pub fn tag(&self) -> &'a str {
        self.head().map_or("", |(_, tag)| self.corpus.strings.text(tag))
    }

    /// Who wrote it, as `account@server`.
    pub fn author(&self) -> &'a str {
        let author = self.commit.author();
        author.rsplit_once('<').map_or("", |(_, email)| email.trim_end_matches('>'))
    }

    /// What it says to people.
    pub fn message(&self) -> Option<Message<'a>> {
        let header = self.commit.header()?;
        let footers = notes::footers(header.author, header.message)?;
        let text = String::from_utf8_lossy(notes::text(header.message, footers)?);
        Some(Message { text, patch_set: self.patch_set(), commit: self.commit })
    }
}
