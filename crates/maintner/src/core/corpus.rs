//! The fold itself.

use std::collections::BTreeMap;

use api::maintpb::Mutation;
use bytes::Bytes;
use prost::Message as _;
use types::CommitHash;

use super::{
    builds::{Attempt, AttemptKey, Builds},
    commits::{Commit, Commits},
    decode::{Batch, Part, Step, part},
    gerrit::{self, Around, Gerrit},
    github::{self, Github},
    payloads::Payloads,
    strings::Strings,
    wire::DecodeError,
};

/// Everything that a log says.
#[derive(Debug, Default)]
pub struct Corpus {
    pub(super) strings: Strings,
    pub(super) payloads: Payloads,
    pub(super) commits: Commits,
    pub(super) github: github::State,
    pub(super) gerrit: gerrit::State,
    pub(super) builds: Builds,
    /// Refs of plain repositories, by name.
    pub(super) repositories: BTreeMap<String, BTreeMap<String, CommitHash>>,
    pub(super) statistics: Statistics,
}

/// What went into a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many mutations were applied or skipped.
    pub mutations: u64,
    /// Mutations of kinds that are not modelled. The log keeps them.
    pub skipped: u64,
    /// Parts of mutations that make no sense, such as a hash that is none.
    pub malformed: u64,
}

impl Corpus {
    /// Applies the next mutation of the log. What makes no sense in it is counted and left out.
    pub fn apply(&mut self, mutation: &Mutation) {
        let encoded = mutation.encode_to_vec();
        if self.apply_bytes(&encoded).is_err() {
            self.statistics.mutations += 1;
            self.statistics.malformed += 1;
        }
    }

    /// Applies the next mutation of the log as it is written there. Keeps a copy of what is referred to.
    ///
    /// # Errors
    ///
    /// The bytes are no mutation, and nothing was applied.
    pub fn apply_bytes(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut batch = Batch::default();
        batch.add(self.payloads.end(), bytes)?;
        if batch.refers() {
            self.payloads.push(bytes);
        }
        self.apply_batch(&batch);
        Ok(())
    }

    /// Lets the corpus refer to a piece of the log, so that what is applied from there is not copied. Answers with the
    /// address of its first byte, for [`Batch::add`]. Pieces are attached in their order, and never change.
    pub fn attach(&mut self, bytes: Bytes) -> u64 {
        self.payloads.attach(bytes)
    }

    /// Has room for about so many more bytes of log. Memory that is not needed after all is never touched, and so none.
    pub fn reserve(&mut self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(0);
        self.commits.reserve(bytes / 1000);
        self.github.reserve(bytes / 1000);
    }

    /// Applies mutations that were taken apart, whose bytes lie in an attached piece.
    pub fn apply_batch(&mut self, batch: &Batch<'_>) {
        self.statistics.mutations += batch.mutations();
        self.strings.begin(&batch.texts);
        self.commits.warm(batch);
        self.github.warm(&self.strings, batch);
        self.gerrit.warm(&self.strings, batch);
        for step in &batch.steps {
            match step {
                Step::Commit(at) => self.apply_commits(batch, &(*at..at + 1), 0),
                Step::Gerrit { project, commits, refs, gone, inline } => {
                    let project = self.gerrit.project(&mut self.strings, *project);
                    let origin = u16::try_from(project + 1).unwrap_or(0);
                    self.apply_commits(batch, commits, origin);
                    self.apply_change_refs(batch, project, refs, gone);
                    for comment in part(&batch.inline, inline) {
                        self.gerrit.set_comment(&mut self.strings, project, comment);
                    }
                }
                Step::Issue(at) => {
                    let draft = &batch.issues[*at as usize];
                    self.statistics.malformed += self.github.apply_issue(&mut self.strings, batch, draft);
                }
                Step::Repository(at) => {
                    let draft = &batch.repositories[*at as usize];
                    self.statistics.malformed +=
                        self.github.apply_repository(&mut self.strings, batch, draft);
                }
                Step::Git { repository, refs, gone } => self.apply_refs(batch, repository, refs, gone),
                Step::Result(at) => {
                    let known = self.builds.add(&mut self.strings, &batch.results[*at as usize]);
                    self.statistics.malformed += u64::from(!known);
                }
                Step::Malformed(parts) => self.statistics.malformed += parts,
                Step::Skipped => self.statistics.skipped += 1,
            }
        }
    }

    fn apply_commits(&mut self, batch: &Batch<'_>, commits: &Part, origin: u16) {
        for draft in part(&batch.commits, commits) {
            if let Some(awaited) = self.commits.add(&mut self.strings, batch, draft, origin) {
                let (state, mut around) = self.gerrit_around();
                state.arrived(&mut around, awaited);
            }
        }
    }

    fn gerrit_around(&mut self) -> (&mut gerrit::State, Around<'_>) {
        let Self { strings, commits, payloads, gerrit, .. } = self;
        (gerrit, Around { strings, commits, payloads })
    }

    fn apply_change_refs(&mut self, batch: &Batch<'_>, project: u32, refs: &Part, gone: &Part) {
        let (state, mut around) = self.gerrit_around();
        for name in part(&batch.gone, gone) {
            state.delete_ref(&mut around, project, name);
        }
        for draft in part(&batch.refs, refs) {
            state.set_ref(&mut around, project, draft);
        }
    }

    fn apply_refs(&mut self, batch: &Batch<'_>, repository: &[u8], refs: &Part, gone: &Part) {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let known = self.repositories.entry(text(repository)).or_default();
        for name in part(&batch.gone, gone) {
            known.remove(&text(name));
        }
        for draft in part(&batch.refs, refs) {
            known.insert(text(draft.name), draft.hash);
        }
    }

    /// Brings up to date what is not worth it after each mutation. Nothing is wrong before, but slower: to be called
    /// when a log was read, or some of it.
    pub fn settle(&mut self) {
        self.commits.settle();
    }

    /// What is known of GitHub.
    pub fn github(&self) -> Github<'_> {
        Github::new(self)
    }

    /// What is known of Gerrit.
    pub fn gerrit(&self) -> Gerrit<'_> {
        Gerrit::new(self)
    }

    /// A commit that the log holds.
    pub fn commit(&self, hash: &CommitHash) -> Option<Commit<'_>> {
        Commit::at(self, self.commits.find(hash)?)
    }

    /// All commits that the log holds, in the order in which it first named them.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = Commit<'_>> {
        (0..self.commits.rows.len() as u32).filter_map(|index| Commit::at(self, index))
    }

    /// How many commits the log holds.
    pub fn commit_count(&self) -> usize {
        self.commits.len()
    }

    /// Whether `ancestor` can be reached from `commit` by one step or more. Looks only at commits that are of a later
    /// generation than the ancestor.
    pub fn has_ancestor(&self, commit: &CommitHash, ancestor: &CommitHash) -> bool {
        let (commit, ancestor) = (self.commits.find(commit), self.commits.find(ancestor));
        commit.zip(ancestor).is_some_and(|(commit, ancestor)| self.commits.has_ancestor(commit, ancestor))
    }

    /// The names of all plain repositories, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// The refs of a plain repository, in order of their names.
    pub fn refs(&self, repository: &str) -> impl Iterator<Item = (&str, CommitHash)> {
        let refs = self.repositories.get(repository);
        refs.into_iter().flatten().map(|(name, hash)| (name.as_str(), *hash))
    }

    /// Where a ref of a plain repository stands.
    pub fn find_ref(&self, repository: &str, name: &str) -> Option<CommitHash> {
        self.repositories.get(repository)?.get(name).copied()
    }

    /// The result of one attempt.
    pub fn attempt(&self, key: AttemptKey) -> Option<Attempt<'_>> {
        self.builds.get(&self.strings, key)
    }

    /// Whether the result of an attempt is known.
    pub fn has_attempt(&self, key: AttemptKey) -> bool {
        self.builds.contains(key)
    }

    /// How many attempts have a result.
    pub fn attempt_count(&self) -> usize {
        self.builds.len()
    }

    /// The results of one commit by one builder, the latest attempt last.
    pub fn attempts<'a>(
        &'a self,
        commit: CommitHash,
        builder: &str,
    ) -> impl DoubleEndedIterator<Item = Attempt<'a>> + use<'a> {
        self.builds.of(&self.strings, commit, builder)
    }

    /// What went in.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How many there are of each kind of object, by name. Those that are hidden, such as changes that are not
    /// complete, are counted apart.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let changes = self.gerrit().changes().count();
        let issues: usize = self.github().repositories().map(|repository| repository.issues().count()).sum();
        let gone: usize = self.github().repositories().map(|repository| repository.gone().count()).sum();
        let rows = self.github.issues.iter();
        let review_comments: usize = rows.map(github::State::review_comment_count).sum();
        let refs = self.repositories.values().chain(&self.gerrit.refs).map(BTreeMap::len).sum();
        let counts = [
            ("repositories", self.github.repositories.len()),
            ("issues", issues),
            ("issues_gone", gone),
            ("comments", self.github.comments.len()),
            ("events", self.github.events.len()),
            ("reviews", self.github.reviews.len()),
            ("review_comments", review_comments),
            ("users", self.github.users.len()),
            ("labels", self.github.labels.len()),
            ("milestones", self.github.milestones.len()),
            ("projects", self.gerrit.projects.len()),
            ("changes", changes),
            ("changes_incomplete", self.gerrit.changes.len() - changes),
            ("inline_comments", self.gerrit.comment_count()),
            ("commits", self.commits.len()),
            ("commits_missing", self.commits.missing().count()),
            ("plain_repositories", self.repositories.len()),
            ("refs", refs),
            ("attempts", self.builds.len()),
        ];
        counts.map(|(name, count)| (name, count as u64)).to_vec()
    }

    /// How many bytes of the log were copied, since they did not come from an attached piece.
    pub fn copied_bytes(&self) -> usize {
        self.payloads.own_bytes()
    }

    /// What is wrong with the whole, which is nothing if all of the log makes sense: every parent is there, every ref
    /// names a commit that is there, and everything is found both ways.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.commits.check(&mut problems);
        for (repository, refs) in &self.repositories {
            for (name, hash) in refs {
                if self.commit(hash).is_none() {
                    problems.push(format!("`{name}` of `{repository}` names {hash}, which is missing"));
                }
            }
        }
        self.github.check(&mut problems);
        self.gerrit.check(&self.strings, &self.commits, &mut problems);
        self.builds.check(&mut problems);
        if self.statistics.malformed > 0 {
            problems.push(format!("{} parts of mutations made no sense", self.statistics.malformed));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
