//! The log store behind its port. What was pushed is durable after a moment, after `flush`, or with the end.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use coordinator::ports::{ExecLog, Logs};
use store::{BlobError, logs::LogError};
use tokio::time::Instant;
use types::ExecId;

use crate::{context::lock, coordinator::Life, fault::Fault, judge::Invariant, world::World};

/// How long bytes wait for company before they are durable.
const FLUSH: Duration = Duration::from_millis(200);

/// All logs that are durable.
#[derive(Default)]
pub(crate) struct Stored(Mutex<BTreeMap<ExecId, Log>>);

#[derive(Default)]
struct Log {
    durable: Vec<u8>,
    finished: bool,
    /// How many writers there were: only the last is good.
    writers: u64,
}

impl Stored {
    /// Whether a log is finished.
    pub(crate) fn is_finished(&self, exec: ExecId) -> bool {
        lock(&self.0).get(&exec).is_some_and(|log| log.finished)
    }
}

pub(crate) struct SimLogs {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

struct Writer {
    world: Arc<World>,
    life: Arc<Life>,
    exec: ExecId,
    number: u64,
    /// Bytes that are not durable yet, and since when.
    held: Mutex<(Vec<u8>, Option<Instant>)>,
    /// All bytes that were accepted.
    accepted: u64,
    finished: bool,
}

fn failed(exec: ExecId) -> LogError {
    let source = Arc::new(std::io::Error::other("the disk failed"));
    LogError::Blob(BlobError::Io { action: "write", key: exec.to_string(), source })
}

#[async_trait]
impl Logs for SimLogs {
    async fn writer(&self, exec: ExecId) -> Result<Box<dyn ExecLog>, LogError> {
        self.life.check().await;
        let mut logs = lock(&self.world.logs.0);
        let log = logs.entry(exec).or_default();
        log.writers += 1;
        Ok(Box::new(Writer {
            world: Arc::clone(&self.world),
            life: Arc::clone(&self.life),
            exec,
            number: log.writers,
            held: Mutex::default(),
            accepted: log.durable.len() as u64,
            finished: log.finished,
        }))
    }

    async fn read(&self, exec: ExecId, range: Range<u64>) -> Result<Bytes, LogError> {
        self.life.check().await;
        let logs = lock(&self.world.logs.0);
        let durable = logs.get(&exec).map_or(&[][..], |log| &log.durable);
        let end = (range.end as usize).min(durable.len());
        let start = (range.start as usize).min(end);
        Ok(Bytes::copy_from_slice(&durable[start..end]))
    }
}

impl Writer {
    /// Makes durable what is held. A writer that was superseded changes nothing.
    fn persist(&self) -> Result<(), LogError> {
        let mut logs = lock(&self.world.logs.0);
        let log = logs.entry(self.exec).or_default();
        if log.writers != self.number {
            return Err(LogError::Superseded);
        }
        let (bytes, since) = &mut *lock(&self.held);
        log.durable.append(bytes);
        *since = None;
        Ok(())
    }

    fn fails(&self) -> bool {
        self.world.context.strikes(Fault::LogFailed, |weather| weather.log_failed)
    }
}

#[async_trait]
impl ExecLog for Writer {
    fn position(&self) -> u64 {
        let due = lock(&self.held).1.is_some_and(|since| since.elapsed() >= FLUSH);
        if due {
            // An error shows with the next push.
            let _ = self.persist();
        }
        lock(&self.world.logs.0).get(&self.exec).map_or(0, |log| log.durable.len() as u64)
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    async fn push(&mut self, offset: u64, data: Bytes) -> Result<(), LogError> {
        self.life.check().await;
        if offset > self.accepted {
            return Err(LogError::Gap { expected: self.accepted, found: offset });
        }
        if self.fails() {
            return Err(failed(self.exec));
        }
        let known = (self.accepted - offset) as usize;
        if known < data.len() {
            if self.finished {
                return Err(LogError::Finished(self.accepted));
            }
            let (bytes, since) = &mut *lock(&self.held);
            bytes.extend_from_slice(&data[known..]);
            since.get_or_insert_with(Instant::now);
            self.accepted = offset + data.len() as u64;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        self.world.context.pause(0, 3).await;
        self.life.check().await;
        if self.fails() {
            return Err(failed(self.exec));
        }
        if self.finished { Ok(()) } else { self.persist() }
    }

    async fn finish_with(self: Box<Self>, last: Bytes) -> Result<(), LogError> {
        self.world.context.pause(0, 3).await;
        self.life.check().await;
        if self.finished {
            return Ok(());
        }
        if self.fails() {
            return Err(failed(self.exec));
        }
        self.persist()?;
        let mut logs = lock(&self.world.logs.0);
        let log = logs.entry(self.exec).or_default();
        if let Some(what) = self.world.truth.wrong_log(self.exec, &log.durable) {
            self.world.context.judge.broken(Invariant::Logs, what);
        }
        log.durable.extend_from_slice(&last);
        log.finished = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What was pushed becomes durable, unless the process is gone.
        if !self.finished && !self.life.is_dead() {
            let _ = self.persist();
        }
    }
}
