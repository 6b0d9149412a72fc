//! The client's side of calls: one type, whoever dialled.
//!
//! A dialled channel connects when it is first used, again when the connection is lost, and pauses after failures. A
//! reversed channel lives as long as its connection. On both, whatever goes wrong below gRPC is `UNAVAILABLE`.

mod dial;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, body::Body};

use crate::{
    DEFAULT_DEADLINE, Identity, Proxy,
    body::ResponseBody,
    methods, propagate,
    request::{TIMEOUT_HEADER, timeout},
    retry::backoff,
    status::{self, status as make_status},
    transport::Sender,
};

use dial::Dialler;
pub(crate) use dial::is_loopback;
pub use dial::{ConnectError, Trust, urls};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The text of [`DEFAULT_DEADLINE`] in `grpc-timeout`.
const DEFAULT_TIMEOUT: HeaderValue = HeaderValue::from_static("10S");
const AGENT: HeaderValue = HeaderValue::from_static("farmer");

/// Makes a channel to a service of the farm at `https://host:port` with an identity, to a server that the world knows
/// at `https://host` without one, or to `http://host:port` on loopback; or to whichever of several replicas answers, if
/// there are more URLs with commas between. Does not connect yet: the first call does.
///
/// # Errors
/// [`ConnectError`] if the address or the identity cannot be used at all.
pub fn connect(url: &str, identity: Option<&Identity>) -> Result<Channel, ConnectError> {
    connect_via(url, identity.map_or(Trust::World, Trust::Farm), None)
}

/// As [`connect`], with a choice of whom to trust, and through an HTTP proxy if there is one.
///
/// # Errors
/// As [`connect`].
pub fn connect_via(url: &str, trust: Trust<'_>, proxy: Option<&Proxy>) -> Result<Channel, ConnectError> {
    let (dialler, scheme, authority) = Dialler::new(url, trust, proxy.cloned())?;
    let link = Link {
        dialler: Some(dialler),
        live: Mutex::new(None),
        dialling: tokio::sync::Mutex::new(Pause::default()),
    };
    Ok(Channel { link: Arc::new(link), scheme, authority, authorization: None })
}

/// A way to call a service: give it to any generated client. Clones share the connection.
#[derive(Clone)]
pub struct Channel {
    link: Arc<Link>,
    scheme: Scheme,
    authority: Authority,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Channel {
    /// Sends a bearer token with each call. One that cannot stand in a header is not sent, so that calls answer
    /// `UNAUTHENTICATED`.
    pub fn with_bearer(mut self, token: &str) -> Self {
        self.authorization = HeaderValue::try_from(format!("Bearer {token}")).ok();
        if let Some(value) = &mut self.authorization {
            value.set_sensitive(true);
        }
        self
    }

    /// Fetches a page or a download, such as an archive, from the same port. The answer may be of any HTTP status; it
    /// has no deadline.
    ///
    /// # Errors
    /// `UNAVAILABLE` if there is no answer, `INVALID_ARGUMENT` if the path is none.
    pub async fn get(&self, path_and_query: &str) -> Result<Response<ResponseBody>, Status> {
        let bad = |error| make_status(Code::InvalidArgument, "BAD_PATH", error);
        let path: PathAndQuery = path_and_query.parse().map_err(bad)?;
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.into();
        self.clone().send(request).await
    }

    /// A channel over a connection that somebody else made; it is never made again.
    pub(crate) fn over(sender: Sender, authority: Authority) -> Self {
        let link = Link {
            dialler: None,
            live: Mutex::new(Some(sender)),
            dialling: tokio::sync::Mutex::new(Pause::default()),
        };
        Self { link: Arc::new(link), scheme: Scheme::HTTPS, authority, authorization: None }
    }

    async fn send(self, mut request: Request<Body>) -> Result<Response<ResponseBody>, Status> {
        let deadline = self.prepare(&mut request)?;
        let response = match deadline {
            None => self.link.send(request).await?,
            Some(at) => timeout_at(at, self.link.send(request)).await.map_err(|_| deadline_exceeded())??,
        };
        Ok(response.map(|body| ResponseBody::new(body, deadline)))
    }

    /// Completes the request and tells when its answer is due.
    fn prepare(&self, request: &mut Request<Body>) -> Result<Option<Instant>, Status> {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let unary = methods::find(path.path()).is_some_and(|method| method.unary);
        let headers = request.headers_mut();
        let mut limit = timeout(headers);
        if limit.is_none() && unary {
            headers.insert(TIMEOUT_HEADER, DEFAULT_TIMEOUT);
            limit = Some(DEFAULT_DEADLINE);
        }
        headers.insert(USER_AGENT, AGENT);
        propagate::inject(headers);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        *request.uri_mut() = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|error| make_status(Code::InvalidArgument, "BAD_PATH", error))?;
        Ok(limit.map(|limit| Instant::now() + limit))
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always ready: a call on a channel without connection makes one, or fails by itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// The connection, if there is one, and what it takes to make one.
struct Link {
    /// None if the other side dialled.
    dialler: Option<Dialler>,
    live: Mutex<Option<Sender>>,
    /// Held while dialling, so that many callers make one connection. A caller that gives up lets the next one try.
    dialling: tokio::sync::Mutex<Pause>,
}

/// The pause after failed attempts to connect: until it ends, calls fail at once with the same status.
#[derive(Default)]
struct Pause {
    failed: Option<(Instant, Status)>,
    pauses: Option<Box<dyn Iterator<Item = Duration> + Send>>,
}

impl Pause {
    fn begin(&mut self, status: &Status) {
        let pauses = self.pauses.get_or_insert_with(|| Box::new(backoff(FIRST_PAUSE, LONGEST_PAUSE)));
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        self.failed = Some((Instant::now() + pause, status.clone()));
    }
}

impl Link {
    /// Sends a request. One that never left this side because the connection was just closed is sent again over a
    /// new one, so that a restart of a server costs an idle client nothing.
    async fn send(&self, request: Request<Body>) -> Result<Response<hyper::body::Incoming>, Status> {
        let request = match attempt(&mut self.sender().await?, request).await? {
            Sent::Answered(response) => return Ok(response),
            Sent::Unsent(request) => request,
        };
        self.live().take();
        match attempt(&mut self.sender().await?, request).await? {
            Sent::Answered(response) => Ok(response),
            Sent::Unsent(_) => Err(status::unavailable("connection lost before the call was sent")),
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Option<Sender>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<Sender> {
        self.live().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn sender(&self) -> Result<Sender, Status> {
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        let Some(dialler) = &self.dialler else {
            return Err(status::unavailable("the reversed connection is closed"));
        };
        let mut pause = self.dialling.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        if let Some((until, status)) = &pause.failed
            && Instant::now() < *until
        {
            return Err(status.clone());
        }
        match dialler.dial().await {
            Ok(sender) => {
                *pause = Pause::default();
                *self.live() = Some(sender.clone());
                Ok(sender)
            }
            Err(status) => {
                pause.begin(&status);
                Err(status)
            }
        }
    }
}

/// What became of a request.
enum Sent {
    Answered(Response<hyper::body::Incoming>),
    /// It never left this side.
    Unsent(Request<Body>),
}

async fn attempt(sender: &mut Sender, request: Request<Body>) -> Result<Sent, Status> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok(Sent::Answered(response)),
        Err(mut failed) => match failed.take_message() {
            Some(request) => Ok(Sent::Unsent(request)),
            None => Err(status::transport(failed.error())),
        },
    }
}

pub(crate) fn deadline_exceeded() -> Status {
    make_status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the call took longer than its deadline")
}

/// Runs the driver of a connection until the connection ends. No supervised task: its end, whatever the cause, is seen
/// by every caller as `UNAVAILABLE`, and it holds nothing else.
pub(crate) fn drive(driver: impl Future<Output = ()> + Send + 'static) {
    use hyper::rt::Executor as _;
    hyper_util::rt::TokioExecutor::new().execute(driver);
}
