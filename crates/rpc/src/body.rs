//! The body of a response on the client's side: its transport errors are statuses, and its deadline ends it.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tokio::{
    io::AsyncRead,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::StreamReader;
use tonic::Status;

use crate::{channel::deadline_exceeded, status::transport};

/// What a call answers with.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Incoming,
    deadline: Option<Instant>,
    /// Made when the body first has to wait: most answers are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(crate) fn new(inner: Incoming, deadline: Option<Instant>) -> Self {
        Self { inner, deadline, alarm: None }
    }

    /// The bytes of a download, to read.
    pub fn into_reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        let bytes = BodyDataStream::new(self).map_err(std::io::Error::other);
        StreamReader::new(Box::pin(bytes))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| transport(&error))));
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        match alarm.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(deadline_exceeded()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
