//! From the contract's messages to ours.

use std::{str::FromStr, time::Duration};

use api::buildlet as wire;
use types::{Fence, Timestamp};

use crate::{
    EndedByUs, Error, ExecEnd, ExecEvent, ExecStatus, How, Lease, Status, Terminal, TreeEntry, TreeEntryKind,
};

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

fn parse<T>(text: &str) -> Result<T, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(malformed)
}

pub(crate) fn lease_to_wire(lease: Lease) -> wire::Lease {
    wire::Lease { id: lease.id.to_string(), fence: lease.fence.0 }
}

fn lease(lease: &wire::Lease) -> Result<Lease, Error> {
    Ok(Lease { id: parse(&lease.id)?, fence: Fence(lease.fence) })
}

pub(crate) fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

pub(crate) fn terminal_to_wire(terminal: Terminal) -> wire::Terminal {
    wire::Terminal { rows: terminal.rows.into(), columns: terminal.columns.into() }
}

pub(crate) fn tree_entry(entry: wire::TreeEntry) -> Result<TreeEntry, Error> {
    use wire::TreeEntryKind as Wire;
    let kind = match Wire::try_from(entry.kind).unwrap_or_default() {
        Wire::File => TreeEntryKind::File {
            size: entry.size,
            digest: (!entry.digest.is_empty()).then_some(entry.digest),
        },
        Wire::Folder => TreeEntryKind::Folder,
        Wire::Link => TreeEntryKind::Link(entry.target),
        Wire::Unspecified => return Err(malformed("an entry of no known kind")),
    };
    let modified = entry.modified.unwrap_or_default();
    let modified = Timestamp::from_parts(modified.seconds, modified.nanos);
    Ok(TreeEntry { path: entry.path, kind, mode: entry.mode, modified })
}

fn ended(reason: i32) -> EndedByUs {
    match wire::EndedByUs::try_from(reason).unwrap_or_default() {
        wire::EndedByUs::TimedOut => EndedByUs::TimedOut,
        wire::EndedByUs::TooMuchOutput => EndedByUs::TooMuchOutput,
        wire::EndedByUs::Abandoned => EndedByUs::Abandoned,
        wire::EndedByUs::DiskFull => EndedByUs::DiskFull,
        wire::EndedByUs::Cancelled => EndedByUs::Cancelled,
        wire::EndedByUs::OutOfMemory => EndedByUs::OutOfMemory,
        wire::EndedByUs::TooManyProcesses => EndedByUs::TooManyProcesses,
        wire::EndedByUs::WorkFolderFull => EndedByUs::WorkFolderFull,
        // A reason that a newer buildlet may give says nothing about the command, so it is the machine's.
        wire::EndedByUs::BuildletDied | wire::EndedByUs::Unspecified => EndedByUs::BuildletDied,
    }
}

fn end(end: wire::ExecEnd) -> Result<ExecEnd, Error> {
    use wire::exec_end::How as Wire;
    let how = match end.how {
        Some(Wire::ExitCode(code)) => How::Exited(code),
        Some(Wire::Signal(signal)) => How::Signalled(signal),
        Some(Wire::StartError(reason)) => How::NotStarted(reason),
        Some(Wire::Ended(reason)) => How::Ended(ended(reason)),
        None => return Err(malformed("an exec ended in no known way")),
    };
    let elapsed = end.elapsed.unwrap_or_default();
    Ok(ExecEnd {
        how,
        output_bytes: end.output_bytes,
        elapsed: Duration::try_from(elapsed).unwrap_or_default(),
        leftover_processes: end.leftover_processes,
    })
}

pub(crate) fn event(response: wire::WatchExecResponse) -> Result<ExecEvent, Error> {
    use wire::watch_exec_response::Event;
    match response.event {
        Some(Event::Output(chunk)) => Ok(ExecEvent::Output { offset: chunk.offset, data: chunk.data }),
        Some(Event::End(wire)) => end(wire).map(ExecEvent::Ended),
        None => Err(malformed("an event that says nothing")),
    }
}

fn exec_status(status: wire::ExecStatus) -> Result<ExecStatus, Error> {
    Ok(ExecStatus {
        exec: parse(&status.exec_id)?,
        pid: status.pid,
        output_bytes: status.output_bytes,
        end: status.end.map(end).transpose()?,
    })
}

pub(crate) fn status(status: wire::GetStatusResponse) -> Result<Status, Error> {
    let started = status.started.unwrap_or_default();
    Ok(Status {
        machine: parse(&status.machine)?,
        host_types: status.host_types.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
        version: status.version,
        platform: status.platform,
        work_folder: status.work_folder,
        lease: status.lease.as_ref().map(lease).transpose()?,
        execs: status.execs.into_iter().map(exec_status).collect::<Result<_, _>>()?,
        reuse: status.reuse,
        free_disk_bytes: status.free_disk_bytes,
        load: status.load,
        pid: status.pid,
        cpus: status.cpus,
        memory_bytes: status.memory_bytes,
        started: Timestamp::from_parts(started.seconds, started.nanos),
        draining: status.draining,
        broken: status.broken,
        isolation: status.isolation,
        key_exposed: status.key_exposed,
        limits: status.limits,
        clock: status.clock.map(|clock| Timestamp::from_parts(clock.seconds, clock.nanos)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_newer_buildlet_is_the_machines_fault() {
        assert_eq!(ended(99), EndedByUs::BuildletDied);
        assert_eq!(ended(wire::EndedByUs::TimedOut as i32), EndedByUs::TimedOut);
    }

    #[test]
    fn an_end_without_a_manner_is_malformed() {
        assert!(matches!(end(wire::ExecEnd::default()), Err(Error::Malformed(_))));
    }
}
