//! The body of a response on the server's side: counted, cut at shutdown, and safe from panics.

use std::{
    future::Future as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status};
use tracing::error;

use super::metrics::Recorder;
use crate::status::status;

/// A response that is being sent.
pub(super) struct Outgoing {
    inner: Body,
    /// None for what is no gRPC call.
    recorder: Option<Recorder>,
    shutdown: CancellationToken,
    /// Made when the body first has to wait.
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
}

impl Outgoing {
    /// A gRPC response.
    pub(super) fn call(inner: Body, recorder: Recorder, shutdown: CancellationToken) -> Body {
        Body::new(Self { inner, recorder: Some(recorder), shutdown, stop: None, ended: false })
    }

    /// A stream of server-sent events, which would never end by itself.
    pub(super) fn events(inner: Body, shutdown: CancellationToken) -> Body {
        Body::new(Self { inner, recorder: None, shutdown, stop: None, ended: false })
    }

    /// Ends the response early: for gRPC with a status, else without a word.
    fn finish(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.ended = true;
        let Some(recorder) = &mut self.recorder else { return Poll::Ready(None) };
        recorder.end(status.code());
        let mut trailers = HeaderMap::new();
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(axum::Error::new(error)))),
        }
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, axum::Error>>) {
        let Some(recorder) = &mut self.recorder else { return };
        match frame {
            None => recorder.end(Code::Ok),
            Some(Err(_)) => recorder.end(Code::Unknown),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    recorder.end(code(trailers).unwrap_or(Code::Unknown));
                }
            }
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(cx)));
        match polled {
            Ok(Poll::Ready(frame)) => {
                self.note(frame.as_ref());
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => {
                let shutdown = &self.shutdown.clone();
                let stop = self.stop.get_or_insert_with(|| Box::pin(shutdown.clone().cancelled_owned()));
                match stop.as_mut().poll(cx) {
                    Poll::Ready(()) => self.finish(&shutting_down()),
                    Poll::Pending => Poll::Pending,
                }
            }
            Err(_) => {
                let method = self.recorder.as_ref().map_or("", Recorder::method);
                error!(grpc.method = method, "a response of `{method}` panicked");
                self.finish(&panicked())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The code that stands in headers or trailers.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

pub(super) fn shutting_down() -> Status {
    status(Code::Unavailable, "SHUTTING_DOWN", "the server is shutting down")
}

pub(super) fn panicked() -> Status {
    // The panic's own message went to the log; nothing of it goes to the caller.
    status(Code::Internal, "PANIC", "the handler panicked")
}
