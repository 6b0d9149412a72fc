//! What one reader of the log gets.
//!
//! A reader has a task of its own that holds its position and at most one frame more than the reader has taken. It is
//! cut off when it takes nothing for a while, and goes on later with its token.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use maintner::{Log, log::Reader};
use runtime::Tasks;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::Frame;
use crate::config::Limits;

pub(super) type Item = Result<Frame, Status>;

/// Everything after `position`, and then what is appended, without end.
pub(super) fn open(
    log: &Log,
    position: u64,
    checkpoint_first: bool,
    tasks: &Tasks,
    limits: Limits,
) -> BoxStream<'static, Item> {
    let (frames, delivered) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    let delivery = Delivery { history: log.clone(), reader: log.reader(position), frames, limits };
    let shutdown = tasks.shutdown();
    tasks.job("deliver mutations", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            status = delivery.run(checkpoint_first) => {
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
            match next {
                Err(_) => self.checkpoint().await?,
                Ok(Ok(batch)) => {
                    let token = self.history.token(batch.range().end);
                    self.send(Frame::batch(&batch, token)).await?;
                    if !was_caught_up && self.reader.is_caught_up() {
                        was_caught_up = true;
                        self.checkpoint().await?;
                    }
                }
                Ok(Err(error)) => return Ok(failure(&error)),
            }
            due = Instant::now() + self.limits.checkpoint;
        }
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
