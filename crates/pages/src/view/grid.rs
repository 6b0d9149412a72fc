//! The grid of commits and builders.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, RepositoryName, Timestamp};

use super::{CommitRef, Stale, State};

/// Which part of the grid is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GridQuery {
    /// The repository; the farm's first if absent.
    pub repository: Option<RepositoryName>,
    /// The branch; the repository's main one if absent.
    pub branch: Option<String>,
    /// At most this many commits, newest first.
    pub limit: usize,
    /// Only commits after this place: a [`GridView::older`].
    pub before: Option<String>,
}

/// Commits and what builders say of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GridView {
    /// The repository; absent while the farm has none.
    pub repository: Option<RepositoryName>,
    /// The branch.
    pub branch: String,
    /// What else there is to look at.
    pub choices: Vec<BranchChoice>,
    /// The columns, in any order: pages group and sort them by name.
    pub builders: Vec<GridBuilder>,
    /// The rows, newest first.
    pub rows: Vec<GridRow>,
    /// Builders whose newest verdict is red. [`GridView::find_red`] fills it from the rows.
    pub red: Vec<RedBuilder>,
    /// Commits with a build that has not ended.
    pub commits_in_work: u64,
    /// When a build ended last.
    pub last_result: Option<Timestamp>,
    /// The usual time from a commit to its last result.
    pub median_to_results_ms: Option<u64>,
    /// Machines that are connected.
    pub machines_up: u64,
    /// Machines that should be.
    pub machines_expected: u64,
    /// Set when the rows may be old, for example when the repository cannot be reached.
    pub stale: Option<Stale>,
    /// What stands in the way of builds here, for example an error in the repository's `farmer.toml`; shown as it is.
    pub problem: Option<String>,
    /// Where older commits begin; absent at the end.
    pub older: Option<String>,
}

/// Something that the grid can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchChoice {
    /// The repository.
    pub repository: RepositoryName,
    /// One of its branches.
    pub branch: String,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridBuilder {
    /// The builder. Its name is read as system, architecture and variant: `linux-amd64-race`.
    pub name: BuilderName,
    /// Who looks after it.
    pub owners: Vec<String>,
    /// Issues that explain known failures.
    pub known_issues: Vec<String>,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridRow {
    /// The commit.
    pub commit: CommitRef,
    /// Changes whenever a cell does: rendered rows are kept under (commit, version). 0 means: do not keep.
    pub version: u64,
    /// One for each of [`GridView::builders`], in that order.
    pub cells: Vec<Cell>,
}

/// What one builder says of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// How it stands.
    pub state: State,
    /// How much is done, 0 to 100, while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub percent: Option<u8>,
    /// Where to look; absent when nothing was built.
    pub build: Option<BuildNumber>,
    /// More than the state says: the failing test, what it waits for. May be empty.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub title: String,
}

/// A builder that is red.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedBuilder {
    /// The builder.
    pub builder: BuilderName,
    /// The oldest commit of the unbroken run of failures.
    pub since: CommitRef,
    /// How many commits failed in that run.
    pub commits: u64,
    /// False if the run began before the rows that were looked at.
    pub start_known: bool,
    /// What failed, in a few words; may be empty.
    pub reason: String,
    /// The newest failing build.
    pub build: Option<BuildNumber>,
    /// Who was told, and when, in words; may be empty.
    pub told: String,
}

impl Cell {
    /// A cell that nobody asked to build.
    pub const fn not_built() -> Self {
        Self { state: State::NotBuilt, percent: None, build: None, title: String::new() }
    }
}

impl GridView {
    /// Fills [`GridView::red`] from the rows: a builder is red if its newest verdict is, since the oldest verdict of
    /// the unbroken run of red ones.
    pub fn find_red(&mut self) {
        self.red = (0..self.builders.len()).filter_map(|column| self.red_in(column)).collect();
    }

    fn red_in(&self, column: usize) -> Option<RedBuilder> {
        let verdicts = || {
            self.rows
                .iter()
                .filter_map(|row| row.cells.get(column).map(|cell| (row, cell)))
                .filter(|(_, cell)| cell.state.is_verdict())
        };
        let (_, newest) = verdicts().next().filter(|(_, cell)| cell.state.is_red())?;
        let run = verdicts().take_while(|(_, cell)| cell.state.is_red());
        let (oldest, count) = run.fold((None, 0), |(_, count), (row, _)| (Some(row), count + 1));
        Some(RedBuilder {
            builder: self.builders[column].name.clone(),
            since: oldest?.commit.clone(),
            commits: count,
            start_known: verdicts().any(|(_, cell)| !cell.state.is_red()) || self.older.is_none(),
            reason: newest.title.clone(),
            build: newest.build,
            told: String::new(),
        })
    }
}
