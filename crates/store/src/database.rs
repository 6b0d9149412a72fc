//! A database: one writer that commits in groups, a few readers.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Batch, Migration, OpenError, ReadError, Row, Value, WriteError,
    lock::Lock,
    migrate::migrate,
    readers::Readers,
    writer::{self, Submission},
};

/// How many batches may wait for the writer. When as many do, `write` waits: that is the farm's back-pressure.
const QUEUE: usize = 1024;

/// Records. Clones are the same database; it closes when the last one goes, or by [`Database::close`].
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Submission>,
    readers: Readers,
    closing: CancellationToken,
    /// Holds the writer alone. It is no task of the server's: it must outlive every task that writes, and when it
    /// dies every write says so.
    tracker: TaskTracker,
}

impl Database {
    /// Opens a SQLite file, making it and its folder if need be, and brings it up to `migrations`. Only one process
    /// can have it open.
    ///
    /// # Errors
    ///
    /// Each is one line that says what to do next.
    pub async fn open(path: &Path, migrations: &'static [Migration]) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(unwritable)?;
        }
        let lock = Lock::take(path).await?;
        let mut connection = connect(path).await?;
        migrate(&mut connection, path, migrations).await?;

        let (queue, submissions) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let tracker = TaskTracker::new();
        tracker.spawn(writer::run(connection, lock, submissions, closing.clone()));
        tracker.close();
        let readers = Readers::new(options(path).read_only(true));
        Ok(Self(Arc::new(Inner { queue, readers, closing, tracker })))
    }

    /// Does a batch and makes it durable. Batches that come at the same time share a transaction and one flush of the
    /// disk, in the order in which they came; each succeeds or fails by itself. A batch once begun is done even when
    /// the caller goes away.
    pub async fn write(&self, batch: Batch) -> Result<(), WriteError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        self.0.queue.send(Submission { batch, done }).await.map_err(|_| WriteError::Closed)?;
        outcome.await.unwrap_or(Err(WriteError::Closed))
    }

    /// All rows of a query. It sees every batch whose `write` has returned. Bound the number of rows in the query: they
    /// are all held in memory.
    pub async fn read(&self, sql: &'static str, args: impl Into<Vec<Value>>) -> Result<Vec<Row>, ReadError> {
        if self.0.closing.is_cancelled() {
            return Err(ReadError::Closed);
        }
        self.0.readers.read(sql, &args.into()).await
    }

    /// The first row of a query, if there is any.
    pub async fn read_first(
        &self,
        sql: &'static str,
        args: impl Into<Vec<Value>>,
    ) -> Result<Option<Row>, ReadError> {
        Ok(self.read(sql, args).await?.into_iter().next())
    }

    /// Does what is waiting, then closes the file and gives up its lock. Later writes fail.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.readers.close().await;
        self.0.tracker.wait().await;
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

async fn connect(path: &Path) -> Result<SqliteConnection, OpenError> {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A checkpoint stalls the writer for two flushes; 16 MiB of log make it rare and still small.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864");
    options.connect().await.map_err(|source| match &source {
        sqlx::Error::Database(error)
            if matches!(error.code().as_deref(), Some("8" | "14" | "1544" | "776")) =>
        {
            let source = std::io::Error::other(error.message().to_owned());
            OpenError::Unwritable { path: path.to_owned(), source }
        }
        _ => OpenError::Unreadable { path: path.to_owned(), source },
    })
}
