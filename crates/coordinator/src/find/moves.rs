//! What a move of a ref means: which commits are new on it.

use std::collections::{BTreeMap, VecDeque};

use types::{CommitHash, RepositoryName};

use super::{Commit, MirrorError};
use crate::ports::Commits;

/// How many commits of the stream are remembered: they come right before the move that names them.
const REMEMBERED: usize = 8192;

/// Commits that the stream lately brought.
#[derive(Default)]
pub(super) struct Recent {
    commits: BTreeMap<CommitHash, Commit>,
    order: VecDeque<CommitHash>,
}

impl Recent {
    pub(super) fn remember(&mut self, commit: Commit) {
        let hash = commit.hash;
        if self.commits.insert(hash, commit).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.commits.remove(&oldest);
        }
    }

    /// One commit, asked for if need be.
    pub(super) async fn one(
        &self,
        mirror: &dyn Commits,
        repository: &RepositoryName,
        hash: CommitHash,
    ) -> Result<Vec<Commit>, MirrorError> {
        match self.commits.get(&hash) {
            Some(commit) => Ok(vec![commit.clone()]),
            None => mirror.commits(repository, hash, &[], 1).await,
        }
    }

    /// The commits of a move from `old` to `new`, newest first, along first parents; the newest `most`.
    pub(super) async fn between(
        &self,
        mirror: &dyn Commits,
        repository: &RepositoryName,
        (old, new): (CommitHash, CommitHash),
        most: u32,
    ) -> Result<Vec<Commit>, MirrorError> {
        if let Some(commits) = first_parents(&self.commits, new, Some(old), most) {
            return Ok(commits);
        }
        self.beyond(mirror, repository, &[old], new, most).await
    }

    /// The commits of a new ref that no other ref has, newest first, along first parents; its tip at least, and at most
    /// so many.
    pub(super) async fn beyond(
        &self,
        mirror: &dyn Commits,
        repository: &RepositoryName,
        known: &[CommitHash],
        new: CommitHash,
        most: u32,
    ) -> Result<Vec<Commit>, MirrorError> {
        let commits = mirror.commits(repository, new, known, most).await?;
        let by_hash = commits.into_iter().map(|commit| (commit.hash, commit)).collect();
        let found = first_parents(&by_hash, new, None, most).unwrap_or_default();
        // Everything is known already: a branch that was moved back, or made where another is.
        if found.is_empty() { self.one(mirror, repository, new).await } else { Ok(found) }
    }
}

/// Walks from `new` by first parents until `old` or for `most` commits; none if neither is reached. Without `old`, as far
/// as it goes.
fn first_parents(
    commits: &BTreeMap<CommitHash, Commit>,
    new: CommitHash,
    old: Option<CommitHash>,
    most: u32,
) -> Option<Vec<Commit>> {
    let mut found = Vec::new();
    let mut next = Some(new);
    while let Some(hash) = next {
        if Some(hash) == old || found.len() == most as usize {
            return Some(found);
        }
        let Some(commit) = commits.get(&hash) else { break };
        next = commit.parents.first().copied();
        found.push(commit.clone());
    }
    if old.is_none() { Some(found) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> CommitHash {
        CommitHash::from_bytes([n; 20])
    }

    fn history() -> BTreeMap<CommitHash, Commit> {
        let commit = |n: u8, parents: &[u8]| Commit {
            hash: hash(n),
            parents: parents.iter().map(|parent| hash(*parent)).collect(),
            author: String::new(),
            time: types::Timestamp(0),
            subject: String::new(),
        };
        let all = [commit(2, &[1]), commit(3, &[2, 9]), commit(9, &[1]), commit(4, &[3])];
        all.into_iter().map(|commit| (commit.hash, commit)).collect()
    }

    fn walk(new: u8, old: Option<u8>) -> Option<Vec<u8>> {
        walk_at_most(new, old, 1000)
    }

    fn walk_at_most(new: u8, old: Option<u8>, most: u32) -> Option<Vec<u8>> {
        let found = first_parents(&history(), hash(new), old.map(hash), most)?;
        Some(found.iter().map(|commit| commit.hash.as_bytes()[0]).collect())
    }

    #[test]
    fn a_push_is_walked_by_first_parents_newest_first() {
        assert_eq!(walk(4, Some(1)), Some(vec![4, 3, 2]));
        assert_eq!(walk(4, Some(4)), Some(vec![]));
    }

    #[test]
    fn no_more_commits_than_asked_for_are_walked() {
        assert_eq!(walk_at_most(4, Some(1), 2), Some(vec![4, 3]));
        assert_eq!(walk_at_most(4, Some(7), 2), Some(vec![4, 3]));
        assert_eq!(walk_at_most(4, None, 2), Some(vec![4, 3]));
    }

    #[test]
    fn an_old_commit_that_is_no_ancestor_is_not_reached() {
        assert_eq!(walk(4, Some(7)), None);
        assert_eq!(walk(4, None), Some(vec![4, 3, 2]));
    }
}
