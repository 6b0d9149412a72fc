//! Why a build failed: each failure with whose fault it seems to be, and what says so. Everything is bounded: a few
//! failures, a few lines, a few builds of the past.

use pages::{
    SourceError,
    view::{Failure, LogLine, State as Word, TestLine},
};
use types::{BuildNumber, CommitHash, MachineName, Outcome, Share};

use super::{
    AttemptFull, MergedLog, ViewError,
    build::tail,
    cause::{Cause, Evidence, Runs, judge},
    past::{Item, Past, Said},
    signature::signature,
    source::{PagesSource, unread},
};
use crate::records::read::BuildRecord;

/// How many failures are explained.
pub(crate) const FAILURES: usize = 5;
/// How many earlier failures are compared with one.
const COMPARED: usize = 3;

/// A failure and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    pub(crate) failure: Failure,
    pub(crate) outcome: Outcome,
    pub(crate) cause: Cause,
    /// Why, in a sentence.
    pub(crate) text: String,
    /// Where it ran, in order.
    pub(crate) machines: Vec<MachineName>,
    /// Of what failed before: the first build of the row.
    pub(crate) since: Option<BuildNumber>,
    /// The newest earlier build in which it passed, and its commit.
    pub(crate) passed: Option<(BuildNumber, CommitHash)>,
    /// How it fares at the newest commit.
    pub(crate) tip: Tip,
    pub(crate) rate: Option<Share>,
    pub(crate) signature: String,
    /// Builds that failed alike.
    pub(crate) alike: Vec<BuildNumber>,
}

/// How something fares at the newest commit that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tip {
    /// Nobody knows.
    Unknown,
    /// This is it.
    This,
    /// It passes or fails in that build.
    Is(Said, BuildNumber),
}

/// How deep is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// At the commit before only.
    Shallow,
    /// Since when, how often, and what looked alike.
    Deep,
}

/// The explanation of a build: how it stands now is told elsewhere.
pub(crate) struct Explanation {
    pub(crate) failures: Vec<Explained>,
    pub(crate) more: usize,
}

impl PagesSource {
    /// Why the last attempt of a build failed, as far as it has.
    pub(crate) async fn explain(&self, number: BuildNumber) -> Result<Explanation, SourceError> {
        let full = self.viewer.full(number, true).await?;
        let nothing = Explanation { failures: Vec::new(), more: 0 };
        let Some(found) = full.attempts.last() else { return Ok(nothing) };
        let Some(log) = self.viewer.log(number, Some(found.row.id.attempt)).await? else {
            return Ok(nothing);
        };
        let mut failures = self.failures(found, &log).await?;
        // What flaked is told last.
        failures.sort_by_key(|failure| failure.state == Word::Flaky);
        let more = failures.len().saturating_sub(FAILURES);
        failures.truncate(FAILURES);
        let mut explained = self.explain_all(&full.record, found, failures, Depth::Deep).await?;
        explained.sort_by_key(|one| one.cause);
        Ok(Explanation { failures: explained, more })
    }

    /// Explains failures of an attempt.
    pub(super) async fn explain_all(
        &self,
        record: &BuildRecord,
        found: &AttemptFull,
        failures: Vec<Failure>,
        depth: Depth,
    ) -> Result<Vec<Explained>, SourceError> {
        if failures.is_empty() {
            return Ok(Vec::new());
        }
        let mut past = Past::of(&self.viewer.database, record).await.map_err(unread)?;
        let mut explained = Vec::with_capacity(failures.len());
        for failure in failures {
            explained.push(self.explain_one(record, found, &mut past, failure, depth).await?);
        }
        Ok(explained)
    }

    async fn explain_one(
        &self,
        record: &BuildRecord,
        found: &AttemptFull,
        past: &mut Past,
        failure: Failure,
        depth: Depth,
    ) -> Result<Explained, SourceError> {
        let deep = depth == Depth::Deep;
        let shard = failure
            .shard
            .and_then(|number| found.shards.iter().find(|shard| shard.number == number))
            .or(found.shards.first().filter(|_| found.shards.len() == 1));
        let item = Item::of(&failure.name, shard);
        let before = past.before(&item, deep).await.map_err(unread)?;
        let tip = if deep { past.tip(&item).await.map_err(unread)? } else { Tip::Unknown };
        let line = match &item {
            Item::Test(test) if deep => self.line_of(test, record).await?,
            _ => None,
        };
        let rate = line.as_ref().map(TestLine::flake_rate);
        let machines = shard.map_or_else(|| failure.machine.iter().cloned().collect(), machines);
        let outcome = match (failure.state, shard.and_then(|shard| shard.first.as_ref())) {
            (Word::Infrastructure, _) => Outcome::Infrastructure,
            (_, Some(first)) => first.outcome,
            (Word::TimedOut, None) => Outcome::TimedOut,
            _ => Outcome::Failed,
        };
        let evidence = Evidence {
            state: failure.state,
            runs: Runs::of(&machines, shard.is_some_and(|shard| shard.first.is_some())),
            before: before.nearest,
            since: before.since,
            rate,
        };
        let (cause, text) = judge(&evidence);
        let signature = signature(&failure.lines);
        let alike = match &line {
            Some(line) if !signature.is_empty() => self.alike(record.number, line, &signature).await?,
            _ => Vec::new(),
        };
        let (since, passed) = (before.since, before.passed);
        Ok(Explained { failure, outcome, cause, text, machines, since, passed, tip, rate, signature, alike })
    }

    /// The runs of a test on the builder of a build.
    async fn line_of(&self, test: &str, record: &BuildRecord) -> Result<Option<TestLine>, SourceError> {
        let history = match self.test_history(test).await {
            Ok(history) => history,
            Err(SourceError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = history.builders.into_iter();
        Ok(lines.find(|line| line.builder == record.builder && line.repository == record.repository))
    }

    /// The last failures of a test that look like this one.
    async fn alike(
        &self,
        number: BuildNumber,
        line: &TestLine,
        wanted: &str,
    ) -> Result<Vec<BuildNumber>, SourceError> {
        let failed = line.runs.iter().filter(|run| run.state.is_red() && run.build != number);
        let mut alike: Vec<BuildNumber> = Vec::new();
        for run in failed.take(COMPARED) {
            let log = match self.viewer.log(run.build, Some(run.attempt)).await {
                Ok(Some(log)) => log,
                Ok(None) | Err(ViewError::UnknownAttempt(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let lines = self.lines_of_shard(&log, run.shard).await?;
            if signature(&lines) == wanted && !alike.contains(&run.build) {
                alike.push(run.build);
            }
        }
        Ok(alike)
    }

    async fn lines_of_shard(&self, log: &MergedLog, shard: u32) -> Result<Vec<LogLine>, SourceError> {
        let failed = |outcome| matches!(outcome, Some(Outcome::Failed | Outcome::TimedOut));
        let part = log.placed().find(|(part, ..)| part.shard == shard && failed(part.outcome));
        match part {
            Some((part, byte, _)) => Ok(tail(&self.viewer.logs, log, part, byte).await?),
            None => Ok(Vec::new()),
        }
    }
}

/// Where a shard ran, in order.
fn machines(shard: &crate::core::Shard) -> Vec<MachineName> {
    let first = shard.first.as_ref().map(|first| first.machine.clone());
    first.into_iter().chain(shard.machine.clone()).collect()
}
