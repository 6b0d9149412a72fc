//! A small pool of connections that read.
//!
//! Without timeouts of its own, unlike sqlx's pool: a test that pauses the clock would see them fire at once.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{
    Column, ConnectOptions, Connection, Row as _, SqliteConnection, TypeInfo, ValueRef,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::sync::Semaphore;

use crate::{ReadError, Row, Value, writer::arguments};

/// Enough for a few pages beside the services; each costs up to 2 MiB of cache.
const READERS: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(crate) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, permits: Semaphore::new(READERS), idle: Mutex::default() }
    }

    /// A cancelled read drops its connection, so that a half-read one is never used again.
    pub(crate) async fn read(&self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, ReadError> {
        let _permit = self.permits.acquire().await.map_err(|_| ReadError::Closed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(ReadError::Engine)?,
        };
        let query = sqlx::query_with(sql, arguments(args).map_err(ReadError::Engine)?);
        let rows = query.fetch_all(&mut connection).await.map_err(ReadError::Engine);
        self.idle().push(connection);
        convert(&rows?)
    }

    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::warn!("failed to close a reader of the database: {error}");
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn convert(rows: &[SqliteRow]) -> Result<Vec<Row>, ReadError> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    let row = |row: &SqliteRow| {
        let values = (0..columns.len()).map(|index| value(row, index)).collect::<Result<_, _>>();
        Ok(Row { columns: Arc::clone(&columns), values: values.map_err(ReadError::Engine)? })
    };
    rows.iter().map(row).collect()
}

fn value(row: &SqliteRow, index: usize) -> sqlx::Result<Value> {
    let raw = row.try_get_raw(index)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    // What the value is counts, not what its column was declared as.
    match raw.type_info().name() {
        "INTEGER" | "BOOLEAN" => row.try_get_unchecked(index).map(Value::Int),
        "REAL" => row.try_get_unchecked(index).map(Value::Real),
        "BLOB" => row.try_get_unchecked::<Vec<u8>, _>(index).map(|bytes| Value::Blob(bytes.into())),
        _ => row.try_get_unchecked(index).map(Value::Text),
    }
}
