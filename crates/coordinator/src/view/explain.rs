//! Why a build failed: each failure with whose fault it seems to be, and what says so. Everything is bounded: a few
//! failures, a few lines, a few builds of the past.

use std::collections::BTreeMap;

use pages::{
    SourceError,
    view::{Failure, LogLine, State as Word, TestLine},
};
use types::{BuildNumber, CommitHash, MachineName, Outcome, Phase, Share};

use super::{
    AttemptFull, Full, MergedLog, ViewError,
    build::{main_machine, tail},
    cause::{Cause, Evidence, Runs, judge},
    past::{Item, Past, Said},
    signature::signature,
    source::{PagesSource, stopping, unread},
};
use crate::{core::State, records::read::BuildRecord};

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

/// An attempt whose failures are explained.
#[derive(Clone, Copy)]
pub(super) struct Looked<'a> {
    pub(super) record: &'a BuildRecord,
    pub(super) found: &'a AttemptFull,
    /// Another attempt at the same commit, which did the same.
    pub(super) other: Option<Other<'a>>,
}

/// When the other attempt was.
#[derive(Clone, Copy)]
pub(super) enum Other<'a> {
    /// It failed before.
    Before(&'a AttemptFull),
    /// It passed after.
    After(&'a AttemptFull),
}

/// The explanation of a build: how it stands now is told elsewhere.
pub(crate) struct Explanation {
    pub(crate) failures: Vec<Explained>,
    pub(crate) more: usize,
}

impl PagesSource {
    /// Why the last attempt of a build failed, as far as it has; of one that passed, why the one before it failed.
    pub(crate) async fn explain(&self, number: BuildNumber) -> Result<Explanation, SourceError> {
        let full = self.viewer.full(number, false).await?;
        let nothing = Explanation { failures: Vec::new(), more: 0 };
        let Some(last) = full.attempts.last() else { return Ok(nothing) };
        let (mut explained, mut more) = self.explain_attempt(Looked::at(&full, last)).await?;
        if full.record.outcome == Some(Outcome::Passed)
            && let Some(before) = failed_before(&full)
        {
            let (overturned, left_out) = self.explain_attempt(Looked::at(&full, before)).await?;
            explained.extend(overturned);
            more += left_out + explained.len().saturating_sub(FAILURES);
            explained.truncate(FAILURES);
        }
        explained.sort_by_key(|one| one.cause);
        Ok(Explanation { failures: explained, more })
    }

    /// What failed in an attempt, and how much of it is left out.
    async fn explain_attempt(&self, looked: Looked<'_>) -> Result<(Vec<Explained>, usize), SourceError> {
        let id = looked.found.row.id;
        let Some(log) = self.viewer.log(id.build, Some(id.attempt)).await? else {
            return Ok((Vec::new(), 0));
        };
        let mut failures = self.failures(looked.found, &log).await?;
        // What flaked is told last.
        failures.sort_by_key(|failure| failure.state == Word::Flaky);
        let more = failures.len().saturating_sub(FAILURES);
        failures.truncate(FAILURES);
        Ok((self.explain_all(looked, failures, Depth::Deep).await?, more))
    }

    /// Explains failures of an attempt.
    pub(super) async fn explain_all(
        &self,
        looked: Looked<'_>,
        failures: Vec<Failure>,
        depth: Depth,
    ) -> Result<Vec<Explained>, SourceError> {
        if failures.is_empty() {
            return Ok(Vec::new());
        }
        let mut past = Past::of(&self.viewer.database, looked.record).await.map_err(unread)?;
        let sick = self.sick().await?;
        let mut explained = Vec::with_capacity(failures.len());
        for failure in failures {
            explained.push(self.explain_one(looked, (&mut past, &sick), failure, depth).await?);
        }
        Ok(explained)
    }

    /// Why machines are in quarantine.
    async fn sick(&self) -> Result<BTreeMap<MachineName, String>, SourceError> {
        let look = |state: &State| {
            let sick = state.machines().filter(|machine| !machine.quarantine.is_empty());
            sick.map(|machine| (machine.info.name.clone(), machine.quarantine.clone())).collect()
        };
        self.viewer.handle.ask(look).await.map_err(stopping)
    }

    async fn explain_one(
        &self,
        looked: Looked<'_>,
        (past, sick): (&mut Past, &BTreeMap<MachineName, String>),
        failure: Failure,
        depth: Depth,
    ) -> Result<Explained, SourceError> {
        let Looked { record, found, .. } = looked;
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
        let again = shard.is_some_and(|shard| shard.first.is_some());
        let machines =
            if again { shard.map(machines).unwrap_or_default() } else { looked.machines(&failure) };
        let outcome = match (failure.state, shard.and_then(|shard| shard.first.as_ref())) {
            (Word::Infrastructure, _) => Outcome::Infrastructure,
            (_, Some(first)) => first.outcome,
            (Word::TimedOut, None) => Outcome::TimedOut,
            _ => Outcome::Failed,
        };
        // What passed in a later attempt at the same commit was chance's fault, or a machine's.
        let state = match (failure.state, looked.other) {
            (Word::Failed | Word::TimedOut, Some(Other::After(_))) => Word::Flaky,
            (state, _) => state,
        };
        let evidence = Evidence {
            state,
            runs: Runs::of(&machines),
            sick: blamed(state, &machines, sick),
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

impl<'a> Looked<'a> {
    /// An attempt of a build, with the one that it repeated or that repeated it.
    pub(super) fn at(full: &'a Full, found: &'a AttemptFull) -> Self {
        let last = full.attempts.last().filter(|last| last.row.id != found.row.id);
        let other = match last {
            None => failed_before(full).map(Other::Before),
            Some(last) => {
                let passed = full.record.outcome == Some(Outcome::Passed);
                let repeated = failed_before(full).is_some_and(|before| before.row.id == found.row.id);
                (passed && repeated).then_some(Other::After(last))
            }
        };
        Self { record: &full.record, found, other }
    }

    /// Where something ran that was run once in its attempt, and once in the other if that is known.
    fn machines(&self, failure: &Failure) -> Vec<MachineName> {
        let phase = if failure.name == "make" { Phase::Make } else { Phase::Test };
        let there = |attempt: &AttemptFull| {
            let step = attempt.steps.iter().find(|step| step.phase == phase);
            step.and_then(|step| step.machine.clone()).or_else(|| main_machine(attempt))
        };
        let here = failure.machine.clone();
        let both = match self.other {
            Some(Other::Before(attempt)) if phase == Phase::Make => [there(attempt), here],
            Some(Other::After(attempt)) => [here, there(attempt)],
            // Tests that failed before are no reason to believe that this one did.
            Some(Other::Before(_)) | None => [here, None],
        };
        both.into_iter().flatten().collect()
    }
}

/// The attempt before the last, if it ended with a verdict: the last repeated it.
fn failed_before(full: &Full) -> Option<&AttemptFull> {
    let before = full.attempts.iter().rev().nth(1)?;
    let (_, outcome, _) = before.row.end.as_ref()?;
    matches!(outcome, Outcome::Failed | Outcome::TimedOut).then_some(before)
}

/// The machine in quarantine that is to blame: all that failed did so there.
fn blamed(
    state: Word,
    machines: &[MachineName],
    sick: &BTreeMap<MachineName, String>,
) -> Option<(MachineName, String)> {
    let failed = if state == Word::Flaky { machines.get(..1)? } else { machines };
    let mut known = failed.iter().map(|machine| Some((machine.clone(), sick.get(machine)?.clone())));
    let first = known.next()??;
    known.all(|machine| machine.is_some()).then_some(first)
}

/// Where a shard ran, in order.
fn machines(shard: &crate::core::Shard) -> Vec<MachineName> {
    let first = shard.first.as_ref().map(|first| first.machine.clone());
    first.into_iter().chain(shard.machine.clone()).collect()
}
