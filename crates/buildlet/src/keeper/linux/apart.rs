//! A command with namespaces of its own: it sees no process but its own, no network unless it asked, and no temporary
//! file of anybody else.
//!
//! The first process in a namespace of processes is the one that all others end with. It is a fork of the warden that
//! lays out what the command sees, starts it, and tells the warden how it ended.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    net::{AddressFamily, SendFlags, SocketType},
    process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, wait},
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    fork,
    message::{self, Apart, Command},
    start::{self, Streams},
};
use crate::environment::TMP;

/// From the first process to the warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromFirst {
    /// The command runs.
    Started,
    /// It could not be started. Nothing follows.
    NotStarted { reason: String },
    /// It has ended, and with it all in its namespaces. Nothing follows.
    Ended { code: Option<i32>, signal: Option<i32>, leftovers: u32 },
}

/// What a command starts with.
pub(super) enum Input {
    /// Streams.
    Streams(Streams),
    /// A terminal.
    Terminal(OwnedFd),
}

/// Starts a command apart from the machine. Returns the first process and what it tells.
pub(super) fn start(command: &Command, apart: Apart, input: Input) -> Result<(Pid, UnixStream), String> {
    let failed = |error: io::Error| format!("cannot set the exec apart: {error}");
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut namespaces = UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    namespaces.set(UnshareFlags::NEWNET, !apart.network);
    fork::unshare(namespaces).map_err(failed)?;
    let first = fork::fork(move || {
        let _ = message::send(&theirs, &run(command, apart, input, &theirs));
    });
    let first = first.map_err(failed)?;
    match message::receive(&ours) {
        Ok(Some(FromFirst::Started)) => Ok((first, ours)),
        Ok(Some(FromFirst::NotStarted { reason })) => Err(reason),
        _ => Err("cannot set the exec apart: its first process ended".to_owned()),
    }
}

/// The first process, from its start to the command's end.
fn run(command: &Command, apart: Apart, input: Input, warden: &UnixStream) -> FromFirst {
    let laid_out = lay_out(command, apart).map_err(|error| format!("cannot set the exec apart: {error}"));
    let started = laid_out.and_then(|()| match input {
        Input::Streams(streams) => start::start(command, streams),
        Input::Terminal(terminal) => start::start_on(&terminal, command),
    });
    let main = match started {
        Ok(main) => main,
        Err(reason) => return FromFirst::NotStarted { reason },
    };
    let _ = message::send(warden, &FromFirst::Started);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => {
                let (code, signal) = (status.exit_status(), status.terminating_signal());
                return FromFirst::Ended { code, signal, leftovers: others() };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return FromFirst::Ended { code: None, signal: None, leftovers: others() },
        }
    }
}

fn lay_out(command: &Command, apart: Apart) -> io::Result<()> {
    // A warden that is killed takes its command with it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    fork::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", flags | MountFlags::NOEXEC, None)?;
    let temporary = Path::new(&command.work_folder).join(TMP);
    for folder in ["/tmp", "/var/tmp"].iter().filter(|folder| Path::new(folder).is_dir()) {
        mount_bind(&temporary, *folder)?;
    }
    let mut private = vec!["/dev/shm"];
    if !apart.network {
        // Sockets of the machine's services lie there.
        private.push("/run");
        raise_loopback()?;
    }
    for folder in private.iter().filter(|folder| Path::new(folder).is_dir()) {
        mount("tmpfs", *folder, "tmpfs", flags, None)?;
    }
    Ok(())
}

/// Processes in this namespace but this one, which is the first.
fn others() -> u32 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse::<u32>().ok());
    entries.filter_map(|entry| number(entry.file_name())).filter(|pid| *pid != 1).count() as u32
}

/// Brings the loopback interface up: programs that talk to themselves need it. It is always the first interface.
fn raise_loopback() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const REQUEST: u16 = 1;
    const UP: u32 = 1;
    // The protocol of routes, which this is about, is the one with number 0.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut request = Vec::with_capacity(32);
    request.extend_from_slice(&32_u32.to_ne_bytes());
    request.extend_from_slice(&NEW_LINK.to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    // Sequence and sender; then family, padding and type of the interface.
    request.extend_from_slice(&[0; 12]);
    request.extend_from_slice(&1_i32.to_ne_bytes());
    request.extend_from_slice(&UP.to_ne_bytes());
    request.extend_from_slice(&UP.to_ne_bytes());
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    Ok(())
}
