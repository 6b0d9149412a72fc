//! A small pool of connections that read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::{Link, Session};
use crate::{ReadError, Row, Value};

/// Each is a process of the server.
const READERS: usize = 4;

pub(crate) struct Readers {
    link: Arc<Link>,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl Readers {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, permits: Semaphore::new(READERS), idle: Mutex::default() }
    }

    /// A read that is cancelled or fails drops its connection, so that a half-read one is never used again. One whose
    /// connection was lost while nobody used it is read again with a new one, once.
    pub(crate) async fn read(&self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, ReadError> {
        let _permit = self.permits.acquire().await.map_err(|_| ReadError::Closed)?;
        let idle = self.idle().pop();
        if let Some(session) = idle {
            match self.read_with(session, sql, args).await {
                Err(ReadError::Engine(error)) if error.is_lost() => {
                    // What lost this one has lost the others.
                    self.idle().clear();
                }
                answer => return answer,
            }
        }
        self.read_with(self.link.connect().await?, sql, args).await
    }

    async fn read_with(
        &self,
        mut session: Session,
        sql: &'static str,
        args: &[Value],
    ) -> Result<Vec<Row>, ReadError> {
        let rows = session.query(sql, args).await?;
        self.idle().push(session);
        Ok(rows)
    }

    /// Closes the connections that nobody reads with; the others close when they are done.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
