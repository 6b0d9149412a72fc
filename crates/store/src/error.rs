//! What can go wrong, by what the caller can do about it.

use std::{error::Error as _, path::PathBuf, sync::Arc};

/// An engine's own error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Engine {
    /// SQLite's.
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    /// PostgreSQL's, or of the way there.
    #[error(transparent)]
    Postgres(Arc<tokio_postgres::Error>),
}

impl Engine {
    /// Whether the statement itself is wrong, so that it never succeeds.
    fn is_mistake(&self) -> bool {
        match self {
            Self::Sqlite(error) => match error.sqlite_error_code() {
                // What SQLite calls a generic error is SQL that it does not understand.
                Some(code) => code == rusqlite::ErrorCode::Unknown,
                None => true,
            },
            Self::Postgres(error) => match error.code() {
                // Data that it cannot take, syntax and names, features that it has not.
                Some(code) => ["22", "42", "0A"].iter().any(|class| code.code().starts_with(class)),
                // An argument of the wrong type is refused before it is sent.
                None => {
                    !error.is_closed() && error.source().is_some_and(|cause| !cause.is::<std::io::Error>())
                }
            },
        }
    }

    /// Whether a constraint forbids it.
    pub(crate) fn is_constraint(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
            }
            Self::Postgres(error) => error.code().is_some_and(|code| code.code().starts_with("23")),
        }
    }

    /// Whether the engine did not answer: what was asked may have been done.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            // The server's own word is an answer, but for that it is shutting down.
            Self::Postgres(error) => error.code().is_none_or(|code| code.code().starts_with("57P")),
        }
    }
}

impl From<rusqlite::Error> for Engine {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<tokio_postgres::Error> for Engine {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(Arc::new(error))
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
    /// The URL of a database is none.
    #[error("the URL of the records cannot be used: {problem}")]
    BadUrl {
        /// What is wrong.
        problem: String,
    },
    /// The certificates of who signed the server's cannot be used.
    #[error("the certificates of `{path}` cannot be used: {problem}")]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A server cannot be reached, or does not let us in.
    #[error(
        "`{database}` cannot be used: see that the server runs, and that the user may make a schema there"
    )]
    Unreachable {
        /// The database.
        database: String,
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
#[derive(Debug, Clone, thiserror::Error)]
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
    Engine(#[from] Engine),
    /// Another process leads, or none yet: this one may not write.
    #[error("this process does not lead: another may write in its place")]
    NotLeader,
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl WriteError {
    /// Whether the same batch may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Engine(error) => !error.is_mistake(),
            Self::Conflict { .. } | Self::Constraint { .. } | Self::NotLeader | Self::Closed => false,
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
    Engine(#[from] Engine),
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
        Engine::from(error).into()
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Engine::from(error).into()
    }
}
