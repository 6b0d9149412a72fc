//! Batches that wait, and how many of them go together: group commit.
//!
//! Durability costs a flush of the disk, whatever is flushed. So all batches that wait are done in one transaction. If
//! one of them fails, the transaction is undone and done again with a savepoint for each, so that it fails alone.

use opentelemetry::metrics::Histogram;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{Batch, WriteError};

/// How many batches may wait for the writer. When as many do, `write` waits: that is the farm's back-pressure.
const QUEUE: usize = 1024;
/// The most batches of one transaction: bounds how long the first of them waits for the last.
const MAX_GROUP: usize = 256;
/// The most bytes of one transaction, roughly.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// What each batch of a group came to.
pub(crate) type Outcomes = Vec<Result<(), WriteError>>;

/// A batch that waits, and who waits for it.
#[derive(Debug)]
pub(crate) struct Submission {
    batch: Batch,
    done: oneshot::Sender<Result<(), WriteError>>,
}

/// What a writer is told.
#[derive(Debug)]
enum Message {
    Batch(Submission),
    /// Do what waits, then end.
    Close,
}

/// The way to a writer.
#[derive(Debug)]
pub(crate) struct Queue(mpsc::Sender<Message>);

/// A writer's end of the queue.
pub(crate) struct Groups {
    receiver: mpsc::Receiver<Message>,
    seconds: Histogram<f64>,
    batches: Histogram<u64>,
}

/// Batches that are done in one transaction, in the order in which they came.
pub(crate) struct Group {
    submissions: Vec<Submission>,
    begun: Instant,
}

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, Groups) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let meter = runtime::telemetry::meter();
    let seconds = meter.f64_histogram("store.commit.seconds").with_unit("s").build();
    let batches = meter.u64_histogram("store.commit.batches").build();
    (Queue(sender), Groups { receiver, seconds, batches })
}

impl Queue {
    /// Hands a batch over and waits until it is done. Once handed over it is done even when the caller goes away.
    pub(crate) async fn write(&self, batch: Batch) -> Result<(), WriteError> {
        let (done, outcome) = oneshot::channel();
        let message = Message::Batch(Submission { batch, done });
        self.0.send(message).await.map_err(|_| WriteError::Closed)?;
        outcome.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Has the writer end once it has done what waits. Nothing is taken after that.
    pub(crate) async fn close(&self) {
        // A writer that is gone has ended already.
        let _ = self.0.send(Message::Close).await;
    }
}

impl Groups {
    /// The next group; none when the queue is closed and empty. For a thread that may block.
    pub(crate) fn blocking_next(&mut self) -> Option<Group> {
        loop {
            match self.receiver.blocking_recv()? {
                Message::Batch(first) => return Some(self.gather(first)),
                Message::Close => self.receiver.close(),
            }
        }
    }

    /// The next group; none when the queue is closed and empty.
    pub(crate) async fn next(&mut self) -> Option<Group> {
        loop {
            match self.receiver.recv().await? {
                Message::Batch(first) => return Some(self.gather(first)),
                Message::Close => self.receiver.close(),
            }
        }
    }

    fn gather(&mut self, first: Submission) -> Group {
        let mut bytes = first.batch.bytes();
        let mut submissions = vec![first];
        while submissions.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
            match self.receiver.try_recv() {
                Ok(Message::Batch(next)) => {
                    bytes += next.batch.bytes();
                    submissions.push(next);
                }
                Ok(Message::Close) => self.receiver.close(),
                Err(_) => break,
            }
        }
        self.batches.record(submissions.len() as u64, &[]);
        Group { submissions, begun: Instant::now() }
    }

    /// Tells everybody what their batch came to.
    pub(crate) fn answer(&self, group: Group, outcomes: Outcomes) {
        self.seconds.record(group.begun.elapsed().as_secs_f64(), &[]);
        for (submission, outcome) in group.submissions.into_iter().zip(outcomes) {
            // Nobody may be left to hear it; the batch is done all the same.
            let _ = submission.done.send(outcome);
        }
    }
}

impl Group {
    /// Its batches, in order.
    pub(crate) fn batches(&self) -> impl ExactSizeIterator<Item = &Batch> + Clone {
        self.submissions.iter().map(|submission| &submission.batch)
    }
}
