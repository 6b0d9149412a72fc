//! What a caller is told of each error. The README lists the reasons.

use std::io;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{fetch::FetchError, lease::Refusal, machine::CallError};

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let (code, reason) = match &error {
            CallError::Refused(Refusal::Stale { .. }) | CallError::Ended => {
                (Code::FailedPrecondition, "STALE_LEASE")
            }
            CallError::Refused(Refusal::Draining | Refusal::Broken(_)) => {
                (Code::FailedPrecondition, "TAKES_NO_LEASE")
            }
            CallError::NotClean(_) => return not_clean(&error),
            CallError::BadPath(_) => (Code::InvalidArgument, "BAD_PATH"),
            CallError::NoFolder(_) => (Code::NotFound, "NO_FOLDER"),
            CallError::BadRequest(_) | CallError::Fetch(FetchError::BadUrl { .. }) => {
                (Code::InvalidArgument, "BAD_REQUEST")
            }
            CallError::UnknownExec(_) => (Code::NotFound, "UNKNOWN_EXEC"),
            CallError::Acknowledged { .. } => (Code::OutOfRange, "OUTPUT_ACKNOWLEDGED"),
            CallError::InputClosed => (Code::FailedPrecondition, "INPUT_CLOSED"),
            CallError::NoTerminal => (Code::FailedPrecondition, "NO_TERMINAL"),
            CallError::PortClosed { .. } => (Code::Unavailable, "PORT_CLOSED"),
            CallError::NoNetwork => (Code::FailedPrecondition, "NO_NETWORK"),
            CallError::NotAllowed(_) => (Code::FailedPrecondition, "NOT_ALLOWED"),
            CallError::BadArchive(_) | CallError::BrokenOff => (Code::InvalidArgument, "BAD_ARCHIVE"),
            CallError::Fetch(FetchError::Failed { .. }) => (Code::Unavailable, "FETCH_FAILED"),
            CallError::Fetch(FetchError::Refused { .. }) => (Code::FailedPrecondition, "FETCH_REFUSED"),
            CallError::Fetch(FetchError::WrongDigest { .. }) => (Code::FailedPrecondition, "WRONG_DIGEST"),
            CallError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                (Code::ResourceExhausted, "DISK_FULL")
            }
            CallError::Disk { .. } => return rpc::internal("DISK_FAILED", &error),
            CallError::Keeper(_) => return rpc::internal("KEEPER_FAILED", &error),
            CallError::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        };
        rpc::status(code, reason, error)
    }
}

/// Unlike other internal errors this one names what is left: whoever owns the machine must know.
fn not_clean(error: &CallError) -> Status {
    let details = ErrorDetails::with_error_info("NOT_CLEAN", "farmer", std::collections::HashMap::new());
    Status::with_error_details(Code::Internal, error.to_string(), details)
}

#[cfg(test)]
mod tests {
    use types::{ExecId, Fence, LeaseId};

    use super::*;
    use crate::lease::Lease;

    #[test]
    fn each_error_has_the_code_and_reason_of_the_contract() {
        let id = uuid::Uuid::from_u128(1);
        let lease = Lease { id: LeaseId(id), fence: Fence(1) };
        let url = || "https://h/a.tar".to_owned();
        let disk =
            |kind: io::ErrorKind| CallError::Disk { what: "write `x`".to_owned(), source: kind.into() };
        let path = crate::folder::RelativePath::parse("..").unwrap_err();
        let table = [
            (Refusal::Stale { lease, highest: Fence(2) }.into(), Code::FailedPrecondition, "STALE_LEASE"),
            (CallError::Ended, Code::FailedPrecondition, "STALE_LEASE"),
            (Refusal::Draining.into(), Code::FailedPrecondition, "TAKES_NO_LEASE"),
            (Refusal::Broken("x".to_owned()).into(), Code::FailedPrecondition, "TAKES_NO_LEASE"),
            (CallError::NotClean("`/w/m` is still mounted".to_owned()), Code::Internal, "NOT_CLEAN"),
            (path.into(), Code::InvalidArgument, "BAD_PATH"),
            (CallError::NoFolder("x".to_owned()), Code::NotFound, "NO_FOLDER"),
            (CallError::BadRequest("x".to_owned()), Code::InvalidArgument, "BAD_REQUEST"),
            (CallError::UnknownExec(ExecId(id)), Code::NotFound, "UNKNOWN_EXEC"),
            (CallError::Acknowledged { offset: 1, acknowledged: 2 }, Code::OutOfRange, "OUTPUT_ACKNOWLEDGED"),
            (CallError::BadArchive("x".to_owned()), Code::InvalidArgument, "BAD_ARCHIVE"),
            (
                FetchError::Failed { url: url(), why: "x".to_owned() }.into(),
                Code::Unavailable,
                "FETCH_FAILED",
            ),
            (
                FetchError::Refused { url: url(), status: http::StatusCode::NOT_FOUND }.into(),
                Code::FailedPrecondition,
                "FETCH_REFUSED",
            ),
            (disk(io::ErrorKind::StorageFull), Code::ResourceExhausted, "DISK_FULL"),
            (disk(io::ErrorKind::Other), Code::Internal, "DISK_FAILED"),
            (CallError::InputClosed, Code::FailedPrecondition, "INPUT_CLOSED"),
            (CallError::NoTerminal, Code::FailedPrecondition, "NO_TERMINAL"),
            (
                CallError::PortClosed { port: 1, source: io::ErrorKind::ConnectionRefused.into() },
                Code::Unavailable,
                "PORT_CLOSED",
            ),
            (CallError::NoNetwork, Code::FailedPrecondition, "NO_NETWORK"),
            (CallError::NotAllowed("rebooted"), Code::FailedPrecondition, "NOT_ALLOWED"),
            (CallError::ShuttingDown, Code::Unavailable, "SHUTTING_DOWN"),
        ];
        for (error, code, reason) in table {
            let text = format!("{error:?}");
            let status = Status::from(error);
            assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)), "{text}");
        }
    }

    #[test]
    fn a_machine_that_is_not_clean_says_what_is_left() {
        let status = Status::from(CallError::NotClean("`/w/m` is still mounted".to_owned()));
        assert!(status.message().contains("/w/m"), "{status}");
    }
}
