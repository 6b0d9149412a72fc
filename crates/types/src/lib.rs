#![doc = include_str!("../README.md")]

mod commit;
mod id;
mod name;
mod outcome;
mod share;
mod time;

pub use commit::{CommitHash, ParseCommitError};
pub use id::{AttemptId, BuildNumber, ExecId, Fence, LeaseId, ParseIdError, SessionId, ShardId};
pub use name::{BuilderName, HostType, MachineName, ParseNameError, RepositoryName, SessionName};
pub use outcome::{Outcome, ParseOutcomeError, ParsePhaseError, Phase};
pub use share::Share;
pub use time::Timestamp;
