//! The rule, without clock, input or output: mutations in, findings out.

use std::collections::{BTreeMap, VecDeque};

use api::maintpb::{BuildResult, Mutation};
use maintner::{
    Corpus,
    core::{AttemptKey, check_result},
};
use types::{BuilderName, CommitHash, Outcome, RepositoryName, Timestamp};

/// How far back on a branch a commit is looked for.
const BRANCH_DEPTH: usize = 1000;
/// How many failures wait to hear how the parent fared.
const MAX_WAITING: usize = 10_000;

/// A builder that passed at a commit's parent and failed at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The repository.
    pub repository: RepositoryName,
    /// The commit that failed.
    pub commit: CommitHash,
    /// Its subject.
    pub subject: String,
    /// The branch it is on.
    pub branch: String,
    /// Who noticed.
    pub builder: BuilderName,
    /// The number of the build that failed.
    pub build: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What decided the outcome.
    pub reason: String,
    /// When the later of the two builds ended, by which the change from green to red is known.
    pub known_at: Timestamp,
}

/// Watches for builders that turn from green to red.
#[derive(Default)]
pub struct GreenToRed {
    corpus: Corpus,
    /// Failures by their parent and builder; the result of the parent may come later.
    waiting: BTreeMap<(CommitHash, String), Vec<AttemptKey>>,
    order: VecDeque<(CommitHash, String)>,
}

impl GreenToRed {
    /// Takes the next mutation of the log, and tells what it reveals.
    pub fn step(&mut self, mutation: &Mutation) -> Vec<Finding> {
        let news = mutation.build_result.as_ref();
        // A repeat of an attempt reveals nothing.
        let news = news.filter(|result| !self.corpus.has_attempt((result.build, result.attempt)));
        self.corpus.apply(mutation);
        match news {
            Some(result) if !result.is_try => self.judge(result),
            _ => Vec::new(),
        }
    }

    fn judge(&mut self, result: &BuildResult) -> Vec<Finding> {
        let Ok((commit, outcome)) = check_result(result) else { return Vec::new() };
        let key = (result.build, result.attempt);
        let ended = result.ended.as_ref();
        let known_at = ended.map_or(Timestamp::default(), |at| Timestamp::from_parts(at.seconds, at.nanos));
        match outcome {
            Outcome::Passed => {
                let waiting = self.waiting.remove(&(commit, result.builder.clone())).unwrap_or_default();
                waiting.into_iter().filter_map(|key| self.finding(key, known_at)).collect()
            }
            Outcome::Failed | Outcome::TimedOut => {
                let parent = self.corpus.commit(&commit).and_then(|commit| commit.first_parent());
                let Some(parent) = parent else { return Vec::new() };
                match self.latest(parent, &result.builder) {
                    Some(Outcome::Passed) => self.finding(key, known_at).into_iter().collect(),
                    Some(Outcome::Failed | Outcome::TimedOut) => Vec::new(),
                    _ => {
                        self.wait((parent, result.builder.clone()), key);
                        Vec::new()
                    }
                }
            }
            // These say nothing about the commit.
            Outcome::Infrastructure | Outcome::Skipped | Outcome::Cancelled => Vec::new(),
        }
    }

    fn wait(&mut self, parent: (CommitHash, String), key: AttemptKey) {
        self.waiting.entry(parent.clone()).or_default().push(key);
        self.order.push_back(parent);
        if self.order.len() > MAX_WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
    }

    /// How a builder fared at a commit, by the last attempt that says something about the commit.
    fn latest(&self, commit: CommitHash, builder: &str) -> Option<Outcome> {
        let attempts = self.corpus.attempts(commit, builder).rev().filter(|attempt| !attempt.is_try);
        let mut outcomes = attempts.map(|attempt| attempt.outcome);
        outcomes.find(|outcome| matches!(outcome, Outcome::Passed | Outcome::Failed | Outcome::TimedOut))
    }

    fn finding(&self, key: AttemptKey, known_at: Timestamp) -> Option<Finding> {
        let attempt = self.corpus.attempt(key)?;
        let red =
            matches!(self.latest(attempt.commit, attempt.builder), Some(Outcome::Failed | Outcome::TimedOut));
        let branch = self.branch_of(attempt.repository, attempt.commit).filter(|_| red)?;
        Some(Finding {
            repository: attempt.repository.parse().ok()?,
            commit: attempt.commit,
            subject: self.corpus.commit(&attempt.commit)?.subject(),
            branch,
            builder: attempt.builder.parse().ok()?,
            build: key.0,
            outcome: attempt.outcome,
            reason: attempt.reason.to_owned(),
            known_at,
        })
    }

    /// The first branch, by name, that the commit was made on.
    fn branch_of(&self, repository: &str, commit: CommitHash) -> Option<String> {
        let on = |tip: CommitHash| {
            let line = std::iter::successors(Some(tip), |at| self.corpus.commit(at)?.first_parent());
            line.take(BRANCH_DEPTH).any(|at| at == commit)
        };
        let mut heads = self
            .corpus
            .refs(repository)
            .filter_map(|(name, tip)| Some((name.strip_prefix("refs/heads/")?, tip)));
        heads.find(|(_, tip)| on(*tip)).map(|(name, _)| name.to_owned())
    }
}

#[cfg(test)]
mod tests;
