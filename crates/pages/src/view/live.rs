//! What changed just now.

use types::{BuildNumber, BuilderName, CommitHash, RepositoryName};

use super::Cell;

/// Something that an open page may want to know. Hints only: a page that missed one reads its address again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// A cell of the grid is different now.
    Cell {
        /// The row's repository.
        repository: RepositoryName,
        /// The row.
        commit: CommitHash,
        /// The column.
        builder: BuilderName,
        /// What it shows now.
        cell: Cell,
    },
    /// The grid has other rows or columns now: a commit came, a builder went.
    Rows {
        /// Whose.
        repository: RepositoryName,
    },
    /// A build is different now.
    Build {
        /// Which.
        number: BuildNumber,
    },
    /// A log has more bytes now, or has ended.
    Log {
        /// Whose.
        number: BuildNumber,
        /// Which attempt.
        attempt: u32,
    },
    /// A machine, a lease, the queue or a problem is different now.
    Farm,
}
