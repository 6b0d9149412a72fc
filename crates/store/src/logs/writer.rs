//! Writes one log: collects bytes, compresses chunks, makes them durable.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use types::ExecId;

use super::{
    CHUNK_BYTES, Inner, LogError, LogState,
    chunk::{Chunk, Place, encode, object_key},
    index,
    live::Registration,
    seal, unpoisoned,
};
use crate::Batch;

/// How long bytes wait for company before they are made durable.
const FLUSH: Duration = Duration::from_millis(200);
/// Chunks that are no larger together, compressed, stay in the database.
pub(super) const IN_ROWS: usize = 16 << 10;
/// An object is written once it would be this large.
const OBJECT_BYTES: usize = 4 << 20;
/// Pieces of at most a chunk that wait for the writer's task. When as many do, `push` waits.
const QUEUE: usize = 8;

/// Writes one log. Dropped, it makes durable what was pushed, and leaves the log unfinished.
pub struct LogWriter {
    commands: mpsc::Sender<Command>,
    durable: watch::Receiver<u64>,
    accepted: u64,
    finished: bool,
    failure: Failure,
}

/// Why the task ended early, until somebody asks.
type Failure = Arc<Mutex<Option<LogError>>>;

enum Command {
    Data(Bytes),
    Flush(oneshot::Sender<()>),
    /// With bytes that become durable together with the end, or not at all.
    Finish(Bytes, oneshot::Sender<()>),
}

/// Why the task ended early is in its [`Failure`] by now.
struct Ended;

struct Task {
    store: Arc<Inner>,
    exec: ExecId,
    failure: Failure,
    durable: watch::Sender<u64>,
    /// Bytes that are not compressed yet: less than a chunk between commands.
    raw: BytesMut,
    /// Compressed chunks that are not durable yet, and their bytes.
    chunks: Vec<(Chunk, Bytes)>,
    stored: usize,
    /// The position and the line ends at the end of `chunks`.
    end: u64,
    line: u64,
    /// Where the last durable chunk starts, if there is one, and how many there are, as far as it matters.
    last_start: Option<u64>,
    rows: usize,
    /// When what is held is made durable.
    deadline: Option<Instant>,
}

pub(super) async fn open(store: &Arc<Inner>, exec: ExecId) -> Result<LogWriter, LogError> {
    // One that is finished may still be moved by its writer, which is not waited for.
    if store.live.is_written(exec) {
        let info = index::info(&store.database, exec).await?;
        if info.finished {
            return Ok(LogWriter::finished(info.bytes));
        }
    }
    let registration = store.live.register(exec).await;
    let last = index::last(&store.database, exec).await?;
    let info = last.as_ref().map(Chunk::info).unwrap_or_default();
    store.live.advance(exec, LogState { bytes: info.bytes, finished: info.finished });
    if info.finished {
        return Ok(LogWriter::finished(info.bytes));
    }
    let (commands, receiver) = mpsc::channel(QUEUE);
    let (durable, durable_receiver) = watch::channel(info.bytes);
    let failure = Failure::default();
    let task = Task {
        store: Arc::clone(store),
        exec,
        failure: Arc::clone(&failure),
        durable,
        raw: BytesMut::new(),
        chunks: Vec::new(),
        stored: 0,
        end: info.bytes,
        line: info.line_ends,
        last_start: last.as_ref().map(|chunk| chunk.start),
        // A log that was begun earlier has one or more.
        rows: last.map_or(0, |chunk| if chunk.start == 0 { 1 } else { 2 }),
        deadline: None,
    };
    store.tasks.job("log writer", async move {
        // An error is in the failure's slot, for whoever holds the writer.
        let _ = task.run(receiver, registration).await;
    });
    let durable = durable_receiver;
    Ok(LogWriter { commands, durable, accepted: info.bytes, finished: false, failure })
}

impl LogWriter {
    /// A writer of a finished log: all that it can do is to be finished again.
    fn finished(bytes: u64) -> Self {
        let (commands, _) = mpsc::channel(1);
        let (_, durable) = watch::channel(bytes);
        Self { commands, durable, accepted: bytes, finished: true, failure: Failure::default() }
    }

    /// How many bytes are durable: where to resume after a failure.
    pub fn position(&self) -> u64 {
        *self.durable.borrow()
    }

    /// How many bytes were accepted: what comes next must begin there or before.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Follows [`LogWriter::position`]: what may be forgotten elsewhere.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Adds the bytes from `offset` on. Those that were accepted already are ignored. Waits while the disk is slower
    /// than the caller.
    ///
    /// # Errors
    ///
    /// A gap changes nothing. After any other error this writer is of no more use; open another.
    pub async fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), LogError> {
        if offset > self.accepted {
            return Err(LogError::Gap { expected: self.accepted, found: offset });
        }
        let known = usize::try_from(self.accepted - offset).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return Ok(());
        }
        if self.finished {
            return Err(LogError::Finished(self.accepted));
        }
        let mut rest = bytes.slice(known..);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(CHUNK_BYTES));
            let size = piece.len() as u64;
            self.commands.send(Command::Data(piece)).await.map_err(|_| self.failed())?;
            self.accepted += size;
        }
        Ok(())
    }

    /// Waits until all that was pushed is durable. Without it that takes at most 200 ms and the disk's time.
    pub async fn flush(&mut self) -> Result<(), LogError> {
        if self.finished {
            return Ok(());
        }
        self.command(Command::Flush).await
    }

    /// Whether the log was finished before this writer was opened: it can only be finished again.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Makes all durable and the log finished. Finishing a finished log is fine.
    pub async fn finish(self) -> Result<(), LogError> {
        self.finish_with(Bytes::new()).await
    }

    /// As [`LogWriter::finish`], with a last word of the farm's own behind what was pushed: a log that is not finished
    /// does not have it, one that is has it whole. A finished log is left as it is.
    pub async fn finish_with(mut self, last: Bytes) -> Result<(), LogError> {
        if self.finished {
            return Ok(());
        }
        self.command(|done| Command::Finish(last, done)).await
    }

    async fn command(
        &mut self,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) -> Result<(), LogError> {
        let (done, outcome) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| self.failed())?;
        outcome.await.map_err(|_| self.failed())
    }

    fn failed(&self) -> LogError {
        unpoisoned(&self.failure).take().unwrap_or(LogError::Superseded)
    }
}

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        registration: Registration,
    ) -> Result<(), Ended> {
        let stop = registration.stop();
        loop {
            let deadline = self.deadline;
            let command = tokio::select! {
                biased;
                // What was pushed but is not durable is pushed again to the writer that takes over.
                () = stop.cancelled() => return Err(Ended),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.persist(false).await?;
                    continue;
                }
                command = commands.recv() => command,
            };
            match command {
                Some(Command::Data(bytes)) => self.take(&bytes).await?,
                Some(Command::Flush(done)) => {
                    self.persist(false).await?;
                    let _ = done.send(());
                }
                Some(Command::Finish(last, done)) => {
                    if !last.is_empty() {
                        self.persist(false).await?;
                        self.raw.extend_from_slice(&last);
                    }
                    self.persist(true).await?;
                    let _ = done.send(());
                    break;
                }
                None => return self.persist(false).await,
            }
        }
        if self.rows > 1 {
            let shutdown = self.store.tasks.shutdown();
            tokio::select! {
                () = seal::seal(&self.store, self.exec) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Keeps an error for whoever holds the writer, before anything tells them that there is one.
    fn keep<T>(&self, result: Result<T, LogError>) -> Result<T, Ended> {
        result.map_err(|error| {
            *unpoisoned(&self.failure) = Some(error);
            Ended
        })
    }

    async fn persist(&mut self, finished: bool) -> Result<(), Ended> {
        let result = self.try_persist(finished).await;
        self.keep(result)
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.deadline.get_or_insert_with(|| Instant::now() + FLUSH);
        self.raw.extend_from_slice(bytes);
        while self.raw.len() >= CHUNK_BYTES {
            let chunk = self.raw.split_to(CHUNK_BYTES).freeze();
            let result = self.encode(chunk).await;
            self.keep(result)?;
        }
        if self.stored >= OBJECT_BYTES {
            self.persist(false).await?;
        }
        Ok(())
    }

    async fn encode(&mut self, raw: Bytes) -> Result<(), LogError> {
        let (start, bytes, line) = (self.end, raw.len() as u64, self.line);
        let broken = |_| LogError::Corrupt { exec: self.exec, start };
        let (stored, lines) = encode(raw).await.map_err(broken)?;
        self.stored += stored.len();
        self.end += bytes;
        self.line += lines;
        let written = self.store.clock.now();
        let chunk = Chunk { start, bytes, line, lines, written, finished: false, place: Place::Unread };
        self.chunks.push((chunk, stored));
        Ok(())
    }

    /// Makes all that is held durable, then says so.
    async fn try_persist(&mut self, finished: bool) -> Result<(), LogError> {
        self.deadline = None;
        // Taken whole, so that an idle writer holds no buffer.
        let rest = std::mem::take(&mut self.raw).freeze();
        if !rest.is_empty() || (finished && self.last_start.is_none() && self.chunks.is_empty()) {
            self.encode(rest).await?;
        }
        let mut chunks = self.place().await?;
        let mut batch = Batch::new();
        match chunks.last_mut() {
            Some(last) => {
                last.finished = finished;
                self.last_start = Some(last.start);
            }
            None if finished => index::finish(&mut batch, self.exec, self.last_start.unwrap_or(0)),
            None => return Ok(()),
        }
        self.rows += chunks.len();
        for chunk in &chunks {
            index::insert(&mut batch, self.exec, chunk);
        }
        self.store.database.write(batch).await?;
        self.durable.send_replace(self.end);
        self.store.live.advance(self.exec, LogState { bytes: self.end, finished });
        Ok(())
    }

    /// Puts the compressed chunks where they stay: into their rows, or into an object.
    async fn place(&mut self) -> Result<Vec<Chunk>, LogError> {
        let chunks = std::mem::take(&mut self.chunks);
        let stored = std::mem::take(&mut self.stored);
        let Some((first, _)) = chunks.first() else { return Ok(Vec::new()) };
        if stored <= IN_ROWS {
            let in_row = |(chunk, bytes): (Chunk, Bytes)| Chunk { place: Place::Row(bytes), ..chunk };
            return Ok(chunks.into_iter().map(in_row).collect());
        }
        let key = object_key(self.exec, first.start);
        let mut object = BytesMut::with_capacity(stored);
        let mut placed = Vec::with_capacity(chunks.len());
        for (chunk, bytes) in chunks {
            let (position, stored) = (object.len() as u64, bytes.len() as u64);
            object.extend_from_slice(&bytes);
            placed.push(Chunk { place: Place::Object { key: key.clone(), position, stored }, ..chunk });
        }
        self.store.blobs.put(&key, object.freeze()).await?;
        Ok(placed)
    }
}
