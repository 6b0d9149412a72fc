//! What one reader of the log gets.
//!
//! A reader has a task of its own that holds its position and at most one frame more than the reader has taken. It is
//! cut off when it takes nothing for a while, and goes on later with its token.
//!
//! A frame costs the same whether it carries one mutation or a hundred, so the more readers there are, the longer one
//! that has caught up rests between two looks: what came meanwhile travels together. A few readers never rest.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use maintner::{
    Batch, Log,
    log::{Filter, Reader},
};
use runtime::Tasks;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Frame;
use crate::config::Limits;

pub(super) type Item = Result<Frame, Status>;

/// What a frame costs this process and the connections, roughly, and as much again for all else there is to do.
const COST_OF_A_FRAME: Duration = Duration::from_micros(50);
/// Below this, timers cost more than they save.
const SHORTEST_REST: Duration = Duration::from_millis(2);
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How many readers there are.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<AtomicU32>);

impl Readers {
    fn join(&self) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }

    /// How long a reader rests before it looks again.
    fn rest(&self) -> Option<Duration> {
        let rest = COST_OF_A_FRAME * self.0.load(Ordering::Relaxed);
        (rest >= SHORTEST_REST).then_some(rest.min(LONGEST_REST))
    }
}

/// One of the readers, for as long as it lives.
struct Seat(Readers);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a reader begins, and what it wants to see.
pub(super) struct Begin {
    pub(super) position: u64,
    pub(super) checkpoint_first: bool,
    pub(super) filter: Filter,
}

/// Everything after the position that passes the filter, and then what is appended, without end.
pub(super) fn open(
    log: &Log,
    begin: Begin,
    readers: &Readers,
    tasks: &Tasks,
    limits: Limits,
) -> BoxStream<'static, Item> {
    let (frames, delivered) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    let reader = log.filtered(begin.position, begin.filter);
    let delivery = Delivery { history: log.clone(), reader, frames, limits, seat: readers.join() };
    let shutdown = tasks.shutdown();
    tasks.job("deliver mutations", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            status = delivery.run(begin.checkpoint_first) => {
                let _ = end.send(status); // nobody is there to hear it if the stream is gone
            }
        }
    });
    let last = stream::once(ended).filter_map(|end| ready(end.ok().flatten().map(Err)));
    ReceiverStream::new(delivered).map(Ok).chain(last).boxed()
}

struct Delivery {
    history: Log,
    reader: Reader,
    frames: mpsc::Sender<Frame>,
    limits: Limits,
    seat: Seat,
}

/// The reader went away, or must be told to.
enum End {
    Gone,
    Slow(Duration),
}

impl Delivery {
    /// Ends with the status that the reader is to get, if it is still there.
    async fn run(mut self, checkpoint_first: bool) -> Option<Status> {
        match self.deliver(checkpoint_first).await {
            Ok(status) => Some(status),
            Err(End::Gone) => None,
            Err(End::Slow(limit)) => {
                let text =
                    format!("nothing was read for {} s: go on with the last token", limit.as_secs_f32());
                Some(rpc::status(Code::ResourceExhausted, "SLOW_READER", text))
            }
        }
    }

    async fn deliver(&mut self, checkpoint_first: bool) -> Result<Status, End> {
        let mut was_caught_up = checkpoint_first;
        if checkpoint_first {
            self.checkpoint().await?;
        }
        let mut due = Instant::now() + self.limits.checkpoint;
        loop {
            let next = tokio::select! {
                () = self.frames.closed() => return Err(End::Gone),
                next = timeout_at(due, self.reader.next()) => next,
            };
            let looked = Instant::now();
            let batch = match next {
                Ok(Ok(batch)) => batch,
                Ok(Err(error)) => return Ok(failure(&error)),
                Err(_) => self.reader.nothing(),
            };
            let (full, overdue) = (!batch.is_empty(), looked >= due);
            if full {
                self.batch(&batch).await?;
            }
            let caught_up = self.reader.is_caught_up();
            let arrives = caught_up && !was_caught_up;
            was_caught_up |= caught_up;
            if arrives || (overdue && !full && caught_up) {
                self.checkpoint().await?;
            } else if overdue && !full {
                // Nothing of much history passes: at least the token moves on.
                self.batch(&batch).await?;
            }
            if full || arrives || overdue {
                due = Instant::now() + self.limits.checkpoint;
            }
            if caught_up {
                self.rest(looked).await?;
            }
        }
    }

    /// Waits until it is worth to look again after a look at this time.
    async fn rest(&self, looked: Instant) -> Result<(), End> {
        let Some(rest) = self.seat.0.rest() else { return Ok(()) };
        tokio::select! {
            () = self.frames.closed() => Err(End::Gone),
            () = sleep_until(looked + rest) => Ok(()),
        }
    }

    async fn batch(&mut self, batch: &Batch) -> Result<(), End> {
        let token = self.history.token(batch.range().end);
        self.send(Frame::batch(batch, token)).await
    }

    async fn checkpoint(&mut self) -> Result<(), End> {
        let token = self.history.token(self.reader.position());
        self.send(Frame::checkpoint(token)).await
    }

    async fn send(&mut self, frame: Frame) -> Result<(), End> {
        match timeout(self.limits.slow_reader, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow(self.limits.slow_reader)),
        }
    }
}

fn failure(error: &maintner::log::ReadError) -> Status {
    match error {
        maintner::log::ReadError::Closed => rpc::status(Code::Unavailable, "LOG_FAILED", error),
        _ => rpc::internal("LOG_DAMAGED", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_readers_never_rest_and_many_not_long() {
        let readers = Readers::default();
        assert_eq!(readers.rest(), None);
        let mut seats: Vec<Seat> = (0..1000).map(|_| readers.join()).collect();
        assert_eq!(readers.rest(), Some(Duration::from_millis(50)));
        seats.truncate(10);
        assert_eq!(readers.rest(), None);
        seats.extend((0..9000).map(|_| readers.join()));
        assert_eq!(readers.rest(), Some(LONGEST_REST));
    }
}
