//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

/// An engine's own error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Engine(#[from] rusqlite::Error);

impl Engine {
    /// Whether the statement itself is wrong, so that it never succeeds.
    fn is_mistake(&self) -> bool {
        match self.0.sqlite_error_code() {
            // What SQLite calls a generic error is SQL that it does not understand.
            Some(code) => code == rusqlite::ErrorCode::Unknown,
            None => true,
        }
    }
}

/// A database could not be opened. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version has written it.
    #[error(
        "`{database}` was written by a newer version (schema {found}, this version knows {known}): run that version, or \
         restore a backup made before it"
    )]
    NewerVersion {
        /// The file.
        database: String,
        /// What it has.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// Another process has it.
    #[error("`{path}` is in use by {by}: stop that first, or use another data folder")]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who, as far as is known, for example `process 4711`.
        by: String,
    },
    /// It cannot be written.
    #[error("`{path}` cannot be written: let this user write there, or use another data folder")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a database, or a broken one.
    #[error("`{path}` cannot be read as a database: restore a backup, or move it away to start anew")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Engine,
    },
    /// A migration failed; what it did is undone.
    #[error("migration {version} of `{database}` failed: run the version before, and report this")]
    Migration {
        /// The file.
        database: String,
        /// Which.
        version: u32,
        /// Why.
        #[source]
        source: Engine,
    },
}

/// A batch was not written: nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A guarded statement did not change the one row it should: somebody else was faster.
    #[error("statement {statement} of the batch changed {changed} rows in place of 1")]
    Conflict {
        /// Which, from 1.
        statement: usize,
        /// How many it changed.
        changed: u64,
    },
    /// A unique, foreign key or check constraint forbids it.
    #[error("statement {statement} of the batch breaks a constraint")]
    Constraint {
        /// Which, from 1.
        statement: usize,
        /// Which constraint.
        #[source]
        source: Engine,
    },
    /// A statement is wrong or the engine cannot do it, for example because the disk is full.
    #[error("the database did not do the batch")]
    Engine(#[source] Engine),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl WriteError {
    /// Whether the same batch may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Engine(error) => !error.is_mistake(),
            Self::Conflict { .. } | Self::Constraint { .. } | Self::Closed => false,
        }
    }

    /// Whether what is stored already forbids the batch.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Constraint { .. })
    }
}

/// A query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The statement is wrong or the engine cannot do it.
    #[error("the database did not answer")]
    Engine(#[source] Engine),
    /// The row has no such column.
    #[error("the row has no column `{0}`")]
    UnknownColumn(String),
    /// What a column holds is not what was expected.
    #[error("column `{column}` holds something else: {problem}")]
    BadColumn {
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl ReadError {
    /// Whether the same query may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Engine(error) if !error.is_mistake())
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}
