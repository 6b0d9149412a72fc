//! A build with all that is known of it: rows for what is over, the state for what goes on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use store::{Database, ReadError, logs::LogStore};
use types::{AttemptId, BuildNumber, Phase, Timestamp};

use super::MergedLog;
use crate::{
    core::{Attempt, AttemptRow, Build, Lease, Shard, State, StepRecord, WaitReason},
    records::{
        load::{self, LoadError},
        read::{self, BuildRecord},
    },
    shell::{Handle, Stopped},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    /// There is no such build.
    #[error("there is no build {0}")]
    UnknownBuild(BuildNumber),
    /// There is no such attempt.
    #[error("build {} has no attempt {}", .0.build, .0.attempt)]
    UnknownAttempt(AttemptId),
    /// Shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The rows cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] store::logs::LogError),
}

impl From<ReadError> for ViewError {
    fn from(error: ReadError) -> Self {
        Self::Load(error.into())
    }
}

/// What goes on in a build.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) build: Build,
    pub(crate) leases: Vec<Lease>,
    pub(crate) wait: Option<WaitReason>,
    /// Its place in the queue, from 1.
    pub(crate) position: Option<u64>,
    /// Why shards wait, by number.
    pub(crate) shard_waits: BTreeMap<u32, WaitReason>,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptFull {
    pub(crate) row: AttemptRow,
    pub(crate) shards: Vec<Shard>,
    pub(crate) steps: Vec<StepRecord>,
    /// What is done now: machine, phase, shard, since when.
    pub(crate) now: Vec<(types::MachineName, Phase, u32, Timestamp)>,
}

/// A build with its attempts.
#[derive(Debug, Clone)]
pub(crate) struct Full {
    pub(crate) record: BuildRecord,
    pub(crate) active: Option<Active>,
    pub(crate) attempts: Vec<AttemptFull>,
}

/// How many logs of attempts that have ended are remembered, as lists of parts.
const KEPT: usize = 64;

/// Looks at builds. Clones share what was seen.
#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) handle: Handle,
    pub(crate) database: Database,
    pub(crate) logs: LogStore,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    logs: BTreeMap<AttemptId, Arc<MergedLog>>,
    order: VecDeque<AttemptId>,
}

impl Active {
    /// What is known of an active build.
    pub(crate) fn of(state: &State, number: BuildNumber) -> Option<Self> {
        let build = state.build(number)?.clone();
        let leases = build
            .attempt()
            .map(|attempt| attempt.leases().filter_map(|id| state.lease(id)).cloned().collect::<Vec<_>>());
        let shards = build.attempt().map_or(0, |attempt| attempt.shards.len() as u32);
        let position = build.needs_machine().then(|| state.position(number));
        Some(Self {
            // A build that runs may still wait for help.
            wait: state.wait_reason(number).or_else(|| state.helper_wait(number)),
            position,
            shard_waits: (1..=shards.min(200))
                .filter_map(|n| Some((n, state.shard_wait(number, n)?)))
                .collect(),
            leases: leases.unwrap_or_default(),
            build,
        })
    }

    /// What it does now: what its main machine does, or what it waits for.
    pub(crate) fn phase(&self) -> Phase {
        let main = self.build.attempt().and_then(|attempt| attempt.main);
        let lease = self.leases.iter().find(|lease| Some(lease.id) == main).or_else(|| self.leases.first());
        lease.map_or(Phase::Queued, |lease| lease.task.phase())
    }

    fn attempt(&self) -> Option<AttemptFull> {
        let attempt: &Attempt = self.build.attempt()?;
        let running = |lease: &Lease| {
            let works = lease.task != crate::core::Task::Wait;
            works.then(|| (lease.machine.clone(), lease.task.phase(), lease.task.shard(), lease.task_since))
        };
        Some(AttemptFull {
            row: AttemptRow::of(self.build.number, attempt),
            shards: attempt.shards.clone(),
            steps: attempt.steps.clone(),
            now: self.leases.iter().filter_map(running).collect(),
        })
    }
}

impl Viewer {
    pub(crate) fn new(handle: Handle, database: Database, logs: LogStore) -> Self {
        Self { handle, database, logs, kept: Arc::default() }
    }

    /// What goes on in some builds; those that have ended are left out.
    pub(crate) async fn active(
        &self,
        numbers: Vec<BuildNumber>,
    ) -> Result<BTreeMap<BuildNumber, Active>, Stopped> {
        if numbers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let look = move |state: &State| {
            numbers.into_iter().filter_map(|number| Some((number, Active::of(state, number)?))).collect()
        };
        self.handle.ask(look).await
    }

    /// A build with the attempt that runs now, if one does: one row and a look at the state.
    pub(crate) async fn brief(&self, number: BuildNumber) -> Result<Full, ViewError> {
        // The state first: a build that ends in between is then whole in the rows.
        let active = self.active(vec![number]).await?.remove(&number);
        let record = read::build(&self.database, number).await?.ok_or(ViewError::UnknownBuild(number))?;
        let active = active.filter(|_| record.outcome.is_none());
        let attempts = active.as_ref().and_then(Active::attempt).into_iter().collect();
        Ok(Full { record, active, attempts })
    }

    /// A build with all its attempts, or the last only.
    pub(crate) async fn full(&self, number: BuildNumber, last_only: bool) -> Result<Full, ViewError> {
        let Full { record, active, attempts: running } = self.brief(number).await?;
        if last_only && !running.is_empty() {
            return Ok(Full { record, active, attempts: running });
        }
        let running = running.into_iter().next();
        let mut attempts = Vec::new();
        let rows = load::attempts(&self.database, number).await?;
        let skip = if last_only { rows.len().saturating_sub(1) } else { 0 };
        for row in rows.into_iter().skip(skip) {
            if running.as_ref().is_some_and(|running| running.row.id == row.id) {
                continue;
            }
            let id = row.id;
            attempts.push(AttemptFull {
                shards: load::shards(&self.database, id).await?,
                steps: load::steps(&self.database, id).await?,
                now: Vec::new(),
                row,
            });
        }
        attempts.extend(running);
        Ok(Full { record, active, attempts })
    }

    /// The merged log of an attempt; of the last one if none is named. None before the first has begun.
    pub(crate) async fn log(
        &self,
        number: BuildNumber,
        attempt: Option<u32>,
    ) -> Result<Option<Arc<MergedLog>>, ViewError> {
        if let Some(attempt) = attempt
            && let Some(kept) = self.kept().logs.get(&AttemptId { build: number, attempt })
        {
            return Ok(Some(Arc::clone(kept)));
        }
        let full = self.full(number, attempt.is_none()).await?;
        let found = match attempt {
            Some(wanted) => full.attempts.iter().find(|found| found.row.id.attempt == wanted),
            None => full.attempts.last(),
        };
        let Some(found) = found else {
            return match attempt {
                Some(attempt) if full.record.outcome.is_some() || attempt > 1 => {
                    Err(ViewError::UnknownAttempt(AttemptId { build: number, attempt }))
                }
                _ => Ok(None),
            };
        };
        let own = load::own_output(&self.database, found.row.id).await?;
        let log = Arc::new(MergedLog::read(&self.logs, found, &own).await?);
        if log.finished {
            self.kept().keep(found.row.id, Arc::clone(&log));
        }
        Ok(Some(log))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, id: AttemptId, log: Arc<MergedLog>) {
        if self.logs.insert(id, log).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.logs.remove(&oldest);
        }
    }
}
