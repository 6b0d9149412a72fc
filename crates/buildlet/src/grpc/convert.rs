//! Between the contract's messages and ours. A request is parsed here once and then trusted.

use std::{path::Path, time::Duration};

use api::buildlet as wire;
use types::{ExecId, Fence};

use crate::{
    exec::{End, Exec, How, Limits},
    fetch::Archive,
    folder::RelativePath,
    input::Size,
    keeper::StopReason,
    lease::Lease,
    machine::{CallError, ExecRequest, HaltKind, Output, TreePart},
    platform,
    tree::{self, Format, Kind},
};

/// The longest standard input.
const MAX_STDIN: usize = 1 << 20;
/// How long an exec may run if nobody says.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(24);
/// How much an exec may write if nobody says.
const DEFAULT_OUTPUT: u64 = 16 << 30;

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
fn bad(why: impl ToString) -> CallError {
    CallError::BadRequest(why.to_string())
}

pub(super) fn lease(lease: Option<&wire::Lease>) -> Result<Lease, CallError> {
    let lease = lease.ok_or_else(|| bad("no lease was given"))?;
    Ok(Lease { id: lease.id.parse().map_err(bad)?, fence: Fence(lease.fence) })
}

pub(super) fn lease_to_wire(lease: Lease) -> wire::Lease {
    wire::Lease { id: lease.id.to_string(), fence: lease.fence.0 }
}

pub(super) fn exec_id(text: &str) -> Result<ExecId, CallError> {
    text.parse().map_err(bad)
}

pub(super) fn path(text: &str) -> Result<RelativePath, CallError> {
    Ok(RelativePath::parse(text)?)
}

/// A path that must be named, so that nobody removes everything by mistake.
pub(super) fn named_path(text: &str) -> Result<RelativePath, CallError> {
    if text.is_empty() { Err(bad("a path is empty: `.` stands for the work folder")) } else { path(text) }
}

pub(super) fn format(text: &str) -> Result<Format, CallError> {
    text.parse().map_err(|why: String| bad(why))
}

pub(super) fn archive(url: &str) -> Result<Archive, CallError> {
    Ok(Archive::parse(url)?)
}

pub(super) fn exec_request(request: wire::StartExecRequest) -> Result<ExecRequest, CallError> {
    if request.argv.first().is_none_or(String::is_empty) {
        return Err(bad("no command was given"));
    }
    if request.argv.iter().any(|arg| arg.contains('\0')) {
        return Err(bad("an argument contains NUL"));
    }
    if request.stdin.len() > MAX_STDIN {
        return Err(bad("standard input is longer than 1 MiB"));
    }
    let open_input = request.open_input;
    if (open_input || request.terminal.is_some()) && !request.stdin.is_empty() {
        return Err(bad("input that stays open is sent by SendInput, from the beginning"));
    }
    let timeout = match &request.timeout {
        None => DEFAULT_TIMEOUT,
        Some(timeout) => Duration::try_from(*timeout).map_err(|_| bad("the timeout is negative"))?,
    };
    Ok(ExecRequest {
        id: exec_id(&request.exec_id)?,
        argv: request.argv,
        environment: request.environment.into_iter().map(variable).collect::<Result<_, _>>()?,
        folder: path(&request.folder)?,
        stdin: request.stdin,
        timeout,
        max_output_bytes: if request.max_output_bytes == 0 {
            DEFAULT_OUTPUT
        } else {
            request.max_output_bytes
        },
        limits: Limits {
            memory_bytes: (request.max_memory_bytes > 0).then_some(request.max_memory_bytes),
            processes: (request.max_processes > 0).then_some(request.max_processes),
            work_bytes: (request.max_work_bytes > 0).then_some(request.max_work_bytes),
        },
        open_input,
        terminal: request.terminal.map(size).transpose()?,
        network: request.network,
    })
}

/// The size of a terminal, with what it has if nobody says.
pub(super) fn size(terminal: wire::Terminal) -> Result<Size, CallError> {
    let number = |number: u32, default: u16| match number {
        0 => Ok(default),
        number => u16::try_from(number).map_err(|_| bad("a terminal cannot be so large")),
    };
    Ok(Size { rows: number(terminal.rows, 24)?, columns: number(terminal.columns, 80)? })
}

/// The number of a signal.
pub(super) fn signal(number: i32) -> Result<i32, CallError> {
    if platform::is_signal(number) {
        Ok(number)
    } else {
        Err(bad(format_args!("{number} is no signal here")))
    }
}

pub(super) fn halt_kind(kind: i32) -> Result<HaltKind, CallError> {
    match wire::HaltKind::try_from(kind).unwrap_or_default() {
        wire::HaltKind::Exit => Ok(HaltKind::Exit),
        wire::HaltKind::Reboot => Ok(HaltKind::Reboot),
        wire::HaltKind::PowerOff => Ok(HaltKind::PowerOff),
        wire::HaltKind::Unspecified => Err(bad("it was not said what is to end")),
    }
}

pub(super) fn entries_to_wire(entries: Vec<tree::Entry>) -> wire::ListTreeResponse {
    wire::ListTreeResponse { entries: entries.into_iter().map(entry_to_wire).collect() }
}

fn entry_to_wire(entry: tree::Entry) -> wire::TreeEntry {
    let mut wire = wire::TreeEntry {
        path: slashed(&entry.path),
        mode: entry.mode,
        modified: Some(prost_types::Timestamp { seconds: entry.modified.0, nanos: entry.modified.1 }),
        ..Default::default()
    };
    let kind = match entry.kind {
        Kind::File { size, digest } => {
            wire.size = size;
            wire.digest = digest.unwrap_or_default();
            wire::TreeEntryKind::File
        }
        Kind::Folder => wire::TreeEntryKind::Folder,
        Kind::Link(target) => {
            wire.target = target.to_string_lossy().into_owned();
            wire::TreeEntryKind::Link
        }
    };
    wire.kind = kind.into();
    wire
}

/// A path as the contract writes it, whatever separates names here.
fn slashed(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names.join("/")
}

fn variable(variable: wire::EnvironmentVariable) -> Result<(String, String), CallError> {
    let wire::EnvironmentVariable { name, value } = variable;
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(bad(format_args!("`{}` cannot be a variable", name.escape_debug())));
    }
    Ok((name, value))
}

pub(super) fn exec_to_wire(exec: &Exec) -> wire::ExecStatus {
    let progress = exec.progress().borrow().clone();
    wire::ExecStatus {
        exec_id: exec.id.to_string(),
        pid: exec.pid,
        output_bytes: progress.bytes,
        end: progress.end.map(end_to_wire),
    }
}

pub(super) fn output_to_wire(output: Output) -> wire::WatchExecResponse {
    use wire::watch_exec_response::Event;
    let event = match output {
        Output::Bytes(offset, data) => Event::Output(wire::OutputChunk { offset, data }),
        Output::End(end) => Event::End(end_to_wire(end)),
    };
    wire::WatchExecResponse { event: Some(event) }
}

fn end_to_wire(end: End) -> wire::ExecEnd {
    use wire::exec_end::How as Wire;
    let how = match end.how {
        How::Exited(code) => Wire::ExitCode(code),
        How::Signalled(signal) => Wire::Signal(signal),
        How::NotStarted(reason) => Wire::StartError(reason),
        How::Stopped(reason) => Wire::Ended(reason_to_wire(reason).into()),
    };
    wire::ExecEnd {
        how: Some(how),
        output_bytes: end.output_bytes,
        elapsed: Some(rpc::duration(end.elapsed)),
        leftover_processes: end.leftovers,
    }
}

fn reason_to_wire(reason: StopReason) -> wire::EndedByUs {
    match reason {
        StopReason::Cancelled => wire::EndedByUs::Cancelled,
        StopReason::TimedOut => wire::EndedByUs::TimedOut,
        StopReason::TooMuchOutput => wire::EndedByUs::TooMuchOutput,
        StopReason::Abandoned => wire::EndedByUs::Abandoned,
        StopReason::DiskFull => wire::EndedByUs::DiskFull,
        StopReason::BuildletDied => wire::EndedByUs::BuildletDied,
        StopReason::OutOfMemory => wire::EndedByUs::OutOfMemory,
        StopReason::TooManyProcesses => wire::EndedByUs::TooManyProcesses,
        StopReason::WorkFolderFull => wire::EndedByUs::WorkFolderFull,
    }
}

pub(super) fn tree_part_to_wire(part: TreePart) -> wire::ReadTreeResponse {
    use wire::read_tree_response::Part;
    let part = match part {
        TreePart::Chunk(chunk) => Part::Chunk(chunk),
        TreePart::Digest(digest) => Part::Digest(digest),
    };
    wire::ReadTreeResponse { part: Some(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> wire::StartExecRequest {
        wire::StartExecRequest {
            exec_id: uuid::Uuid::from_u128(1).to_string(),
            argv: vec!["true".to_owned()],
            ..Default::default()
        }
    }

    #[test]
    fn an_exec_has_the_limits_that_the_contract_names() {
        let parsed = exec_request(request()).unwrap();
        assert_eq!((parsed.timeout, parsed.max_output_bytes), (Duration::from_hours(24), 16 << 30));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        type Change = fn(&mut wire::StartExecRequest);
        let changes: &[Change] = &[
            |request| request.argv.clear(),
            |request| request.argv = vec![String::new()],
            |request| request.argv.push("a\0b".to_owned()),
            |request| request.exec_id = "7".to_owned(),
            |request| request.stdin = vec![0; MAX_STDIN + 1].into(),
            |request| request.folder = "../x".to_owned(),
            |request| request.timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            |request| {
                let name = "A=B".to_owned();
                request.environment.push(wire::EnvironmentVariable { name, value: String::new() });
            },
            |request| request.environment.push(wire::EnvironmentVariable::default()),
            |request| request.terminal = Some(wire::Terminal { rows: 1 << 20, columns: 1 }),
            |request| {
                request.open_input = true;
                request.stdin = b"x".to_vec().into();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut request = request();
            change(&mut request);
            assert!(exec_request(request).is_err(), "change {number}");
        }
        assert!(lease(None).is_err() && lease(Some(&wire::Lease::default())).is_err());
        assert!(named_path("").is_err() && named_path(".").is_ok());
    }
}
