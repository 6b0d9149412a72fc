//! What happens to the core. Time and randomness come in with every event, so that a step can be repeated exactly.

use std::{sync::Arc, time::Duration};

use types::{
    BuildNumber, CommitHash, ExecId, Fence, LeaseId, MachineName, Outcome, RepositoryName, SessionName,
    Timestamp,
};
use uuid::Uuid;

use super::{
    BuildKey, Class, Connection, MachineInfo, NewSession, Plan, Ready, Retry, SnapshotKey, Task, TryNews,
};

/// When a step happens, and what new names are made from.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The time.
    pub now: Timestamp,
    /// A UUIDv7 that nobody else has. The names of one step count up from it in its last four bytes.
    pub seed: Uuid,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Builds are asked for.
    Accept(Accept),
    /// A build is called off.
    Cancel {
        /// The build.
        number: BuildNumber,
        /// Why.
        reason: String,
    },
    /// A machine has connected and said what it is and does.
    Connected(Arrival),
    /// A connection is gone. The machine is lost only when it stays away.
    Disconnected {
        /// The machine.
        machine: MachineName,
        /// The connection.
        connection: Connection,
    },
    /// What a lease did has ended.
    TaskEnded {
        /// The lease.
        lease: LeaseId,
        /// What it did.
        task: Task,
        /// How it ended.
        result: TaskResult,
    },
    /// A machine has been cleaned, or could not be.
    Cleaned {
        /// The machine.
        machine: MachineName,
        /// Under which fence.
        fence: Fence,
        /// What is left; none when nothing is.
        problem: Option<String>,
    },
    /// A machine says that it takes no further lease.
    Unfit {
        /// The machine.
        machine: MachineName,
        /// What is wrong; empty when it is only draining.
        problem: String,
    },
    /// Snapshots are to go, to make room.
    DropSnapshots(Vec<SnapshotKey>),
    /// A session is asked for.
    CreateSession(Box<NewSession>),
    /// A session is used.
    TouchSession {
        /// The session.
        name: SessionName,
        /// Hold it so long from now on; none means as long as it may be idle.
        hold: Option<Duration>,
    },
    /// A machine is ready for its session.
    SessionPrepared {
        /// The lease.
        lease: LeaseId,
        /// What was put there, or why it cannot be made ready, in words.
        result: Result<Ready, String>,
    },
    /// A session is given up.
    EndSession {
        /// The session.
        name: SessionName,
        /// Why.
        reason: String,
    },
    /// A build that has ended is to be begun again.
    Retry(Box<Retry>),
    /// A person says that a machine is to take no work.
    Quarantine {
        /// The machine.
        machine: MachineName,
        /// Why.
        reason: String,
    },
    /// A person says that a machine is sound.
    Lift(MachineName),
    /// Time has passed.
    Tick,
}

/// Builds that are asked for, and what must become durable with them.
#[derive(Debug, Clone, Default)]
pub struct Accept {
    /// Answered with [`super::Action::Reply`]; 0 if no answer is wanted.
    pub token: u64,
    /// The builds.
    pub builds: Vec<NewBuild>,
    /// How far the mutation log has been read.
    pub cursor: Option<String>,
    /// Where refs stand now.
    pub refs: Vec<RefMove>,
    /// Commits that were found on them.
    pub commits: Vec<SeenCommit>,
    /// How changes under review stand now.
    pub tries: Vec<TryNews>,
    /// The request that a repeat would name, and numbers it is answered with beside the new ones.
    pub request: Option<Request>,
}

/// A request that is answered again when repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The caller's UUID.
    pub id: String,
    /// For each builder in order: the build that exists already, or none for the next of the new ones.
    pub slots: Vec<Option<BuildNumber>>,
}

/// A ref, as the work finder has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// The repository.
    pub repository: RepositoryName,
    /// The full name.
    pub git_ref: String,
    /// Where it points; none when it is gone.
    pub commit: Option<CommitHash>,
}

/// A commit, as the work finder has found it on a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCommit {
    /// The repository.
    pub repository: RepositoryName,
    /// The ref's full name.
    pub git_ref: String,
    /// The commit.
    pub commit: CommitHash,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
    /// Its place on the ref: a later commit has a higher one.
    pub place: i64,
}

/// A build that is asked for.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// What of.
    pub key: BuildKey,
    /// What it does.
    pub plan: Arc<Plan>,
    /// What went in, but for the work folder's path.
    pub snapshot_base: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// The ref that it was found on; empty for a try.
    pub git_ref: String,
    /// When it is served.
    pub class: Class,
    /// A try.
    pub is_try: bool,
    /// When the commit was made.
    pub commit_time: Timestamp,
    /// It ends at once, as this: a configuration that cannot be read.
    pub verdict: Option<(Outcome, String)>,
}

/// A machine that has connected.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// What it is.
    pub info: MachineInfo,
    /// The connection.
    pub connection: Connection,
    /// The lease that it believes in.
    pub lease: Option<(LeaseId, Fence)>,
    /// The commands of that lease.
    pub execs: Vec<ExecId>,
    /// Why it takes no lease; empty if it does.
    pub problem: String,
    /// It takes no further lease.
    pub draining: bool,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub enum TaskResult {
    /// Well: source or snapshot are there, or the snapshot is stored.
    Done {
        /// A size or a count, in words.
        detail: String,
        /// How many bytes were stored.
        bytes: u64,
    },
    /// The command ran to its end, and its log is durable.
    Command {
        /// Passed, failed or timed out.
        outcome: Outcome,
        /// What decided, in one line; empty when passed.
        reason: String,
        /// When it ended.
        ended: Timestamp,
    },
    /// The tests are listed and packed into shards, in list order.
    Listed(Vec<Vec<ListedTest>>),
    /// The farm could not do it.
    Fault {
        /// Why.
        reason: String,
        /// The machine could not, and not the network, the store or whoever else is asked.
        of_machine: bool,
    },
}

/// A test of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTest {
    /// Its name.
    pub name: String,
    /// How long it is expected to take, in milliseconds.
    pub millis: u32,
}
