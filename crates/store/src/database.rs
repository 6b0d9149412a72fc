//! A database: one writer that commits in groups, a few readers.

use std::{path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    Batch, Migration, OpenError, ReadError, Row, Value, WriteError,
    group::Queue,
    sqlite::{self, Readers},
};

/// Records. Clones are the same database; it closes when the last one goes, or by [`Database::close`].
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Queue,
    readers: Readers,
    closing: CancellationToken,
    /// Cancelled when the writer is gone and the database can be opened again.
    ended: CancellationToken,
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
        Ok(Self(Arc::new(Inner { queue, readers, closing: CancellationToken::new(), ended })))
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
        self.0.readers.read(sql, args.into()).await
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
        self.0.queue.close().await;
        self.0.ended.cancelled().await;
    }
}
