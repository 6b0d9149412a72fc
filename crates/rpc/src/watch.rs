//! Following a stream of another service for as long as this one runs.
//!
//! The stream is opened again with the last token after it breaks, ends or falls silent. Delivery is at least once:
//! the token moves only after the event was handled.

use std::{future::Future, time::Duration};

use futures_util::{Stream, TryStreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::retry::backoff;

/// Silence after which a stream counts as broken: servers send a checkpoint at least every 20 s.
pub const IDLE_LIMIT: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError<E> {
    /// The history after our token is gone (`OUT_OF_RANGE`): load the whole state again, then watch from there.
    #[error("the server no longer has what follows our position")]
    Expired(#[source] Status),
    /// The server refuses the request, and would again.
    #[error("the server refuses the watch")]
    Refused(#[source] Status),
    /// An event could not be handled.
    #[error("cannot handle an event")]
    Handler(#[source] E),
}

/// Opens a stream, hands each of its messages to `handle`, and opens it again when it breaks, with pauses. `handle`
/// answers with the new token if the message carried one. Ends well only when cancelled.
///
/// # Errors
/// [`WatchError`] if going on is no use.
///
/// # Cancel safety
/// Dropping it drops the stream; what was handled stays handled.
pub async fn run<S, T, K, E, Opening, Handling>(
    name: &'static str,
    mut token: K,
    mut open: impl FnMut(K) -> Opening,
    mut handle: impl FnMut(T) -> Handling,
    cancel: CancellationToken,
) -> Result<(), WatchError<E>>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    K: Clone,
    Opening: Future<Output = Result<S, Status>>,
    Handling: Future<Output = Result<Option<K>, E>>,
{
    let mut failures = Failures::new(name);
    loop {
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            opened = timeout(IDLE_LIMIT, open(token.clone())) => opened,
        };
        let broken = match opened.unwrap_or_else(|_| Err(silent())) {
            Err(status) => status,
            Ok(stream) => match follow(stream, &mut token, &mut handle, &cancel, &mut failures).await? {
                Some(status) => status,
                None => return Ok(()),
            },
        };
        refuse(&broken)?;
        let pause = failures.pause(&broken);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads one stream to its end: a status if it broke, none if we were cancelled.
async fn follow<T, K, E, Handling>(
    mut stream: impl Stream<Item = Result<T, Status>> + Unpin,
    token: &mut K,
    handle: &mut impl FnMut(T) -> Handling,
    cancel: &CancellationToken,
    failures: &mut Failures,
) -> Result<Option<Status>, WatchError<E>>
where
    Handling: Future<Output = Result<Option<K>, E>>,
{
    loop {
        let message = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(None),
            message = timeout(IDLE_LIMIT, stream.try_next()) => message,
        };
        let message = match message.unwrap_or_else(|_| Err(silent())) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Some(crate::unavailable("the server ended the stream"))),
            Err(status) => return Ok(Some(status)),
        };
        failures.clear();
        if let Some(next) = handle(message).await.map_err(WatchError::Handler)? {
            *token = next;
        }
    }
}

fn silent() -> Status {
    crate::unavailable("no word from the server")
}

/// Turns away statuses that would come back the same.
fn refuse<E>(status: &Status) -> Result<(), WatchError<E>> {
    match status.code() {
        Code::OutOfRange => Err(WatchError::Expired(status.clone())),
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Err(WatchError::Refused(status.clone())),
        _ => Ok(()),
    }
}

/// Failures in a row: their pauses, and one line in the log for the first and the recovery, not for each.
struct Failures {
    name: &'static str,
    pauses: Option<Box<dyn Iterator<Item = Duration> + Send>>,
}

impl Failures {
    fn new(name: &'static str) -> Self {
        Self { name, pauses: None }
    }

    fn pause(&mut self, status: &Status) -> Duration {
        if self.pauses.is_none() {
            warn!(watch = self.name, "stream of {} broke, trying again: {status}", self.name);
        }
        let pauses = self.pauses.get_or_insert_with(|| Box::new(backoff(FIRST_PAUSE, LONGEST_PAUSE)));
        pauses.next().unwrap_or(LONGEST_PAUSE)
    }

    fn clear(&mut self) {
        if self.pauses.take().is_some() {
            info!(watch = self.name, "stream of {} goes on", self.name);
        }
    }
}
