//! The protocol: parse, ask, render. Nothing is decided here.

mod build_service;
mod convert;
mod enrolment_service;
mod farm_service;
mod gomote_convert;
mod gomote_service;
mod machine_service;
mod mutations;
mod queries;
mod read_log;
mod requests;
mod retry_service;
mod watch_builds;
mod why_service;

pub(crate) use build_service::Builds;
pub(crate) use enrolment_service::Enrolment;
pub(crate) use farm_service::Farmland;
pub(crate) use gomote_service::{Gomote, SshDoor};
pub(crate) use machine_service::Operators;
pub(crate) use mutations::Mutations;
pub(crate) use queries::Queries;
pub(crate) use retry_service::Retries;
pub(crate) use why_service::Why;

use tonic::{Code, Status};

use crate::{shell::Stopped, view::ViewError};

/// A failed look as a status.
fn failed(error: &ViewError) -> Status {
    match error {
        ViewError::UnknownBuild(_) => rpc::status(Code::NotFound, "UNKNOWN_BUILD", error),
        ViewError::UnknownAttempt(_) => rpc::status(Code::NotFound, "UNKNOWN_ATTEMPT", error),
        ViewError::Stopped(stopped) => stopping(*stopped),
        ViewError::Load(source) => rpc::internal("STORE_FAILED", source),
        ViewError::Log(source) if source.is_transient() => {
            rpc::status(Code::Unavailable, "LOG_UNAVAILABLE", error)
        }
        ViewError::Log(source) => rpc::internal("LOG_FAILED", source),
    }
}

fn stopping(stopped: Stopped) -> Status {
    rpc::status(Code::Unavailable, "SHUTTING_DOWN", stopped)
}

fn unread(error: &store::ReadError) -> Status {
    rpc::internal("STORE_FAILED", error)
}
