//! Records in a SQLite file: one thread that writes, a few connections that read.
//!
//! A statement takes microseconds, less than handing it to another thread does. So the writer has a thread of its own
//! that takes whole groups of batches, and a read is one visit of another thread, however many rows it has.

mod readers;
mod rows;
mod writer;

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio_util::sync::CancellationToken;

use crate::{
    Migration, OpenError,
    error::Engine,
    group::{self, Queue},
    lock::Lock,
    migrate,
};

pub(crate) use readers::Readers;

/// How long a connection waits for another's lock: only a reader ever does, while the file is being recovered.
const BUSY: Duration = Duration::from_secs(10);
/// How many statements a connection keeps prepared.
const PREPARED: usize = 200;

/// `NORMAL` would lose what was acknowledged when the power goes. A checkpoint stalls the writer for two flushes; 16 MiB
/// of log make it rare and still small.
const SETUP: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; \
                     PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = ON";

/// Opens a file, making it and its folder if need be, and starts its writer. The token is cancelled once the file is
/// closed and its lock given up.
pub(crate) async fn open(
    path: &Path,
    migrations: &'static [Migration],
) -> Result<(Queue, Readers, CancellationToken), OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(unwritable)?;
    }
    let lock = Lock::take(path).await?;
    let file = path.to_owned();
    let prepared = tokio::task::spawn_blocking(move || prepare(&file, migrations)).await;
    let connection = prepared.map_err(|error| unwritable(error.into()))??;
    let (queue, groups) = group::queue();
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let run = move || {
        writer::run(connection, groups);
        drop(lock);
        drop(guard);
    };
    thread::Builder::new().name("records".to_owned()).spawn(run).map_err(unwritable)?;
    Ok((queue, Readers::new(path.to_owned()), ended))
}

fn prepare(path: &Path, migrations: &[Migration]) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = connect(path, flags)
        .and_then(|connection| connection.execute_batch(SETUP).map(|()| connection))
        .map_err(|source| refusal(path, source))?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time, so SQLite needs no locks of its own.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(connection)
}

fn refusal(path: &Path, source: rusqlite::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::Unwritable { path, source: std::io::Error::other(source) }
        }
        _ => OpenError::Unreadable { path, source: Engine::from(source) },
    }
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let unreadable =
        |source: rusqlite::Error| OpenError::Unreadable { path: path.to_owned(), source: source.into() };
    connection.execute_batch(migrate::VERSION_TABLE).map_err(unreadable)?;
    let found = connection.query_row(migrate::VERSION, [], |row| row.get(0)).map_err(unreadable)?;
    for migration in migrate::missing(migrations, found, &path.display().to_string())? {
        apply(connection, migration).map_err(|source| OpenError::Migration {
            database: path.display().to_string(),
            version: migration.version,
            source: source.into(),
        })?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, migration: &Migration) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(migrate::RECORD, [i64::from(migration.version)])?;
    transaction.commit()
}
