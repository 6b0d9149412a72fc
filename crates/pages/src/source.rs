//! Where views come from: what this crate needs of the farm.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;
use types::{BuildNumber, BuilderName, MachineName, RepositoryName};

use crate::view::{
    BuildView, BuilderHistory, BuildersView, ChangeView, FarmView, GridQuery, GridView, LiveEvent, LogInfo,
    LogPosition, MachineHistory, TestHistory,
};

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such thing: a 404, with this as its sentence.
    #[error("{0}")]
    NotFound(String),
    /// The question makes no sense: a 400, with this as its sentence.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done as things stand: a 409, with this as its sentence.
    #[error("{0}")]
    Refused(String),
    /// Ask again later: a 503, with this as its sentence.
    #[error("{0}")]
    Unavailable(String),
}

/// Logs, by byte and by line. Every call may be repeated; none waits for more to come.
#[async_trait]
pub trait LogSource: Send + Sync + 'static {
    /// What is known of the log of an attempt; of the last one if `attempt` is absent.
    async fn log(&self, number: BuildNumber, attempt: Option<u32>) -> Result<LogInfo, SourceError>;

    /// Where a line begins (from 1). A line beyond the end is the last one's beginning.
    async fn line_position(
        &self,
        number: BuildNumber,
        attempt: u32,
        line: u64,
    ) -> Result<LogPosition, SourceError>;

    /// The beginning of the line that a byte lies in. A byte beyond the end lies in the last line.
    async fn byte_position(
        &self,
        number: BuildNumber,
        attempt: u32,
        byte: u64,
    ) -> Result<LogPosition, SourceError>;

    /// Bytes of the merged log; fewer if it ends, or if the source would rather not read so many at once; none only
    /// at the end. Ranges asked for are at most 1 MiB.
    async fn bytes(&self, number: BuildNumber, attempt: u32, range: Range<u64>)
    -> Result<Bytes, SourceError>;
}

/// The farm, as pages see it. Every call may be repeated, and answers at once from what is known.
#[async_trait]
pub trait Source: LogSource {
    /// Commits and builders.
    async fn grid(&self, query: &GridQuery) -> Result<GridView, SourceError>;

    /// A build as of one attempt; the last one if `attempt` is absent.
    async fn build(&self, number: BuildNumber, attempt: Option<u32>) -> Result<BuildView, SourceError>;

    /// The farm.
    async fn farm(&self) -> Result<FarmView, SourceError>;

    /// Builders and hosts.
    async fn builders(&self) -> Result<BuildersView, SourceError>;

    /// A machine and what it did.
    async fn machine(&self, name: &MachineName) -> Result<MachineHistory, SourceError>;

    /// A builder and what it built; the first repository's that has one of that name if none is named.
    async fn builder(
        &self,
        name: &BuilderName,
        repository: Option<&RepositoryName>,
    ) -> Result<BuilderHistory, SourceError>;

    /// A test on all its builders.
    async fn test(&self, name: &str) -> Result<TestHistory, SourceError>;

    /// A change under review; one of the repository, if two have one of that number.
    async fn change(
        &self,
        number: u32,
        repository: Option<&RepositoryName>,
    ) -> Result<ChangeView, SourceError>;

    /// The change of which a commit, or one that begins so, was tried last: 7 digits or more.
    async fn change_of(&self, commit: &str) -> Result<ChangeView, SourceError>;

    /// What changes from now on. A receiver that lags misses events; the page then reads everything again.
    fn subscribe(&self) -> broadcast::Receiver<LiveEvent>;

    /// Calls a build off. Succeeds if it has ended already. `by` says who asked, for the record.
    async fn cancel(&self, number: BuildNumber, by: &str) -> Result<(), SourceError>;
}
