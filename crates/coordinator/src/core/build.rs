//! Builds as the core knows them while they are active: their attempts, shards and steps.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use types::{
    AttemptId, BuildNumber, BuilderName, CommitHash, ExecId, LeaseId, MachineName, Outcome, Phase,
    RepositoryName, Timestamp,
};

use super::{BuildRow, Doubt, Plan, queue::Spot};

/// After so many helpers of an attempt that could not begin no further one is asked for.
pub(super) const HELPER_FAULTS: u32 = 3;

/// What makes two requests the same build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuildKey {
    /// The root repository.
    pub repository: RepositoryName,
    /// The builder.
    pub builder: BuilderName,
    /// The root revision.
    pub commit: CommitHash,
    /// What else was asked for (a try of some tests only); empty for the whole.
    pub variant: String,
}

/// What is served first. The order of the variants is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A release waits for it.
    Release,
    /// A person waits for it.
    Interactive,
    /// A change under review waits for it.
    Try,
    /// Nobody waits for it: a commit that is in.
    Batch,
}

/// Names what is left after make, by what went in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotKey(pub Arc<str>);

/// A build that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its number.
    pub number: BuildNumber,
    /// What it is a build of.
    pub key: BuildKey,
    /// What it does.
    pub plan: Arc<Plan>,
    /// What went in, but for the work folder's path: the base of the snapshot's key.
    pub snapshot_base: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// Who wrote it.
    pub author: Arc<str>,
    /// The ref that it was found on; empty for a try.
    pub git_ref: Arc<str>,
    /// When it is served.
    pub class: Class,
    /// A try of a working tree or a change.
    pub is_try: bool,
    /// When the commit was made.
    pub commit_time: Timestamp,
    /// When it was accepted.
    pub created: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Attempts that ended by a fault of the farm: what the budget of [`super::Limits::attempts`] is for.
    pub faults: u32,
    /// How often it lost its main machine to what is more urgent.
    pub preempted: u32,
    /// Attempts begun before it was last asked for again.
    pub earlier: u32,
    /// Its make step failed once and is or was made again.
    pub doubt: Option<Box<Doubt>>,
    /// The tests that are run; all if it is empty, or if none of them is listed.
    pub only: Box<[String]>,
    /// Since when it waits, when it does.
    pub waiting_since: Timestamp,
    /// How the attempt before ended, in words; empty before the first fault.
    pub last_fault: String,
    /// What it does now.
    pub progress: Progress,
    /// Where it is in the queue.
    pub(super) spot: Spot,
}

/// What an active build does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It waits for a machine.
    Queued,
    /// It waits until a point in time, after an infrastructure fault.
    Resting(Timestamp),
    /// An attempt runs.
    Running(Box<Attempt>),
}

/// An attempt that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// The lease that makes and tests in order; none while a lost one is to be replaced.
    pub main: Option<LeaseId>,
    /// The leases that help.
    pub helpers: BTreeSet<LeaseId>,
    /// What the helpers begin with, once it is stored.
    pub snapshot: Option<SnapshotKey>,
    /// The make step, if it was needed.
    pub make_exec: Option<ExecId>,
    /// The list step, once it has failed: only then is it part of the log.
    pub list_exec: Option<ExecId>,
    /// The tests; empty until they are listed.
    pub shards: Vec<Shard>,
    /// Helpers that could not begin.
    pub helper_faults: u32,
    /// What has been done, in order of the end.
    pub steps: Vec<StepRecord>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Up to the list of tests.
    Preparing,
    /// Shards run.
    Testing,
}

/// Some tests, neighbours in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub number: u32,
    /// The tests; empty if the build does not list them.
    pub tests: Arc<[String]>,
    /// How long each test is expected to take, in milliseconds.
    pub estimates: Arc<[u32]>,
    /// Where it stands.
    pub state: ShardState,
    /// How often it was begun.
    pub tries: u32,
    /// How often it could not be run to its end by a fault of the farm: what the budget of
    /// [`super::Limits::shard_tries`] is for.
    pub faults: u32,
    /// Its last command.
    pub exec: Option<ExecId>,
    /// Where it runs or ran last.
    pub machine: Option<MachineName>,
    /// When it began last.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it had to be repeated, or how it failed.
    pub note: String,
    /// How it failed when it was run first; none if it has not, or if that was believed at once.
    pub first: Option<Box<FirstRun>>,
}

/// The run of a shard that failed and is not believed yet: the shard is run a second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRun {
    /// Its command.
    pub exec: ExecId,
    /// Where it ran.
    pub machine: MachineName,
    /// Failed or timed out.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it failed, in words.
    pub note: String,
    /// Since when another machine is waited for.
    pub since: Timestamp,
    /// It may be run again where it failed: no other machine could run it, or none was free for long.
    pub anywhere: bool,
}

/// Where a shard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardState {
    /// It waits for a machine.
    Waiting,
    /// It runs under this lease.
    Running(LeaseId),
    /// It has ended.
    Ended(Outcome),
}

/// Something that was done, on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// What.
    pub phase: Phase,
    /// Where; none for what needs no machine.
    pub machine: Option<MachineName>,
    /// Which shard, from 1; 0 if none.
    pub shard: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
}

impl Class {
    /// All, in the order of service.
    pub const ALL: [Self; 4] = [Self::Release, Self::Interactive, Self::Try, Self::Batch];

    /// The word for it, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Interactive => "interactive",
            Self::Try => "try",
            Self::Batch => "batch",
        }
    }

    /// The class of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl Build {
    /// A build as it was accepted.
    pub(super) fn new(row: BuildRow, progress: Progress) -> Self {
        Self {
            number: row.number,
            key: row.key,
            plan: row.plan,
            snapshot_base: row.snapshot_base,
            subject: row.subject,
            author: row.author.into(),
            git_ref: row.git_ref.into(),
            class: row.class,
            is_try: row.is_try,
            commit_time: row.commit_time,
            created: row.created,
            attempts: 0,
            faults: 0,
            preempted: 0,
            earlier: 0,
            doubt: None,
            only: Box::default(),
            waiting_since: row.created,
            last_fault: String::new(),
            progress,
            spot: Spot::Out,
        }
    }

    /// The attempt that runs.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.progress {
            Progress::Running(attempt) => Some(attempt),
            _ => None,
        }
    }

    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.progress {
            Progress::Running(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// The name of the attempt that runs.
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId { build: self.number, attempt: self.attempts }
    }

    /// Whether a machine is needed before anything of it can go on.
    pub fn needs_machine(&self) -> bool {
        match &self.progress {
            Progress::Queued => true,
            Progress::Resting(_) => false,
            Progress::Running(attempt) => attempt.main.is_none() && attempt.helpers.is_empty(),
        }
    }

    /// Where it belongs in the queue.
    pub(super) fn wanted_spot(&self) -> Spot {
        match (self.needs_machine(), self.attempt()) {
            (false, _) => Spot::Out,
            (true, None) => Spot::Share,
            (true, Some(_)) => Spot::Begun,
        }
    }

    /// Whether a further machine would be put to use, when there is a snapshot or soon will be one: while the main
    /// machine lists the tests, helpers fetch what make left.
    pub(super) fn wants_helper(&self) -> bool {
        self.attempt().is_some_and(|attempt| {
            let useful = match attempt.stage {
                Stage::Preparing => self.plan.is_sharded() && attempt.main.is_some(),
                Stage::Testing => {
                    attempt.helpers.len() < attempt.shards.len()
                        && attempt.shards.iter().any(|shard| shard.state == ShardState::Waiting)
                }
            };
            // To see whether a shard fails elsewhere too takes another machine, whatever was asked for.
            let asked = self.plan.helpers.max(u32::from(attempt.doubted_since().is_some()));
            useful
                && attempt.helper_faults < HELPER_FAULTS
                && (attempt.main.is_some() || !attempt.helpers.is_empty())
                && (attempt.helpers.len() as u32) < asked + u32::from(attempt.main.is_none())
        })
    }

    /// Whether a machine that joins would find something to do.
    pub(super) fn has_work_for(&self, machine: &MachineName) -> bool {
        self.attempt().is_some_and(|attempt| {
            attempt.stage == Stage::Preparing || attempt.next_shard(super::Role::Helper, machine).is_some()
        })
    }
}

impl Attempt {
    /// All leases, the main one first.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.main.into_iter().chain(self.helpers.iter().copied())
    }

    /// Shards that have ended.
    pub fn shards_done(&self) -> usize {
        self.shards.iter().filter(|shard| matches!(shard.state, ShardState::Ended(_))).count()
    }

    pub(super) fn shard_mut(&mut self, number: u32) -> Option<&mut Shard> {
        self.shards.get_mut((number as usize).checked_sub(1)?)
    }

    /// Since when the first of its shards waits for another machine than the one where it failed.
    pub(super) fn doubted_since(&self) -> Option<Timestamp> {
        let waits = |shard: &&Shard| shard.state == ShardState::Waiting;
        let first = self.shards.iter().filter(waits).filter_map(|shard| shard.first.as_ref());
        first.filter(|first| !first.anywhere).map(|first| first.since).min()
    }
}

impl Shard {
    /// How long it is expected to take, in milliseconds.
    pub fn estimate(&self) -> u64 {
        self.estimates.iter().map(|millis| u64::from(*millis)).sum()
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            ShardState::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether it failed and then passed: nothing but chance, or the machine, was in between.
    pub fn is_flaky(&self) -> bool {
        self.first.is_some() && self.outcome() == Some(Outcome::Passed)
    }

    /// Whether a machine may run it.
    pub(super) fn is_for(&self, machine: &MachineName) -> bool {
        self.first.as_ref().is_none_or(|first| first.anywhere || first.machine != *machine)
    }
}
