//! What the core wants done: rows that must be durable first, then actions.

use std::sync::Arc;

use types::{
    AttemptId, BuildNumber, BuilderName, ExecId, Fence, LeaseId, MachineName, Outcome, SessionId,
    SessionName, Timestamp,
};
use uuid::Uuid;

use super::{
    Attempt, BuildKey, Class, Connection, Doubt, Health, Lease, MachineInfo, NewBuild, Plan, Preparation,
    RefMove, SeenCommit, Session, Shard, SnapshotKey, Stage, StepRecord, Task, TrySet, Word,
};

/// What one step wants, in the order in which it must happen: all rows, then all actions.
#[derive(Debug, Default)]
pub struct Effects {
    /// Rows to write.
    pub rows: Vec<Row>,
    /// What to do once they are durable.
    pub actions: Vec<Action>,
}

/// How far a build is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildProgress {
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that ended by a fault of the farm.
    pub faults: u32,
    /// How often it made room for what is more urgent.
    pub preempted: u32,
    /// Attempts begun before it was last asked for again.
    pub earlier: u32,
    /// Its make step failed once.
    pub doubt: Option<Box<Doubt>>,
    /// Since when it waits.
    pub waiting_since: Timestamp,
    /// Until when it rests after a fault.
    pub resting_until: Option<Timestamp>,
    /// How the attempt before ended.
    pub last_fault: String,
    /// When the last attempt began.
    pub started: Option<Timestamp>,
}

/// Something that is stored. Each replaces the row of the same name, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A build was accepted.
    Build(Box<BuildRow>),
    /// A build moved on.
    BuildProgress(BuildNumber, BuildProgress),
    /// A build ended.
    BuildEnd(BuildEnd),
    /// A build that had ended goes on.
    Retry {
        /// The build.
        number: BuildNumber,
        /// Attempts begun before.
        attempts: u32,
        /// When.
        at: Timestamp,
        /// The tests that are run, if not all.
        only: Vec<String>,
        /// Why, and for whom.
        reason: String,
    },
    /// An attempt, as it is now.
    Attempt(AttemptRow),
    /// A shard, as it is now.
    Shard(AttemptId, Shard),
    /// A lease, as it is now.
    Lease(Lease),
    /// A lease is over.
    LeaseEnd {
        /// The lease.
        id: LeaseId,
        /// When.
        ended: Timestamp,
        /// Why.
        reason: String,
    },
    /// A command is about to be started.
    Exec(ExecRow),
    /// Something was done: the attempt's step number from 0.
    Step(AttemptId, u32, StepRecord),
    /// A machine connected or was lost.
    Machine(MachineInfo, Timestamp),
    /// What became of a machine's last commands, and whether it takes work.
    Health {
        /// The machine.
        machine: MachineName,
        /// What became of them.
        health: Health,
        /// Why it takes no work; empty if it does.
        quarantine: String,
    },
    /// A snapshot is stored, whole.
    Snapshot(SnapshotKey, u64, Timestamp),
    /// A snapshot cannot be used.
    SnapshotGone(SnapshotKey),
    /// How long a test took.
    Timing {
        /// The builder.
        builder: BuilderName,
        /// The test.
        test: String,
        /// In milliseconds.
        millis: u32,
    },
    /// The highest fence that may have been given out.
    Fence(Fence),
    /// How far the mutation log has been read.
    Cursor(String),
    /// Where a ref stands.
    Ref(RefMove),
    /// A commit is on a ref.
    Commit(SeenCommit),
    /// A request and the builds that it is answered with.
    Request {
        /// The caller's UUID.
        id: String,
        /// In order.
        builds: Vec<BuildNumber>,
        /// When.
        at: Timestamp,
    },
    /// A session, as it is now.
    Session(Box<Session>),
    /// A session is over.
    SessionEnd {
        /// The session.
        id: SessionId,
        /// When.
        ended: Timestamp,
        /// Why.
        reason: String,
    },
    /// What is tried of a change, as it is now.
    Try(Box<TrySet>),
    /// Something is to be said of a change.
    Word {
        /// Of what is tried of it.
        set: Uuid,
        /// What.
        word: Word,
        /// Since when.
        at: Timestamp,
    },
}

/// A build as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRow {
    /// Its number.
    pub number: BuildNumber,
    /// What it is a build of.
    pub key: BuildKey,
    /// What it does.
    pub plan: Arc<Plan>,
    /// The base of its snapshot's key.
    pub snapshot_base: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// The ref; empty for a try.
    pub git_ref: String,
    /// When it is served.
    pub class: Class,
    /// A try.
    pub is_try: bool,
    /// When the commit was made.
    pub commit_time: Timestamp,
    /// When it was accepted.
    pub created: Timestamp,
}

/// How a build ended. Also the result that the mutation log gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEnd {
    /// The build, and its last attempt; 0 if none was begun.
    pub attempt: AttemptId,
    /// What it was a build of.
    pub key: BuildKey,
    /// How it ended.
    pub outcome: Outcome,
    /// What decided; of one that passed, what flaked; else empty.
    pub reason: String,
    /// When the last attempt began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// A try.
    pub is_try: bool,
    /// How many shards failed and then passed.
    pub flakes: u32,
}

/// An attempt as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Which.
    pub id: AttemptId,
    /// When it began.
    pub started: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// What helpers begin with.
    pub snapshot: Option<SnapshotKey>,
    /// The make step.
    pub make_exec: Option<ExecId>,
    /// The list step, once failed.
    pub list_exec: Option<ExecId>,
    /// Helpers that could not begin.
    pub helper_faults: u32,
    /// When and how it ended.
    pub end: Option<(Timestamp, Outcome, String)>,
}

/// A command that is about to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRow {
    /// Its name.
    pub id: ExecId,
    /// Under which lease.
    pub lease: LeaseId,
    /// For which attempt.
    pub attempt: AttemptId,
    /// make, list or test.
    pub kind: &'static str,
    /// The shard, from 1; 0 if none.
    pub shard: u32,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Do, or re-attach to, a task. Replaces what the lease did before.
    Run(Box<Assignment>),
    /// Make a machine ready for its session. Replaces what the lease did before.
    Prepare(Box<Preparation>),
    /// A session has changed or ended.
    SessionChanged(SessionName),
    /// Something is to be said of a change: its row is there.
    Speak,
    /// Stop doing anything under a lease: the machine is lost.
    Stop(LeaseId),
    /// End the lease of a machine (any that it has) under this fence, then say that it is clean.
    EndLease {
        /// The machine.
        machine: MachineName,
        /// Over which connection.
        connection: Connection,
        /// The lease.
        lease: LeaseId,
        /// The fence.
        fence: Fence,
    },
    /// Answer a request.
    Reply {
        /// From the event.
        token: u64,
        /// The builds asked for, in order.
        builds: Vec<BuildNumber>,
    },
    /// Remove the bytes of a snapshot that nobody will ask for.
    RemoveSnapshot(SnapshotKey),
    /// A snapshot is stored: see whether others must go.
    SnapshotStored,
    /// A build has changed.
    Changed(BuildNumber),
    /// A build has ended: its result is in the outbox.
    Ended(BuildEnd),
    /// A machine is in quarantine: what ended by its fault is to be begun again.
    Quarantined(MachineName),
}

/// A task with all that is needed to do it.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The machine.
    pub machine: MachineName,
    /// Its connection.
    pub connection: Connection,
    /// The lease.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: Fence,
    /// The attempt.
    pub attempt: AttemptId,
    /// What of.
    pub key: BuildKey,
    /// A try: what it runs was not reviewed.
    pub is_try: bool,
    /// How.
    pub plan: Arc<Plan>,
    /// What to do.
    pub task: Task,
    /// The tests of the shard.
    pub tests: Arc<[String]>,
}

impl Row {
    /// Whether what follows from the row must wait until it is durable.
    pub fn is_intent(&self) -> bool {
        matches!(
            self,
            Self::Exec(_)
                | Self::Fence(_)
                | Self::BuildEnd(_)
                | Self::Build(_)
                | Self::Retry { .. }
                | Self::Health { .. }
                | Self::Snapshot(..)
                | Self::Cursor(_)
                | Self::Session(_)
                | Self::SessionEnd { .. }
                | Self::Try(_)
                | Self::Word { .. }
        )
    }
}

impl Action {
    /// Whether it may happen before the rows of its step are durable. A machine may begin to fetch: nothing of that shows,
    /// and if the rows are lost, it comes back with a lease that nobody knows, and is cleaned.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Run(assignment) if assignment.task.is_first())
    }

    /// Whether it must not happen before all rows are durable, even those that are no intents.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::EndLease { .. }
                | Self::Reply { .. }
                | Self::Ended(_)
                | Self::RemoveSnapshot(_)
                | Self::Quarantined(_)
        )
    }
}

impl BuildRow {
    pub(super) fn new(number: BuildNumber, new: &NewBuild, created: Timestamp) -> Self {
        Self {
            number,
            key: new.key.clone(),
            plan: Arc::clone(&new.plan),
            snapshot_base: new.snapshot_base.clone(),
            subject: new.subject.clone(),
            author: new.author.clone(),
            git_ref: new.git_ref.clone(),
            class: new.class,
            is_try: new.is_try,
            commit_time: new.commit_time,
            created,
        }
    }
}

impl AttemptRow {
    /// What is stored of an attempt that runs.
    pub fn of(build: BuildNumber, attempt: &Attempt) -> Self {
        Self {
            id: AttemptId { build, attempt: attempt.number },
            started: attempt.started,
            stage: attempt.stage,
            snapshot: attempt.snapshot.clone(),
            make_exec: attempt.make_exec,
            list_exec: attempt.list_exec,
            helper_faults: attempt.helper_faults,
            end: None,
        }
    }
}
