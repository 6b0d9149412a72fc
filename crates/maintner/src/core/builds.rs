//! The results of builds, by attempt and by commit.

use std::collections::{BTreeMap, BTreeSet};

use api::maintpb::BuildResult;
use types::{
    BuilderName, CommitHash, Outcome, ParseCommitError, ParseNameError, ParseOutcomeError, RepositoryName,
    Timestamp,
};

use super::strings::{Name, Strings, Text};

/// The number of a build and that of the attempt.
pub type AttemptKey = (u64, u32);

#[derive(Debug, Clone)]
struct Entry {
    builder: Text,
    repository: Text,
    reason: Text,
    commit: CommitHash,
    outcome: Outcome,
    started: Timestamp,
    ended: Timestamp,
    is_try: bool,
}

#[derive(Debug, Default)]
pub(super) struct Builds {
    attempts: BTreeMap<AttemptKey, Entry>,
    /// So that the results of a commit are found without looking at all.
    by_commit: BTreeSet<(CommitHash, Text, AttemptKey)>,
}

/// The result of one attempt of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The build's number and the attempt's.
    pub key: AttemptKey,
    /// Who built it.
    pub builder: &'a str,
    /// What was built.
    pub repository: &'a str,
    /// At which commit.
    pub commit: CommitHash,
    /// How it ended.
    pub outcome: Outcome,
    /// Why; empty when passed.
    pub reason: &'a str,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether it was a try.
    pub is_try: bool,
}

/// What makes no sense in a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// Builds and attempts are counted from 1.
    #[error("has no build or no attempt")]
    Number,
    /// No builder or repository is named so.
    #[error("has a bad name: {0}")]
    Name(#[from] ParseNameError),
    /// No commit is named so.
    #[error("has a bad commit: {0}")]
    Commit(#[from] ParseCommitError),
    /// There is no such outcome.
    #[error("has a bad outcome: {0}")]
    Outcome(#[from] ParseOutcomeError),
}

/// Whether a result can be part of the log. Answers what of it is not plain text.
pub fn check_result(result: &BuildResult) -> Result<(CommitHash, Outcome), ResultError> {
    if result.build == 0 || result.attempt == 0 {
        return Err(ResultError::Number);
    }
    result.builder.parse::<BuilderName>()?;
    result.repository.parse::<RepositoryName>()?;
    Ok((result.commit.parse()?, result.outcome.parse()?))
}

impl Builds {
    /// Adds a result. Answers whether it is one; a second result of the same attempt changes nothing.
    pub(super) fn add(&mut self, strings: &mut Strings, result: &BuildResult) -> bool {
        let Ok((commit, outcome)) = check_result(result) else { return false };
        let key = (result.build, result.attempt);
        if self.attempts.contains_key(&key) {
            return true;
        }
        let builder = strings.intern(Name::new(result.builder.as_bytes()));
        let entry = Entry {
            builder,
            repository: strings.intern(Name::new(result.repository.as_bytes())),
            reason: strings.intern(Name::new(result.reason.as_bytes())),
            commit,
            outcome,
            started: time(result.started.as_ref()),
            ended: time(result.ended.as_ref()),
            is_try: result.is_try,
        };
        self.attempts.insert(key, entry);
        self.by_commit.insert((commit, builder, key));
        true
    }

    /// All results as they were told, in the order of their keys.
    pub(super) fn results<'a>(&'a self, strings: &'a Strings) -> impl Iterator<Item = BuildResult> + use<'a> {
        let stamp = |at: Timestamp| {
            Some(prost_types::Timestamp { seconds: at.seconds(), nanos: at.subsecond_nanos() })
        };
        self.attempts.iter().map(move |(key, entry)| BuildResult {
            build: key.0,
            attempt: key.1,
            builder: strings.text(entry.builder).to_owned(),
            repository: strings.text(entry.repository).to_owned(),
            commit: entry.commit.to_string(),
            outcome: entry.outcome.to_string(),
            reason: strings.text(entry.reason).to_owned(),
            started: stamp(entry.started),
            ended: stamp(entry.ended),
            is_try: entry.is_try,
        })
    }

    pub(super) fn contains(&self, key: AttemptKey) -> bool {
        self.attempts.contains_key(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn get<'a>(&'a self, strings: &'a Strings, key: AttemptKey) -> Option<Attempt<'a>> {
        self.attempts.get(&key).map(|entry| view(strings, key, entry))
    }

    /// The results of one commit by one builder, the latest attempt last.
    pub(super) fn of<'a>(
        &'a self,
        strings: &'a Strings,
        commit: CommitHash,
        builder: &str,
    ) -> impl DoubleEndedIterator<Item = Attempt<'a>> + use<'a> {
        let builder = strings.find(builder);
        let range = builder.map(|builder| {
            self.by_commit.range((commit, builder, (0, 0))..=(commit, builder, (u64::MAX, u32::MAX)))
        });
        let attempts = &self.attempts;
        range
            .into_iter()
            .flatten()
            .filter_map(move |(_, _, key)| attempts.get(key).map(|entry| view(strings, *key, entry)))
    }

    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.attempts.len() != self.by_commit.len() {
            problems.push(format!(
                "{} results are known, and {} by their commit",
                self.attempts.len(),
                self.by_commit.len()
            ));
        }
        for (key, entry) in &self.attempts {
            if !self.by_commit.contains(&(entry.commit, entry.builder, *key)) {
                problems.push(format!("the result of {}.{} is not found by its commit", key.0, key.1));
            }
        }
    }
}

fn view<'a>(strings: &'a Strings, key: AttemptKey, entry: &Entry) -> Attempt<'a> {
    Attempt {
        key,
        builder: strings.text(entry.builder),
        repository: strings.text(entry.repository),
        commit: entry.commit,
        outcome: entry.outcome,
        reason: strings.text(entry.reason),
        started: entry.started,
        ended: entry.ended,
        is_try: entry.is_try,
    }
}

fn time(at: Option<&prost_types::Timestamp>) -> Timestamp {
    at.map_or(Timestamp::default(), |at| Timestamp::from_parts(at.seconds, at.nanos))
}
