//! A database: one writer that commits in groups, a few readers.

use std::{path::Path, sync::Arc};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Batch, Migration, OpenError, Postgres, ReadError, Row, Value, WriteError, group::Queue, postgres, sqlite,
};

/// Records. Clones are the same database; it closes when the last one goes, or by [`Database::close`].
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

struct Inner {
    queue: Queue,
    engine: Engine,
    closing: CancellationToken,
}

enum Engine {
    Sqlite {
        readers: sqlite::Readers,
        /// Cancelled when the writer is gone and the file can be opened again.
        ended: CancellationToken,
    },
    Postgres {
        readers: postgres::Readers,
        term: Arc<postgres::Term>,
        tracker: TaskTracker,
        written: CancellationToken,
    },
}

/// The right to write, until another process has it.
#[derive(Debug)]
pub struct Leadership {
    epoch: u64,
    over: CancellationToken,
}

impl Leadership {
    /// Which in the row of leaders, from 1; 0 where there can be only one, a SQLite file.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Waits until another process leads: this one can write no more, and must begin anew.
    pub async fn lost(&self) {
        self.over.cancelled().await;
    }
}

impl Database {
    /// Opens a SQLite file, making it and its folder if need be, and brings it up to `migrations`. Only one process
    /// can have it open.
    ///
    /// # Errors
    ///
    /// Each is one line that says what to do next.
    pub async fn open(path: &Path, migrations: &'static [Migration]) -> Result<Self, OpenError> {
        let (queue, readers, ended) = sqlite::open(path, migrations).await?;
        let engine = Engine::Sqlite { readers, ended };
        Ok(Self(Arc::new(Inner { queue, engine, closing: CancellationToken::new() })))
    }

    /// Connects to a PostgreSQL database, making the schema if need be, and brings it up to `migrations`. Any number
    /// of processes can read; only the one that leads can write, see [`Database::lead`].
    ///
    /// # Errors
    ///
    /// Each is one line that says what to do next.
    pub async fn connect(options: Postgres, migrations: &'static [Migration]) -> Result<Self, OpenError> {
        let closing = CancellationToken::new();
        let opened = postgres::open(options, migrations, closing.clone()).await?;
        let postgres::Opened { queue, readers, term, tracker, written } = opened;
        let engine = Engine::Postgres { readers, term, tracker, written };
        Ok(Self(Arc::new(Inner { queue, engine, closing })))
    }

    /// Waits until this process leads: at once for a SQLite file, which no other can have open. A leader that dies is
    /// followed after 3 to 4 s, one that closes its database at once. None when the database is closed meanwhile.
    /// To be called once.
    ///
    /// `own` is the address at which the other processes reach this one when it leads; while another leads, `leader` is
    /// told that one's, or an empty one if nobody's is known.
    pub async fn lead(&self, own: &str, leader: &watch::Sender<String>) -> Option<Leadership> {
        match &self.0.engine {
            Engine::Sqlite { .. } => Some(Leadership { epoch: 0, over: CancellationToken::new() }),
            Engine::Postgres { term, tracker, written, .. } => {
                let epoch = term.win(own, leader).await?;
                let (term, written) = (Arc::clone(term), written.clone());
                let over = term.over();
                tracker.spawn(async move { term.beat(written).await });
                Some(Leadership { epoch, over })
            }
        }
    }

    /// Does a batch and makes it durable. Batches that come at the same time share a transaction and one flush of the
    /// disk, in the order in which they came; each succeeds or fails by itself. A batch once begun is done even when
    /// the caller goes away.
    pub async fn write(&self, batch: Batch) -> Result<(), WriteError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.0.queue.write(batch).await
    }

    /// All rows of a query. It sees every batch whose `write` has returned. Bound the number of rows in the query: they
    /// are all held in memory.
    pub async fn read(&self, sql: &'static str, args: impl Into<Vec<Value>>) -> Result<Vec<Row>, ReadError> {
        if self.0.closing.is_cancelled() {
            return Err(ReadError::Closed);
        }
        match &self.0.engine {
            Engine::Sqlite { readers, .. } => readers.read(sql, args.into()).await,
            Engine::Postgres { readers, .. } => readers.read(sql, &args.into()).await,
        }
    }

    /// The first row of a query, if there is any.
    pub async fn read_first(
        &self,
        sql: &'static str,
        args: impl Into<Vec<Value>>,
    ) -> Result<Option<Row>, ReadError> {
        Ok(self.read(sql, args).await?.into_iter().next())
    }

    /// Does what is waiting, then closes the file and gives up its lock, or gives up the lead. Later writes fail.
    pub async fn close(&self) {
        self.0.closing.cancel();
        match &self.0.engine {
            Engine::Sqlite { readers, ended } => {
                readers.close().await;
                self.0.queue.close().await;
                ended.cancelled().await;
            }
            Engine::Postgres { readers, tracker, .. } => {
                readers.close();
                self.0.queue.close().await;
                tracker.close();
                tracker.wait().await;
            }
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = match &self.engine {
            Engine::Sqlite { .. } => "SQLite",
            Engine::Postgres { .. } => "PostgreSQL",
        };
        f.debug_struct("Database").field("engine", &engine).finish_non_exhaustive()
    }
}
