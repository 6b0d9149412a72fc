//! Statuses: a code, a message for people and a reason for programs.
//!
//! The reason travels as `google.rpc.ErrorInfo` with the domain `farmer`; each service's README lists its own.

use std::{collections::HashMap, error::Error, fmt::Display, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::Trouble;

const DOMAIN: &str = "farmer";

/// A status with a reason. The message of an `INTERNAL` one is logged and kept from the caller.
pub fn status(code: Code, reason: &'static str, message: impl Display) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if code == Code::Internal {
        error!(reason, "call failed: {message}");
        return Status::with_error_details(code, "internal error: the log of the service says more", details);
    }
    Status::with_error_details(code, message.to_string(), details)
}

/// An `INTERNAL` status; the error with all its causes is logged and kept from the caller.
pub fn internal(reason: &'static str, error: &(dyn Error + 'static)) -> Status {
    status(Code::Internal, reason, chain(error))
}

/// A status that says when to try again, for `RESOURCE_EXHAUSTED`.
pub fn retry_after(code: Code, reason: &'static str, message: impl Display, after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message.to_string(), details)
}

/// The reason that [`status`] gave, also when it comes from another service.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Whether the same call may succeed later without anybody doing anything. Transport errors always are.
pub fn is_transient(status: &Status) -> bool {
    status.code() == Code::Unavailable
}

/// An `UNAVAILABLE` status of the transport.
pub fn unavailable(message: impl Display) -> Status {
    Status::unavailable(message.to_string())
}

/// A failed transport as a status: `UNAVAILABLE`, unless it carries a status of its own, as when our own request
/// stream failed.
pub(crate) fn transport(error: &(dyn Error + 'static)) -> Status {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(status) = error.downcast_ref::<Status>() {
            return status.clone();
        }
        source = error.source();
    }
    match Trouble::of(error) {
        // A server refuses a certificate only after the handshake is over for the client.
        Some(trouble) => unavailable(format_args!("connection lost: {trouble}")),
        None => unavailable(format_args!("connection lost: {}", chain(error))),
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_back() {
        let failed = status(Code::NotFound, "UNKNOWN_BUILDER", "no builder `x`");
        assert_eq!((failed.code(), failed.message()), (Code::NotFound, "no builder `x`"));
        assert_eq!(reason(&failed).as_deref(), Some("UNKNOWN_BUILDER"));
        assert_eq!(reason(&Status::not_found("plain")), None);
    }

    #[test]
    fn internals_stay_here() {
        let failed = internal("STORE_FAILED", &std::io::Error::other("/secret/path is full"));
        assert!(!failed.message().contains("secret"), "{failed}");
        assert_eq!(reason(&failed).as_deref(), Some("STORE_FAILED"));
    }

    #[test]
    fn only_unavailable_is_transient() {
        for code in 0..=16 {
            let code = Code::from(code);
            assert_eq!(is_transient(&Status::new(code, "")), code == Code::Unavailable, "{code:?}");
        }
    }
}
