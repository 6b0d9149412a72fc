//! What happened lately, folded from mutations. Pure: no clock, no input or output.

use std::collections::{BTreeMap, VecDeque};

use api::maintpb::{BuildResult, GitCommit, Mutation, RepositoryMutation};
use maintner::parse_commit;
use serde::Serialize;
use types::{CommitHash, Outcome, Timestamp};

/// How many items are kept.
pub const MAX_ITEMS: usize = 500;
/// Of how many commits the subject is kept.
pub const MAX_COMMITS: usize = 2000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Counts up; later items have higher numbers.
    pub number: u64,
    /// When, in microseconds since 1970.
    pub at: Timestamp,
    /// Whether `at` is when we heard of it, or when it says that it happened; false if it is only the commit's time.
    pub heard: bool,
    /// In which repository.
    pub repository: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A ref was made or moved.
    RefMoved {
        /// Its full name.
        r#ref: String,
        /// Where it stands now.
        commit: CommitHash,
        /// The commit's subject; empty if the commit is too old to be remembered.
        subject: String,
        /// Who wrote the commit.
        author: String,
        /// How many commits came with it.
        new_commits: u64,
    },
    /// A ref was deleted.
    RefDeleted {
        /// Its full name.
        r#ref: String,
    },
    /// A build ended.
    BuildEnded {
        /// Its number.
        build: u64,
        /// The attempt.
        attempt: u32,
        /// Who built.
        builder: String,
        /// What was built.
        commit: CommitHash,
        /// The commit's subject; empty if it is not known.
        subject: String,
        /// How it ended.
        outcome: Outcome,
        /// What decided the outcome; empty when passed.
        reason: String,
        /// How long it took, in milliseconds; none if that is not known.
        duration_ms: Option<u64>,
        /// Whether it was a try.
        is_try: bool,
    },
}

/// What is remembered of a commit.
#[derive(Debug, Clone)]
struct Commit {
    subject: String,
    author: String,
    committed: Timestamp,
}

/// The last items, and what is needed to make the next.
#[derive(Debug, Default)]
pub struct Feed {
    /// Oldest first.
    items: VecDeque<Item>,
    next: u64,
    commits: BTreeMap<CommitHash, Commit>,
    order: VecDeque<CommitHash>,
    /// Commits that came since a ref of the repository moved.
    new_commits: BTreeMap<String, u64>,
}

impl Feed {
    /// Takes the next mutation. `heard_at` is the time, if the mutation is news and not history.
    pub fn step(&mut self, mutation: &Mutation, heard_at: Option<Timestamp>) {
        if let Some(git) = &mutation.git {
            let repository = git.repo.as_ref().map(|repo| repo.go_repo.as_str()).unwrap_or_default();
            if git.commit.as_ref().is_some_and(|commit| self.commit(commit)) {
                *self.new_commits.entry(repository.to_owned()).or_default() += 1;
            }
        }
        for commit in mutation.gerrit.iter().flat_map(|gerrit| &gerrit.commits) {
            // Not counted: most are of changes, and not of any branch.
            self.commit(commit);
        }
        if let Some(repository) = &mutation.repository {
            self.refs(repository, heard_at);
        }
        if let Some(result) = &mutation.build_result {
            self.build(result, heard_at);
        }
    }

    /// The items, newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().rev()
    }

    /// Remembers a commit. Answers whether it is one.
    fn commit(&mut self, commit: &GitCommit) -> bool {
        let (Ok(hash), Ok(parsed)) = (commit.sha1.parse(), parse_commit(&commit.raw)) else { return false };
        let author = parsed.author.name.split(" <").next().unwrap_or_default().to_owned();
        let committed = Timestamp::from_seconds(parsed.committer.seconds);
        let known = Commit { subject: cut(&parsed.subject()), author: cut(&author), committed };
        if self.commits.insert(hash, known).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > MAX_COMMITS
            && let Some(oldest) = self.order.pop_front()
        {
            self.commits.remove(&oldest);
        }
        true
    }

    fn refs(&mut self, mutation: &RepositoryMutation, heard_at: Option<Timestamp>) {
        let mut new_commits = self.new_commits.remove(&mutation.repository).unwrap_or_default();
        for one in &mutation.refs {
            let Ok(commit) = one.sha1.parse() else { continue };
            let known = self.commits.get(&commit);
            let at = heard_at.or(known.map(|known| known.committed)).unwrap_or_default();
            let what = What::RefMoved {
                r#ref: one.r#ref.clone(),
                commit,
                subject: known.map(|known| known.subject.clone()).unwrap_or_default(),
                author: known.map(|known| known.author.clone()).unwrap_or_default(),
                // Counted once, however many refs move together.
                new_commits: std::mem::take(&mut new_commits),
            };
            self.push(at, heard_at.is_some(), &mutation.repository, what);
        }
        for name in &mutation.deleted_refs {
            let at = heard_at.or(self.items.back().map(|last| last.at)).unwrap_or_default();
            let what = What::RefDeleted { r#ref: name.clone() };
            self.push(at, heard_at.is_some(), &mutation.repository, what);
        }
    }

    fn build(&mut self, result: &BuildResult, heard_at: Option<Timestamp>) {
        let (Ok(commit), Ok(outcome)) = (result.commit.parse(), result.outcome.parse()) else { return };
        let time = |at: &prost_types::Timestamp| Timestamp::from_parts(at.seconds, at.nanos);
        let (started, ended) = (result.started.as_ref().map(time), result.ended.as_ref().map(time));
        let took = started.zip(ended).map(|(started, ended)| ended.since(started).as_millis() as u64);
        let what = What::BuildEnded {
            build: result.build,
            attempt: result.attempt,
            builder: result.builder.clone(),
            commit,
            subject: self.commits.get(&commit).map(|known| known.subject.clone()).unwrap_or_default(),
            outcome,
            reason: cut(&result.reason),
            duration_ms: took,
            is_try: result.is_try,
        };
        let at = ended.or(heard_at).unwrap_or_default();
        self.push(at, ended.or(heard_at).is_some(), &result.repository, what);
    }

    fn push(&mut self, at: Timestamp, heard: bool, repository: &str, what: What) {
        self.next += 1;
        self.items.push_back(Item { number: self.next, at, heard, repository: repository.to_owned(), what });
        if self.items.len() > MAX_ITEMS {
            self.items.pop_front();
        }
    }
}

/// No text of others is kept at any length.
fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests;
