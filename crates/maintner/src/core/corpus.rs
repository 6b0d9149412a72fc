//! The corpus: what a log says, to be asked.

use std::collections::BTreeMap;

use api::maintpb::Mutation;
use bytes::Bytes;
use prost::Message as _;
use types::CommitHash;

use super::{
    builds::{Attempt, AttemptKey, Builds},
    commits::{Commit, Commits},
    decode::Batch,
    gerrit::{self, Gerrit},
    github::{self, Github},
    halves::{GitHalf, GithubHalf, Half as _},
    payloads::Payloads,
    strings::Strings,
    wire::DecodeError,
};

/// Everything that a log says.
#[derive(Debug, Default)]
pub struct Corpus {
    /// The texts of git, Gerrit and builds. Those of GitHub are apart, since that half is folded beside the other.
    pub(super) strings: Strings,
    pub(super) github_strings: Strings,
    pub(super) payloads: Payloads,
    pub(super) commits: Commits,
    pub(super) github: github::State,
    pub(super) gerrit: gerrit::State,
    pub(super) builds: Builds,
    /// Refs of plain repositories, by name.
    pub(super) repositories: BTreeMap<String, BTreeMap<String, CommitHash>>,
    pub(super) statistics: Statistics,
    /// What makes no sense of GitHub, beside what is counted in the statistics.
    pub(super) github_malformed: u64,
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
        self.halves().0.apply(batch);
        self.halves().1.apply(batch);
    }

    /// The two halves of the fold. A batch is applied when both were.
    pub(crate) fn halves(&mut self) -> (GithubHalf<'_>, GitHalf<'_>) {
        let Self { strings, github_strings, payloads, commits, github, .. } = self;
        let Self { gerrit, builds, repositories, statistics, github_malformed, .. } = self;
        (
            GithubHalf { strings: github_strings, state: github, malformed: github_malformed },
            GitHalf { strings, payloads, commits, gerrit, builds, repositories, statistics },
        )
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
        let Statistics { mutations, skipped, malformed } = self.statistics;
        Statistics { mutations, skipped, malformed: malformed + self.github_malformed }
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
        let malformed = self.statistics().malformed;
        if malformed > 0 {
            problems.push(format!("{malformed} parts of mutations made no sense"));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
