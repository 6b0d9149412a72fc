//! A small pool of connections that read.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::{
    connect,
    rows::{bind, fetch},
};
use crate::{ReadError, Row, Value};

/// Enough for a few pages beside the services; each costs up to 2 MiB of cache.
const READERS: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers {
    permits: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// Connections that nobody reads with.
#[derive(Debug)]
struct Idle {
    path: PathBuf,
    connections: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        let idle = Idle { path, connections: Mutex::default() };
        Self { permits: Arc::new(Semaphore::new(READERS)), idle: Arc::new(idle) }
    }

    /// A read that is cancelled goes on to its end, unheard; it counts as a reader until then.
    pub(crate) async fn read(&self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, ReadError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let read = tokio::task::spawn_blocking(move || {
            let rows = idle.read(sql, &args);
            drop(permit);
            rows
        });
        read.await.map_err(|_| ReadError::Closed)?
    }

    /// Lets reads that have begun end, and closes the connections.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        // Fails only if it was closed before.
        let _ = self.permits.acquire_many(all).await;
        self.permits.close();
        self.idle.connections().clear();
    }
}

impl Idle {
    fn read(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, ReadError> {
        let idle = self.connections().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        let rows = query(&connection, sql, args);
        self.connections().push(connection);
        rows
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn query(connection: &Connection, sql: &str, args: &[Value]) -> Result<Vec<Row>, ReadError> {
    let mut statement = connection.prepare_cached(sql)?;
    bind(&mut statement, args)?;
    fetch(&mut statement)
}
