//! The fold itself.

use std::collections::BTreeMap;

use api::maintpb::{GitCommit, Mutation, RepositoryMutation};
use types::CommitHash;

use super::{
    builds::{Attempt, AttemptKey, Builds},
    commits::{Commit, Commits},
    parse::parse_commit,
    strings::Strings,
};

/// Everything that a log says, as far as it is modelled: repositories with refs, commits, results of builds.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    strings: Strings,
    commits: Commits,
    builds: Builds,
    repositories: BTreeMap<String, BTreeMap<String, CommitHash>>,
    statistics: Statistics,
}

/// What went into a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many mutations were applied or skipped.
    pub mutations: u64,
    /// Mutations of kinds that are not modelled.
    pub skipped: u64,
    /// Parts of mutations that make no sense, such as a hash that is none.
    pub malformed: u64,
}

impl Corpus {
    /// Applies the next mutation of the log. What makes no sense in it is counted and left out.
    pub fn apply(&mut self, mutation: &Mutation) {
        self.statistics.mutations += 1;
        let mut known = false;
        if let Some(git) = &mutation.git {
            known = true;
            self.apply_commit(git.commit.as_ref());
        }
        if let Some(repository) = &mutation.repository {
            known = true;
            self.apply_refs(repository);
        }
        if let Some(result) = &mutation.build_result {
            known = true;
            if !self.builds.add(&mut self.strings, result) {
                self.statistics.malformed += 1;
            }
        }
        if !known {
            self.statistics.skipped += 1;
        }
    }

    fn apply_commit(&mut self, commit: Option<&GitCommit>) {
        let parsed = commit.and_then(|commit| {
            let hash: CommitHash = commit.sha1.parse().ok()?;
            Some((hash, parse_commit(&commit.raw).ok()?))
        });
        match parsed {
            Some((hash, commit)) => self.commits.add(&mut self.strings, hash, &commit),
            None => self.statistics.malformed += 1,
        }
    }

    fn apply_refs(&mut self, mutation: &RepositoryMutation) {
        let refs = self.repositories.entry(mutation.repository.clone()).or_default();
        for name in &mutation.deleted_refs {
            refs.remove(name);
        }
        for one in &mutation.refs {
            match one.sha1.parse() {
                Ok(hash) => {
                    refs.insert(one.r#ref.clone(), hash);
                }
                Err(_) => self.statistics.malformed += 1,
            }
        }
    }

    /// A commit that the log holds.
    pub fn commit(&self, hash: &CommitHash) -> Option<Commit<'_>> {
        self.commits.known(&self.strings, hash)
    }

    /// How many commits the log holds.
    pub fn commit_count(&self) -> usize {
        self.commits.len()
    }

    /// Whether `ancestor` can be reached from `commit` by one step or more.
    pub fn has_ancestor(&self, commit: &CommitHash, ancestor: &CommitHash) -> bool {
        self.commits.has_ancestor(commit, ancestor)
    }

    /// The names of all repositories, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// The refs of a repository, in order of their names.
    pub fn refs(&self, repository: &str) -> impl Iterator<Item = (&str, CommitHash)> {
        let refs = self.repositories.get(repository);
        refs.into_iter().flatten().map(|(name, hash)| (name.as_str(), *hash))
    }

    /// Where a ref stands.
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

    /// What is wrong with the whole, which is nothing if maintnerd wrote all of the log: every parent is there, every
    /// ref names a commit that is there, and the results are found both ways.
    pub fn check(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            self.commits.missing().map(|hash| format!("the parent {hash} is missing")).collect();
        for (repository, refs) in &self.repositories {
            for (name, hash) in refs {
                if self.commit(hash).is_none() {
                    problems.push(format!("`{name}` of `{repository}` names {hash}, which is missing"));
                }
            }
        }
        self.builds.check(&mut problems);
        if self.statistics.malformed > 0 {
            problems.push(format!("{} parts of mutations made no sense", self.statistics.malformed));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
