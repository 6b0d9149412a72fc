//! One request: who asks, within what time and limits, and what becomes of a handler that fails.

use std::{any::Any, convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use axum::{body::Body, response::IntoResponse as _};
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};
use tonic::{Code, Status};
use tower::ServiceExt as _;
use tracing::{Instrument as _, error};

use runtime::Tasks;

use super::{guard::Guard, metrics::Recorder, outgoing, outgoing::Outgoing, text};
use crate::{Deadline, Peer, channel::deadline_exceeded, methods, status::status};

/// What a service is put together from.
pub(super) struct Parts {
    pub(super) name: &'static str,
    pub(super) grpc: axum::Router,
    pub(super) http: Option<axum::Router>,
    pub(super) guard: Guard,
    pub(super) concurrency: usize,
    pub(super) tasks: Tasks,
}

/// Answers requests, however they arrive: over a listener, or over a reversed connection.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    parts: Parts,
    running: Semaphore,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Service").field(&self.0.parts.name).finish()
    }
}

impl Service {
    pub(super) fn new(parts: Parts) -> Self {
        let running = Semaphore::new(parts.concurrency);
        Self(Arc::new(Inner { parts, running }))
    }

    /// Answers one request. `peer` is who holds the other end of the connection.
    pub(crate) async fn answer(
        self,
        mut request: Request<Incoming>,
        peer: Option<Peer>,
    ) -> Result<Response<Body>, Infallible> {
        let parts = &self.0.parts;
        if !parts.guard.host_is_ours(&request) {
            return Ok(refuse(StatusCode::MISDIRECTED_REQUEST, "this host is not served here\n"));
        }
        match peer {
            Some(peer) => drop(request.extensions_mut().insert(peer)),
            None if parts.guard.is_for_guests(request.uri().path()) => {}
            None => return Ok(no_certificate(&request)),
        }
        Ok(if is_grpc(&request) { self.call(request).await } else { self.page(request).await })
    }

    async fn call(&self, mut request: Request<Incoming>) -> Response<Body> {
        let parts = &self.0.parts;
        let mut recorder = Recorder::begin(methods::find(request.uri().path()), request.headers());
        let response = match self.admit(&request) {
            Err(status) => status.into_http(),
            Ok(_permit) => {
                let deadline = Deadline::of_call(request.uri().path(), request.headers());
                request.extensions_mut().insert(deadline);
                let handling = parts.grpc.clone().oneshot(request).instrument(recorder.span());
                let handling = AssertUnwindSafe(handling).catch_unwind();
                let handled = match deadline.instant() {
                    None => Ok(handling.await),
                    Some(at) => timeout_at(at, handling).await,
                };
                match handled {
                    Ok(Ok(Ok(response))) => response,
                    Ok(Ok(Err(never))) => match never {},
                    Ok(Err(panic)) => {
                        report(&*panic, recorder.method());
                        outgoing::panicked().into_http()
                    }
                    Err(_) => deadline_exceeded().into_http(),
                }
            }
        };
        if let Some(code) = outgoing::code(response.headers()) {
            recorder.end(code);
        }
        response.map(|body| Outgoing::call(body, recorder, parts.tasks.shutdown()))
    }

    /// Lets a call in, or says why not.
    fn admit(&self, request: &Request<Incoming>) -> Result<SemaphorePermit<'_>, Status> {
        if !self.0.parts.guard.call_is_known(request.uri().path(), request.headers()) {
            let message = "the call needs the farm's token";
            return Err(status(Code::Unauthenticated, "BAD_TOKEN", message));
        }
        let busy =
            |_| status(Code::Unavailable, "SERVER_BUSY", "the server has as many calls as it can take");
        self.0.running.try_acquire().map_err(busy)
    }

    async fn page(&self, mut request: Request<Incoming>) -> Response<Body> {
        let parts = &self.0.parts;
        let Some(router) = &parts.http else {
            return refuse(StatusCode::NOT_FOUND, "there are no pages here, only gRPC\n");
        };
        // For handlers that go on after their response, such as the reversed connection's.
        request.extensions_mut().insert(parts.tasks.clone());
        let path = request.uri().path().to_owned();
        match AssertUnwindSafe(router.clone().oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) if is_events(&response) => {
                response.map(|body| Outgoing::events(body, parts.tasks.shutdown()))
            }
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                report(&*panic, &path);
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
        }
    }
}

/// The answer to a client that should have shown a certificate.
fn no_certificate<B>(request: &Request<B>) -> Response<Body> {
    let message = "this needs a certificate of the farm";
    if is_grpc(request) {
        return status(Code::Unauthenticated, "NO_CERTIFICATE", message).into_http();
    }
    refuse(StatusCode::FORBIDDEN, "this needs a certificate of the farm\n")
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    text(request.headers(), &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/grpc"))
}

fn is_events<B>(response: &Response<B>) -> bool {
    text(response.headers(), &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"))
}

fn refuse(code: StatusCode, message: &'static str) -> Response<Body> {
    (code, message).into_response()
}

fn report(panic: &(dyn Any + Send), what: &str) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    error!(grpc.method = what, "the handler of `{what}` panicked: {message}");
}
