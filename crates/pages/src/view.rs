//! What pages show, as plain data: the contract between whoever knows the farm and whoever draws it.
//!
//! These structs are also the `.json` of each page, so a field may be added, but none renamed or removed. Times are
//! microseconds since 1970 UTC; durations are milliseconds and say so in their name; an absent value is `null`.

mod build;
mod builders;
mod change;
mod farm;
mod grid;
mod history;
mod live;
mod log;
mod sessions;
mod state;

pub use build::{
    AttemptLine, BuildView, Elsewhere, Failure, KnownIssue, LogLine, LogSummary, MachineUse, ShardView,
    Snapshot, SnapshotUse, StepView, TestCount,
};
pub use builders::{BuilderView, BuildersView, HostView, LastBuild};
pub use change::{ChangeView, TriedBuild, TryState, TryView, WordView};
pub use farm::{
    Configuration, FarmView, LeaseView, MachineState, MachineView, PhaseStat, PoolView, Problem, QueueItem,
    RecentBuild, RepositoryStatus, ServiceHealth, Severity,
};
pub use grid::{BranchChoice, Cell, GridBuilder, GridQuery, GridRow, GridView, RedBuilder};
pub use history::{
    BuilderHistory, BuilderRun, FaultRecord, FaultShare, Flake, LeaseRecord, MachineHistory, PhaseTime,
    Sibling, Standing, TestHistory, TestLine, TestRun, TestVerdict,
};
pub use live::LiveEvent;
pub use log::{LogInfo, LogPosition, LogSection};
pub use sessions::{SessionState, SessionView};
pub use state::{CommitRef, Reuse, Stale, State, Waiting};
