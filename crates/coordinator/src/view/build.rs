//! One build as its page shows it.

use pages::SourceError;
use pages::view::{
    AttemptLine, BuildView, CommitRef, Elsewhere, Failure, LogLine, LogSummary, MachineUse, Reuse, ShardView,
    Snapshot, SnapshotUse, State as Word, StepView, TestCount, Waiting,
};
use store::logs::LogStore;
use types::{BuildNumber, MachineName, Outcome, Phase};

use super::{
    Active, AttemptFull, Full, LogPart, MergedLog,
    cause::Cause,
    cell,
    explain::{Depth, FAILURES, Looked},
    full::ViewError,
    source::{PagesSource, is_failure, unread},
};
use crate::{
    core::{Plan, Role, Shard, ShardState, StepRecord, WaitReason},
    records::{load, read, read::BuildRecord},
};

/// How much of the end of a failed part is looked at for the line that tells.
const TAIL: u64 = 64 << 10;
/// How many lines of a failure are shown.
const LINES: usize = 20;

/// A commit as people recognise it.
pub(super) fn commit(record: &BuildRecord) -> CommitRef {
    CommitRef {
        hash: record.commit,
        subject: record.subject.clone(),
        author: record.author.clone(),
        time: record.commit_time,
    }
}

/// A wait for the page.
pub(super) fn waiting(reason: &WaitReason, position: Option<u64>) -> Waiting {
    Waiting {
        code: reason.code.as_str().to_owned(),
        text: reason.text.clone(),
        unblock: reason.unblock.clone(),
        since: reason.since,
        position,
        eta_ms: reason.estimate.map(|estimate| estimate.as_millis() as u64),
    }
}

/// The line of a merged log where its failure shows, from 1.
pub(super) async fn failure_line(logs: &LogStore, log: &MergedLog) -> Result<Option<u64>, ViewError> {
    let failed = log.placed().find(|(part, ..)| is_failure(part.outcome));
    let Some((part, byte, _)) = failed else { return Ok(None) };
    let lines = tail(logs, log, part, byte).await?;
    let told = lines.iter().find(|line| line.hit).or(lines.last());
    Ok(told.map(|line| line.number))
}

/// The last lines that the command of a part wrote, those that tell marked. What the farm says of a command is shown
/// only where the command itself said nothing.
pub(super) async fn tail(
    logs: &LogStore,
    log: &MergedLog,
    part: &LogPart,
    byte: u64,
) -> Result<Vec<LogLine>, ViewError> {
    let end = byte + if part.own_bytes > 0 { part.own_bytes } else { part.bytes };
    let (first, start) = log.line_at(logs, end.saturating_sub(TAIL).max(byte)).await?;
    let bytes = log.bytes(logs, start..end).await?;
    let text = String::from_utf8_lossy(&bytes);
    let line = |(index, text): (usize, &str)| LogLine {
        number: first + index as u64,
        text: text.chars().take(400).collect(),
        hit: pages::is_telling(text),
    };
    Ok(text.lines().enumerate().map(line).collect())
}

impl PagesSource {
    pub(crate) async fn build_view(
        &self,
        number: BuildNumber,
        wanted: Option<u32>,
    ) -> Result<BuildView, SourceError> {
        let full = self.viewer.full(number, false).await?;
        let plan = load::plan(&self.viewer.database, &full.record.plan).await.map_err(ViewError::from)?;
        let found = match wanted {
            None => full.attempts.last(),
            Some(wanted) => {
                let found = full.attempts.iter().find(|found| found.row.id.attempt == wanted);
                let id = types::AttemptId { build: number, attempt: wanted };
                Some(found.ok_or_else(|| SourceError::from(ViewError::UnknownAttempt(id)))?)
            }
        };
        let record = &full.record;
        let last = wanted.is_none()
            || found.map(|found| found.row.id) == full.attempts.last().map(|last| last.row.id);
        let active = full.active.as_ref().filter(|_| last);
        let log = match found {
            Some(found) => self.viewer.log(number, Some(found.row.id.attempt)).await?,
            None => None,
        };
        let end = found.and_then(|found| found.row.end.clone());
        let outcome = if last { record.outcome } else { end.as_ref().map(|(_, outcome, _)| *outcome) };
        let flakes = found.map_or(0, |found| found.shards.iter().filter(|shard| shard.is_flaky()).count());
        let flakes = if last { record.flakes.max(flakes as u32) } else { flakes as u32 };
        let state =
            outcome.map_or(active.map_or(Word::Waiting, running_word), |outcome| cell::word(outcome, flakes));
        let (previous, next) = self.neighbours(record).await?;
        let mut view = BuildView {
            number,
            attempt: found.map_or(0, |found| found.row.id.attempt),
            attempts: full.attempts.iter().map(attempt_line).collect(),
            builder: record.builder.clone(),
            host: plan.host.clone(),
            repository: record.repository.clone(),
            branch: record.branch(),
            is_try: record.is_try,
            commit: commit(record),
            state,
            percent: active.filter(|_| state == Word::Running).map(|active| cell::percent(&active.build)),
            phase: active.map(Active::phase),
            reason: if last {
                record.reason.clone()
            } else {
                end.as_ref().map(|(_, _, reason)| reason.clone()).unwrap_or_default()
            },
            likely_cause: None,
            tests: found.and_then(test_count),
            created: record.created,
            started: found.map(|found| found.row.started),
            ended: if last { record.ended } else { end.map(|(ended, ..)| ended) },
            waiting: active
                .and_then(|active| active.wait.as_ref().map(|wait| waiting(wait, active.position))),
            failures: Vec::new(),
            steps: found.map(steps).unwrap_or_default(),
            shards: Vec::new(),
            snapshot: found.map(|found| snapshot(found, &plan)),
            reuse: self.reuse(&plan),
            machines: found.map(|found| machines(found, &full)).unwrap_or_default(),
            log: LogSummary::default(),
            elsewhere: self.elsewhere(record).await?,
            previous,
            next,
            notes: [self.retries(record).await?, found.map(notes).unwrap_or_default()].concat(),
            can_cancel: record.outcome.is_none(),
        };
        let Some(found) = found else { return Ok(view) };
        view.shards = found.shards.iter().map(|found| shard(found, active, log.as_deref())).collect();
        if let Some(log) = log {
            view.log =
                LogSummary { bytes: log.len(), lines: self.lines(&log).await?, finished: log.finished };
            view.failures = self.failures(found, &log).await?;
            self.blame(Looked::at(&full, found), &mut view).await?;
        }
        Ok(view)
    }

    /// How often and why a build was begun again, in words.
    async fn retries(&self, record: &BuildRecord) -> Result<Vec<String>, SourceError> {
        let found = match record.attempts {
            0 => Vec::new(),
            _ => read::retries(&self.viewer.database, record.number).await.map_err(unread)?,
        };
        Ok(found.iter().map(|(after, why)| format!("begun again after attempt {after}: {why}")).collect())
    }

    /// Says of the first failures whether they are new here, and whose fault they seem to be.
    async fn blame(&self, looked: Looked<'_>, view: &mut BuildView) -> Result<(), SourceError> {
        let first: Vec<Failure> = view.failures.iter().take(FAILURES).cloned().collect();
        let explained = self.explain_all(looked, first, Depth::Shallow).await?;
        for (failure, told) in view.failures.iter_mut().zip(&explained) {
            failure.is_new = match told.cause {
                Cause::Commit => Some(true),
                Cause::OlderCommit => Some(false),
                Cause::Flake | Cause::Infrastructure | Cause::Unclear => None,
            };
        }
        if looked.found.row.end.is_some() {
            let worst = explained.iter().min_by_key(|told| told.cause);
            view.likely_cause = worst.map(|told| format!("{}: {}", told.failure.name, told.text));
        }
        Ok(())
    }

    fn reuse(&self, plan: &Plan) -> Reuse {
        match self.settings.farm().host(&plan.host).map(|host| host.reuse) {
            Some(buildspec::Reuse::Never) => Reuse::Never,
            Some(buildspec::Reuse::Shared) => Reuse::Shared,
            Some(buildspec::Reuse::Wiped) | None => Reuse::Wiped,
        }
    }

    async fn elsewhere(&self, record: &BuildRecord) -> Result<Vec<Elsewhere>, SourceError> {
        let others = read::of_commit(&self.viewer.database, &record.repository, record.commit)
            .await
            .map_err(unread)?;
        let other = |other: BuildRecord| Elsewhere {
            state: other
                .outcome
                .map_or_else(|| unended(other.attempts), |outcome| cell::word(outcome, other.flakes)),
            builder: other.builder,
            build: Some(other.number),
        };
        Ok(others.into_iter().filter(|other| other.number != record.number).map(other).collect())
    }

    /// The builds of this builder at the commits before and after, on the same branch.
    async fn neighbours(
        &self,
        record: &BuildRecord,
    ) -> Result<(Option<BuildNumber>, Option<BuildNumber>), SourceError> {
        let database = &self.viewer.database;
        let args = || {
            vec![
                (&record.builder).into(),
                (&record.repository).into(),
                record.git_ref.as_str().into(),
                record.commit_time.into(),
            ]
        };
        let before = "SELECT number FROM builds WHERE builder = $1 AND repository = $2 AND git_ref = $3 \
                      AND is_try = 0 AND commit_time < $4 ORDER BY commit_time DESC LIMIT 1";
        let after = "SELECT number FROM builds WHERE builder = $1 AND repository = $2 AND git_ref = $3 \
                     AND is_try = 0 AND commit_time > $4 ORDER BY commit_time LIMIT 1";
        let number = |row: Option<store::Row>| row.and_then(|row| row.number("number").ok()).map(BuildNumber);
        let previous = number(database.read_first(before, args()).await.map_err(unread)?);
        let next = number(database.read_first(after, args()).await.map_err(unread)?);
        Ok((previous, next))
    }

    pub(super) async fn failures(
        &self,
        found: &AttemptFull,
        log: &MergedLog,
    ) -> Result<Vec<Failure>, SourceError> {
        let mut failures = Vec::new();
        for (part, byte, _) in log.placed() {
            let Some(outcome) = part.outcome.filter(|outcome| is_failure(Some(*outcome))) else { continue };
            let lines = tail(&self.viewer.logs, log, part, byte).await?;
            let told = lines.iter().position(|line| line.hit);
            let from = told.map_or(lines.len().saturating_sub(LINES), |at| at.saturating_sub(4));
            let shard = found.shards.iter().find(|shard| part.shard > 0 && shard.number == part.shard);
            failures.push(Failure {
                name: part.name.clone(),
                test: shard.filter(|shard| shard.tests.len() == 1).map(|shard| shard.tests[0].clone()),
                state: if part.flaky { Word::Flaky } else { outcome.into() },
                shard: (part.shard > 0 && found.shards.len() > 1).then_some(part.shard),
                machine: shard.and_then(failed_on).or_else(|| main_machine(found)),
                duration_ms: part.millis,
                detail: shard.map(|shard| shard.note.clone()).unwrap_or_default(),
                is_new: None,
                known: None,
                lines: lines.into_iter().skip(from).take(LINES).collect(),
            });
        }
        Ok(failures)
    }
}

/// Where a shard failed, of which the log has what it wrote there.
fn failed_on(shard: &Shard) -> Option<MachineName> {
    shard.first.as_ref().map(|first| first.machine.clone()).or_else(|| shard.machine.clone())
}

/// How a build stands that has not ended, as far as its row tells.
pub(super) fn unended(attempts: u32) -> Word {
    if attempts > 0 { Word::Running } else { Word::Waiting }
}

fn running_word(active: &Active) -> Word {
    if active.build.attempt().is_none() || active.build.needs_machine() {
        Word::Waiting
    } else {
        Word::Running
    }
}

fn attempt_line(found: &AttemptFull) -> AttemptLine {
    let end = found.row.end.as_ref();
    AttemptLine {
        number: found.row.id.attempt,
        state: end.map_or(Word::Running, |(_, outcome, _)| (*outcome).into()),
        reason: end.map(|(_, _, reason)| reason.clone()).unwrap_or_default(),
        started: found.row.started,
        ended: end.map(|(ended, ..)| *ended),
    }
}

fn test_count(found: &AttemptFull) -> Option<TestCount> {
    let total: usize = found.shards.iter().map(|shard| shard.tests.len()).sum();
    let failed = found.shards.iter().filter(|shard| is_failure(shard.outcome())).count();
    (total > 0).then_some(TestCount { total: total as u64, failed: failed as u64 })
}

fn steps(found: &AttemptFull) -> Vec<StepView> {
    let over = |step: &StepRecord| StepView {
        phase: step.phase,
        machine: step.machine.clone(),
        shard: (step.shard > 0).then_some(step.shard),
        started: step.started,
        ended: Some(step.ended),
        state: step.outcome.into(),
        detail: step.detail.clone(),
    };
    let running = found.now.iter().map(|(machine, phase, shard, since)| StepView {
        phase: *phase,
        machine: Some(machine.clone()),
        shard: (*shard > 0).then_some(*shard),
        started: *since,
        ended: None,
        state: Word::Running,
        detail: String::new(),
    });
    found.steps.iter().map(over).chain(running).collect()
}

fn shard(shard: &Shard, active: Option<&Active>, log: Option<&MergedLog>) -> ShardView {
    let state = match shard.state {
        ShardState::Ended(_) if shard.is_flaky() => Word::Flaky,
        ShardState::Ended(outcome) => outcome.into(),
        ShardState::Running(_) => Word::Running,
        ShardState::Waiting => Word::Waiting,
    };
    let waits = active.and_then(|active| active.shard_waits.get(&shard.number));
    let note = if shard.note.is_empty() {
        waits.map(|wait| wait.text.clone()).unwrap_or_default()
    } else {
        shard.note.clone()
    };
    let line = log.and_then(|log| log.placed().find(|(part, ..)| part.shard == shard.number));
    ShardView {
        number: shard.number,
        state,
        tests: shard.tests.iter().take(100).cloned().collect(),
        test_count: shard.tests.len() as u64,
        machine: shard.machine.clone(),
        tries: shard.tries,
        started: shard.started,
        ended: shard.ended,
        note,
        line: line.map(|(_, _, before)| before + 1),
    }
}

fn snapshot(found: &AttemptFull, plan: &Plan) -> Snapshot {
    let of = |phase: Phase| found.steps.iter().find(|step| step.phase == phase && step.shard == 0);
    let passed = |step: &&StepRecord| step.outcome == Outcome::Passed;
    // Helpers fetch too: only a fetch before any making is a reuse.
    let reused = found.row.make_exec.is_none();
    let (r#use, detail) = if let Some(step) = of(Phase::SnapshotFetch).filter(passed).filter(|_| reused) {
        (SnapshotUse::Reused, step.detail.clone())
    } else if let Some(step) = of(Phase::SnapshotStore).filter(passed) {
        (SnapshotUse::Made, step.detail.clone())
    } else if let Some(step) = of(Phase::SnapshotStore) {
        (SnapshotUse::None, format!("it could not be stored: {}", step.detail))
    } else if plan.snapshot.is_none() {
        (SnapshotUse::None, "this builder keeps none".to_owned())
    } else {
        (SnapshotUse::None, String::new())
    };
    Snapshot { r#use, bytes: None, from: None, detail }
}

pub(super) fn main_machine(found: &AttemptFull) -> Option<MachineName> {
    found
        .steps
        .iter()
        .find_map(|step| step.machine.clone())
        .or_else(|| found.now.first().map(|now| now.0.clone()))
}

fn machines(found: &AttemptFull, full: &Full) -> Vec<MachineUse> {
    let main = main_machine(found);
    let mut names: Vec<MachineName> = Vec::new();
    let used = found.steps.iter().filter_map(|step| step.machine.clone());
    for name in used.chain(found.now.iter().map(|now| now.0.clone())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let live = full.active.as_ref().map(|active| active.leases.as_slice()).unwrap_or_default();
    let note = |name: &MachineName| {
        let lost = |step: &&StepRecord| {
            step.machine.as_ref() == Some(name) && step.outcome == Outcome::Infrastructure
        };
        found.steps.iter().find(lost).map(|step| step.detail.clone()).unwrap_or_default()
    };
    let one = |name: MachineName| MachineUse {
        main: live
            .iter()
            .find(|lease| lease.machine == name)
            .map_or(Some(&name) == main.as_ref(), |lease| lease.role == Role::Main),
        note: note(&name),
        name,
    };
    names.into_iter().map(one).collect()
}

fn notes(found: &AttemptFull) -> Vec<String> {
    let by_fault =
        |shard: &&Shard| shard.tries > 1 + u32::from(shard.first.is_some()) && !shard.note.is_empty();
    let repeated = found.shards.iter().filter(by_fault);
    repeated
        .map(|shard| format!("shard {} was begun {} times: {}", shard.number, shard.tries, shard.note))
        .collect()
}
