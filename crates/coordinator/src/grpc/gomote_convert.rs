//! Sessions, commands and files between the core and the protocol.

use std::time::Duration;

use api::coordinator::{
    self as wire, CommandEnd, CommandOutput, CreateSessionRequest, FileEntry, FileKind, Session,
    SessionState, StartCommandRequest, WatchCommandResponse, command_end::How as WireHow,
    watch_command_response::Event,
};
use buildlet_client::{EndedByUs, Error, ExecEnd, ExecEvent, ExecSpec, How, TreeEntry, TreeEntryKind};
use tonic::{Code, Status};

use super::{convert, stopping};
use crate::sessions::{Seen, SessionError, Wish, WishOf};

/// How long nobody may use a session, unless said.
const IDLE: Duration = Duration::from_mins(30);
/// The most that may be said.
const LONGEST_IDLE: Duration = Duration::from_hours(24);
/// The longest name of an owner.
const OWNER: usize = 24;

/// A request that makes no sense.
pub(super) fn bad(message: impl std::fmt::Display) -> Status {
    rpc::status(Code::InvalidArgument, "BAD_REQUEST", message)
}

/// A word of the kind that names are made of.
fn word(text: &str, most: usize, what: &str) -> Result<(), Status> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if first && text.len() <= most && text.bytes().all(allowed) {
        return Ok(());
    }
    let rule = format!("1 to {most} of a-z, 0-9, `.`, `_` and `-`, the first a letter or digit");
    Err(bad(format!("`{text}` is not the name of {what}: {rule}")))
}

/// What is asked for, checked.
pub(super) fn wish(request: CreateSessionRequest) -> Result<Wish, Status> {
    let CreateSessionRequest { request_id, owner, group, builder, host_type, build, idle_timeout } = request;
    word(&owner, OWNER, "an owner")?;
    if !group.is_empty() {
        word(&group, 64, "a group")?;
    }
    let of = match (builder.as_str(), host_type.as_str(), build.as_str()) {
        (builder, "", "") if !builder.is_empty() => WishOf::Builder(builder.parse().map_err(bad)?),
        ("", host, "") if !host.is_empty() => WishOf::Host(host.parse().map_err(bad)?),
        ("", "", build) if !build.is_empty() => WishOf::Build(build.to_owned()),
        _ => return Err(bad("name one of a builder, a host type and a build")),
    };
    let idle = idle_timeout.as_ref().map_or(IDLE, rpc::from_duration);
    if idle < Duration::from_secs(1) || idle > LONGEST_IDLE {
        return Err(bad("a session may be idle for 1 s to 24 h"));
    }
    let id = request_id
        .parse()
        .map_err(|error: types::ParseIdError| rpc::status(Code::InvalidArgument, "BAD_REQUEST_ID", error))?;
    Ok(Wish { id, owner: owner.into(), group, of, idle })
}

/// A session as the protocol has it.
pub(super) fn wire_session(seen: &Seen) -> Session {
    let session = &seen.session;
    let seat = session.seat.as_ref();
    let ready = seat.and_then(|seat| seat.ready.as_ref());
    let state = match (&seen.end, seat, ready) {
        (Some(_), ..) => SessionState::Ended,
        (None, None, _) => SessionState::Waiting,
        (None, Some(_), None) => SessionState::Preparing,
        (None, Some(_), Some(_)) => SessionState::Ready,
    };
    let machine = seen.machine.as_ref();
    let builder = session.setting.builder.as_ref();
    let repeats = session.setting.repeats.as_ref();
    Session {
        name: session.name.to_string(),
        id: session.id.to_string(),
        owner: session.owner.to_string(),
        group: session.group.clone(),
        host_type: session.host.to_string(),
        builder: builder.map(ToString::to_string).unwrap_or_default(),
        state: state.into(),
        created: Some(rpc::timestamp(session.created)),
        expires: Some(rpc::timestamp(session.expires)),
        idle_timeout: Some(rpc::duration(session.idle)),
        waits_for: seen.wait.as_ref().map(convert::wait),
        position: seen.position.unwrap_or(0),
        machine: seat.map(|seat| seat.machine.to_string()).unwrap_or_default(),
        platform: machine.map(|machine| machine.platform.clone()).unwrap_or_default(),
        work_folder: machine.map(|machine| machine.work_folder.clone()).unwrap_or_default(),
        folder: session.setting.folder.clone(),
        found: ready.map(|ready| ready.found.clone()).unwrap_or_default(),
        ended: seen.end.as_ref().map(|(ended, _)| rpc::timestamp(*ended)),
        reason: seen.end.as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default(),
        repeats: repeats.map(|repeated| repeated.of.clone()).unwrap_or_default(),
        source_folder: session.setting.source_folder.clone(),
        made: ready.is_some_and(|ready| ready.made),
    }
}

/// A command as a machine is told it. A session has the machine's network, for that is what people debug with.
pub(super) fn spec(request: StartCommandRequest) -> Result<ExecSpec, Status> {
    if request.argv.is_empty() {
        return Err(bad("a command has at least one argument: the program"));
    }
    let variable = |variable: wire::SessionVariable| (variable.name, variable.value);
    Ok(ExecSpec {
        argv: request.argv,
        environment: request.environment.into_iter().map(variable).collect(),
        folder: request.folder,
        timeout: request.timeout.as_ref().map(rpc::from_duration),
        network: true,
        ..ExecSpec::default()
    })
}

/// What becomes of a command.
pub(super) fn command_event(event: ExecEvent) -> WatchCommandResponse {
    let event = match event {
        ExecEvent::Output { offset, data } => Event::Output(CommandOutput { offset, data }),
        ExecEvent::Ended(end) => Event::End(command_end(end)),
    };
    WatchCommandResponse { event: Some(event) }
}

fn command_end(end: ExecEnd) -> CommandEnd {
    let how = match end.how {
        How::Exited(code) => WireHow::ExitCode(code),
        How::Signalled(signal) => WireHow::Signal(signal),
        How::NotStarted(reason) => WireHow::NotStarted(reason),
        How::Ended(by) => WireHow::Stopped(stopped(by).to_owned()),
    };
    let elapsed = Some(rpc::duration(end.elapsed));
    CommandEnd { how: Some(how), output_bytes: end.output_bytes, elapsed }
}

fn stopped(by: EndedByUs) -> &'static str {
    match by {
        EndedByUs::Cancelled => "it was called off",
        EndedByUs::TimedOut => "it ran longer than it may",
        EndedByUs::TooMuchOutput => "it wrote more than it may",
        EndedByUs::Abandoned => "the machine did not hear from the coordinator for too long",
        EndedByUs::DiskFull => "the disk of the machine is full",
        EndedByUs::BuildletDied => "the buildlet died meanwhile",
        EndedByUs::OutOfMemory => "it used more memory than it may",
        EndedByUs::TooManyProcesses => "it started more processes than it may",
        EndedByUs::WorkFolderFull => "it put more into the work folder than it may",
    }
}

/// What lies in a folder.
pub(super) fn file_entry(entry: TreeEntry) -> FileEntry {
    let (kind, size, digest, target) = match entry.kind {
        TreeEntryKind::File { size, digest } => {
            (FileKind::File, size, digest.unwrap_or_default(), String::new())
        }
        TreeEntryKind::Folder => (FileKind::Folder, 0, String::new(), String::new()),
        TreeEntryKind::Link(target) => (FileKind::Link, 0, String::new(), target),
    };
    FileEntry {
        path: entry.path,
        kind: kind.into(),
        size,
        mode: entry.mode,
        modified: Some(rpc::timestamp(entry.modified)),
        digest,
        target,
    }
}

/// Why something about a session cannot be done, as a status.
pub(super) fn failed(error: &SessionError) -> Status {
    let (code, reason) = match error {
        SessionError::Unknown(_) => (Code::NotFound, "UNKNOWN_SESSION"),
        SessionError::Ended(..) => (Code::FailedPrecondition, "SESSION_ENDED"),
        SessionError::NotReady(_) => (Code::FailedPrecondition, "NOT_READY"),
        SessionError::Away(..) => (Code::Unavailable, "MACHINE_AWAY"),
        SessionError::TooMany(_) => (Code::ResourceExhausted, "TOO_MANY_SESSIONS"),
        SessionError::Community(_) => (Code::FailedPrecondition, "COMMUNITY_HOST"),
        SessionError::UnknownBuilder(..) => (Code::NotFound, "UNKNOWN_BUILDER"),
        SessionError::UnknownHost(..) => (Code::NotFound, "UNKNOWN_HOST_TYPE"),
        SessionError::UnknownBuild(_) => (Code::NotFound, "UNKNOWN_BUILD"),
        SessionError::UnknownAttempt(_) => (Code::NotFound, "UNKNOWN_ATTEMPT"),
        SessionError::UnknownShard(..) => (Code::NotFound, "UNKNOWN_SHARD"),
        SessionError::Bad(_) | SessionError::Name(_) => (Code::InvalidArgument, "BAD_REQUEST"),
        SessionError::Machine(error) => of_machine(error),
        SessionError::View(error) => return super::failed(error),
        SessionError::Load(error) => return rpc::internal("STORE_FAILED", error),
        SessionError::Stopped(error) => return stopping(*error),
    };
    rpc::status(code, reason, error)
}

/// What a machine refuses keeps its reason; where that is the farm's own business, it gets ours.
fn of_machine(error: &Error) -> (Code, &'static str) {
    match error {
        Error::Unavailable(_) => (Code::Unavailable, "MACHINE_AWAY"),
        Error::TimedOut(_) => (Code::DeadlineExceeded, "MACHINE_SLOW"),
        Error::StaleLease(_) => (Code::FailedPrecondition, "SESSION_ENDED"),
        Error::TakesNoLease(_) | Error::NotClean(_) => (Code::FailedPrecondition, "MACHINE_UNFIT"),
        Error::UnknownExec(_) => (Code::NotFound, "UNKNOWN_COMMAND"),
        Error::Acknowledged(_) => (Code::OutOfRange, "OUTPUT_ACKNOWLEDGED"),
        Error::BadPath(_) => (Code::InvalidArgument, "BAD_PATH"),
        Error::BadArchive(_) => (Code::InvalidArgument, "BAD_ARCHIVE"),
        // Nothing is fetched for a session but by the farm itself.
        Error::Malformed(_) | Error::FetchFailed(_) | Error::FetchRefused(_) | Error::WrongDigest(_) => {
            (Code::Internal, "MACHINE_FAILED")
        }
        Error::Other { reason, .. } => match reason.as_str() {
            "NO_FOLDER" => (Code::NotFound, "NO_FOLDER"),
            "NOT_SUBMITTED" => (Code::PermissionDenied, "NOT_SUBMITTED"),
            _ => (Code::FailedPrecondition, "MACHINE_REFUSED"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(owner: &str, builder: &str, build: &str) -> CreateSessionRequest {
        CreateSessionRequest {
            request_id: runtime::new_id().to_string(),
            owner: owner.to_owned(),
            builder: builder.to_owned(),
            build: build.to_owned(),
            ..CreateSessionRequest::default()
        }
    }

    #[test]
    fn a_wish_names_an_owner_and_one_kind_of_machine() {
        assert!(wish(request("ada", "linux", "")).is_ok());
        assert!(wish(request("ada", "", "7.1")).is_ok());
        for wrong in [request("", "linux", ""), request("Ada!", "linux", ""), request("ada", "", "")] {
            assert_eq!(wish(wrong).unwrap_err().code(), Code::InvalidArgument);
        }
        assert!(wish(request("ada", "linux", "7")).is_err(), "both");
    }

    #[test]
    fn what_a_machine_says_keeps_its_reason() {
        let status = failed(&SessionError::Machine(Error::BadPath("`../x` is no path".to_owned())));
        assert_eq!(
            (status.code(), rpc::reason(&status).as_deref()),
            (Code::InvalidArgument, Some("BAD_PATH"))
        );
        let status = failed(&SessionError::Machine(Error::Unavailable("gone".to_owned())));
        assert!(rpc::is_transient(&status));
    }
}
