//! Between tasks, which move bytes over the network, and threads, which move them to and from disk.
//!
//! Both ways hold few chunks, so that a slow side slows the other down instead of filling memory.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

/// How many chunks are on their way.
const DEPTH: usize = 8;
/// The size of chunks that are sent.
const CHUNK: usize = 256 << 10;

/// A pipe from a task to a thread, which gives up once `ending` is cancelled. Must be called within the runtime.
pub(crate) fn pipe(ending: CancellationToken) -> (Feeder, Piped) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let waiting = Waiting { ending, runtime: Handle::current() };
    (Feeder(sender), Piped { receiver, waiting, current: Bytes::new(), ended: false })
}

/// How a thread waits for a task, which may hang for as long as its peer wants.
#[derive(Debug)]
struct Waiting {
    ending: CancellationToken,
    runtime: Handle,
}

impl Waiting {
    /// Waits for a task; none if it was told to give up before.
    fn wait<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(self.ending.run_until_cancelled(waiting))
    }
}

/// The task's end. Dropped without [`Feeder::finish`], the reader gets an error.
#[derive(Debug)]
pub(crate) struct Feeder(mpsc::Sender<Option<Bytes>>);

impl Feeder {
    /// Hands a chunk over; false when nobody reads any more.
    pub(crate) async fn feed(&self, chunk: Bytes) -> bool {
        self.0.send(Some(chunk)).await.is_ok()
    }

    /// Says that all has come.
    pub(crate) async fn finish(self) {
        let _ = self.0.send(None).await;
    }
}

/// The thread's end.
#[derive(Debug)]
pub(crate) struct Piped {
    receiver: mpsc::Receiver<Option<Bytes>>,
    waiting: Waiting,
    current: Bytes,
    ended: bool,
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.waiting.wait(self.receiver.recv()).flatten() {
                Some(Some(chunk)) => self.current = chunk,
                Some(None) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the archive was broken off",
                    ));
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Cuts what a thread writes into chunks for a task, and takes their digest.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    sender: mpsc::Sender<Bytes>,
    waiting: Waiting,
    buffer: BytesMut,
    hasher: blake3::Hasher,
}

impl ChunkWriter {
    /// A writer, which gives up once `ending` is cancelled, and where its chunks come out. Must be called within the
    /// runtime.
    pub(crate) fn new(ending: CancellationToken) -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(DEPTH);
        let waiting = Waiting { ending, runtime: Handle::current() };
        (
            Self { sender, waiting, buffer: BytesMut::with_capacity(CHUNK), hasher: blake3::Hasher::new() },
            receiver,
        )
    }

    /// Sends the rest; returns the digest of all.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        Ok(self.hasher.finalize().to_hex().to_string())
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK)).freeze();
        self.hasher.update(&chunk);
        match self.waiting.wait(self.sender.send(chunk)) {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "nobody reads the archive any more")),
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
