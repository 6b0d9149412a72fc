//! What the coordinator's shell needs of the world, as traits. Production has adapters (SQL, gRPC, the log store); the
//! simulator has stateful parts in memory, and runs the same shell over them.

use std::{collections::BTreeMap, error::Error as StdError, ops::Range, sync::Arc};

use api::{
    maintner::{Change, GetChangeResponse, WatchMutationsResponse},
    maintpb::BuildResult,
};
use async_trait::async_trait;
use buildlet_client::{Error, ExecEvent, ExecSpec, Fetched, Lease, Status};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use store::logs::LogError;
use types::{
    AttemptId, BuildNumber, BuilderName, CommitHash, ExecId, MachineName, Outcome, RepositoryName, Timestamp,
};
use uuid::Uuid;

use crate::core::{Effects, Event, Restored, Retry, Row, SnapshotKey, State, TrySet, Word};
pub use crate::{
    find::{Commit, Files, MirrorError},
    review::{Place, ReviewError, Saying, Standing},
};

/// Builds of one commit, by repository, builder and variant.
pub type KnownBuilds = BTreeMap<(RepositoryName, BuilderName, String), BuildNumber>;
/// Where refs stand, by repository and full name.
pub type Refs = BTreeMap<(RepositoryName, String), CommitHash>;
/// How the builders of a commit ended.
pub type Outcomes = BTreeMap<BuilderName, Outcome>;
/// Makes names that nobody else has: UUIDv7, later ones sort later.
pub type NewId = Arc<dyn Fn() -> Uuid + Send + Sync>;

/// The records were not written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Now; the same may succeed later. What a write did is not known: all of it or nothing.
    #[error("the records cannot be reached")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// Another process writes them now: this one must end.
    #[error("another coordinator leads now")]
    Overtaken(#[source] Box<dyn StdError + Send + Sync>),
    /// And never will be.
    #[error("the records are refused")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
}

impl RecordsError {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The rows of the core.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Writes rows in order, all or none. Durable when it returns; a repeat of the same rows changes nothing.
    async fn write(&self, rows: &[Row]) -> Result<(), RecordsError>;
    /// All that is active.
    async fn load(&self) -> Result<Restored, RecordsError>;
    /// How long tests of a builder lately took, in milliseconds.
    async fn timings(&self, builder: &BuilderName) -> Result<BTreeMap<String, i64>, RecordsError>;
    /// Snapshots that are stored with their bytes, the newest first.
    async fn snapshots(&self) -> Result<Vec<(SnapshotKey, u64)>, RecordsError>;
    /// Results that the mutation log may not have yet, oldest first.
    async fn outbox(&self, limit: usize) -> Result<Vec<BuildResult>, RecordsError>;
    /// The mutation log has these results.
    async fn delivered(&self, results: &[AttemptId]) -> Result<(), RecordsError>;
    /// Builds that ended since a time and failed on no other machine than this, to be begun again; a bounded number.
    async fn victims(
        &self,
        machine: &MachineName,
        since: Timestamp,
        reason: &str,
    ) -> Result<Vec<Retry>, RecordsError>;
}

/// What the work finder has stored: through the core, with the builds that it led to.
#[async_trait]
pub trait Found: Send + Sync + 'static {
    /// How far the mutation log was read, and where refs stood then.
    async fn position(&self) -> Result<(Option<String>, Refs), RecordsError>;
    /// Builds of a commit that exist, ended ones too.
    async fn known(&self, commit: CommitHash) -> Result<KnownBuilds, RecordsError>;
}

/// The logs of commands.
#[async_trait]
pub trait Logs: Send + Sync + 'static {
    /// Goes on with a log, from its durable end. An earlier writer of it is superseded.
    async fn writer(&self, exec: ExecId) -> Result<Box<dyn ExecLog>, LogError>;
    /// Some of a log. What lies beyond its durable end is left out.
    async fn read(&self, exec: ExecId, range: Range<u64>) -> Result<Bytes, LogError>;
}

/// Writes one log. Dropped, it leaves the log unfinished.
#[async_trait]
pub trait ExecLog: Send + Sync {
    /// How many bytes are durable.
    fn position(&self) -> u64;
    /// Whether nothing follows.
    fn is_finished(&self) -> bool;
    /// Adds the bytes from `offset` on; those that were accepted already are ignored.
    async fn push(&mut self, offset: u64, data: Bytes) -> Result<(), LogError>;
    /// Makes durable what was pushed.
    async fn flush(&mut self) -> Result<(), LogError>;
    /// Makes durable what was pushed and these bytes of ours, and ends the log.
    async fn finish_with(self: Box<Self>, last: Bytes) -> Result<(), LogError>;
}

/// One machine's buildlet, over one connection. Each call may be repeated; after [`Error::Unavailable`] and
/// [`Error::TimedOut`] what it did is not known.
#[async_trait]
pub trait Buildlet: Send + Sync + 'static {
    /// What the machine is and what runs on it.
    async fn status(&self) -> Result<Status, Error>;
    /// Starts a command, once for each id.
    async fn start_exec(&self, lease: Lease, exec: ExecId, spec: &ExecSpec) -> Result<(), Error>;
    /// The output of a command from an offset on, then how it ended.
    async fn watch_exec(
        &self,
        exec: ExecId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<ExecEvent, Error>>, Error>;
    /// Output before an offset is durable elsewhere.
    async fn acknowledge(&self, exec: ExecId, offset: u64) -> Result<(), Error>;
    /// Has the machine fetch an archive and unpack it into a folder.
    async fn fetch_tree(&self, lease: Lease, url: &str, folder: &str) -> Result<Fetched, Error>;
    /// A folder as an archive.
    async fn read_tree(
        &self,
        lease: Lease,
        exclude: &[String],
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error>;
    /// Removes all that is in the work folder.
    async fn empty(&self, lease: Lease) -> Result<(), Error>;
    /// Ends a lease and proves the machine clean.
    async fn end_lease(&self, lease: Lease) -> Result<(), Error>;
}

/// maintnerd: the mutation log.
#[async_trait]
pub trait MutationLog: Send + Sync + 'static {
    /// Adds results. One that is there already, by build and attempt, changes nothing.
    async fn append(&self, results: Vec<BuildResult>) -> Result<(), tonic::Status>;
    /// What follows a position, then whatever comes; from the start if the token is empty.
    async fn watch(
        &self,
        resume_token: String,
    ) -> Result<BoxStream<'static, Result<WatchMutationsResponse, tonic::Status>>, tonic::Status>;
}

/// gitmirror: commits and what is in them.
#[async_trait]
pub trait Commits: Send + Sync + 'static {
    /// Small files of a commit, and its tree.
    async fn files(
        &self,
        repository: &RepositoryName,
        commit: CommitHash,
        paths: Vec<String>,
    ) -> Result<Files, MirrorError>;
    /// Commits that are reachable from one and not from others, the newest `limit`.
    async fn commits(
        &self,
        repository: &RepositoryName,
        include: CommitHash,
        exclude: &[CommitHash],
        limit: u32,
    ) -> Result<Vec<Commit>, MirrorError>;
}

/// maintnerd: changes under review, as the mutation log tells of them.
#[async_trait]
pub trait Changes: Send + Sync + 'static {
    /// A change and what was said of it; none if there is none. At least as new as whatever the log has told of so far.
    async fn change(&self, project: &str, number: u32) -> Result<Option<GetChangeResponse>, tonic::Status>;
    /// All changes of a project that are under review.
    async fn open(&self, project: &str) -> Result<Vec<Change>, tonic::Status>;
}

/// A word that is to be said of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaid {
    /// What.
    pub word: Word,
    /// Of what is tried of the change, as it stands now.
    pub set: TrySet,
}

/// What is to be said of changes: stored through the core, with what led to it.
#[async_trait]
pub trait Words: Send + Sync + 'static {
    /// What was not said yet, the oldest first.
    async fn unsaid(&self, limit: usize) -> Result<Vec<Unsaid>, RecordsError>;
    /// A word was said, or need not be any more: why, in words.
    async fn said(&self, set: Uuid, word: Word, note: &str, at: Timestamp) -> Result<(), RecordsError>;
    /// How the builders of a commit that is in ended, the last build of each.
    async fn outcomes(
        &self,
        repository: &RepositoryName,
        commit: CommitHash,
    ) -> Result<Outcomes, RecordsError>;
}

/// The review host. After [`ReviewError::Unavailable`] what a call did is not known.
#[async_trait]
pub trait Reviews: Send + Sync + 'static {
    /// How a change stands there now, and what we have said of it; none if there is none.
    async fn look(&self, place: &Place, change: u32) -> Result<Option<Standing>, ReviewError>;
    /// Says something of a patch set, and votes on it. It is not asked whether it was said before.
    async fn say(&self, place: &Place, change: u32, saying: &Saying) -> Result<(), ReviewError>;
}

/// Sees every step of the core as it is taken. The simulator checks its invariants here; a farm has [`NoWitness`].
pub trait Witness: Send + Sync + 'static {
    /// A step is about to be taken.
    fn before(&self, state: &State, event: &Event);
    /// It was.
    fn after(&self, state: &State, effects: &Effects);
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWitness;

impl Witness for NoWitness {
    fn before(&self, _: &State, _: &Event) {}
    fn after(&self, _: &State, _: &Effects) {}
}
