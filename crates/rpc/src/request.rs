//! Deadlines and peers of calls.
//!
//! A unary call without a deadline gets [`DEFAULT_DEADLINE`]; streams get none. The deadline travels as
//! `grpc-timeout`; both sides enforce it. A handler that calls on passes the rest of it with
//! `rpc::deadline(&request).request(message)`.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Request;

use crate::{DEFAULT_DEADLINE, Peer, methods};

pub(crate) const TIMEOUT_HEADER: &str = "grpc-timeout";

/// The longest that a unary call may ask for.
const LONGEST: Duration = Duration::from_mins(10);

/// Until when the caller of a handler waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// What is left; none for a stream without a deadline.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// A request that ends no later than this deadline.
    pub fn request<T>(self, message: T) -> Request<T> {
        match self.remaining() {
            Some(left) => with_deadline(message, left),
            None => Request::new(message),
        }
    }

    /// The instant itself.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// What an incoming call gets: what it asks for, within our limits.
    pub(crate) fn of_call(path: &str, headers: &HeaderMap) -> Self {
        let unary = methods::find(path).is_some_and(|method| method.unary);
        let asked = timeout(headers);
        let granted = if unary { Some(asked.unwrap_or(LONGEST).min(LONGEST)) } else { asked };
        Self(granted.map(|timeout| Instant::now() + timeout))
    }
}

/// A request with the default deadline, whatever the kind of its method.
pub fn request<T>(message: T) -> Request<T> {
    with_deadline(message, DEFAULT_DEADLINE)
}

/// A request that must be answered (a stream: finished) within a time.
pub fn with_deadline<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Until when the caller waits.
pub fn deadline<T>(request: &Request<T>) -> Deadline {
    request.extensions().get().copied().unwrap_or(Deadline(None))
}

/// Who calls: none over a plain loopback listener.
pub fn peer<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get()
}

/// Reads `grpc-timeout`; a value that is no timeout counts as none.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT_HEADER, text.parse().unwrap());
        assert_eq!(timeout(&headers), expected, "{text}");
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        check("10S", Some(DEFAULT_DEADLINE));
        check("150m", Some(Duration::from_millis(150)));
        check("2M", Some(Duration::from_mins(2)));
        check("1H", Some(Duration::from_hours(1)));
        check("99999999u", Some(Duration::from_micros(99_999_999)));
        check("7n", Some(Duration::from_nanos(7)));
        for bad in ["", "S", "10", "10s", "-1S", "+1S", "123456789S", "1.5S"] {
            check(bad, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unary_calls_are_capped_and_streams_are_not() {
        let left = |path: &str, headers: &HeaderMap| Deadline::of_call(path, headers).remaining();
        let unary = "/farmer.gitmirror.v1.MirrorService/Tickle";
        let stream = "/farmer.gitmirror.v1.MirrorService/WatchRefs";
        let mut headers = HeaderMap::new();
        assert_eq!(left(unary, &headers), Some(LONGEST));
        assert_eq!(left(stream, &headers), None);
        headers.insert(TIMEOUT_HEADER, "2H".parse().unwrap());
        assert_eq!(left(unary, &headers), Some(LONGEST));
        assert_eq!(left(stream, &headers), Some(Duration::from_hours(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_deadline_is_passed_on() {
        let mut incoming = Request::new(());
        incoming.extensions_mut().insert(Deadline(Some(Instant::now() + Duration::from_secs(4))));
        tokio::time::advance(Duration::from_secs(3)).await;
        let outgoing = deadline(&incoming).request(());
        assert_eq!(timeout(&outgoing.metadata().clone().into_headers()), Some(Duration::from_secs(1)));
    }
}
