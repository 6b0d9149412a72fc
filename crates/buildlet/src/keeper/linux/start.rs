//! Starting a command: finding the program, and saying clearly why it cannot be started.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command as StdCommand, Stdio},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, ioctl_tiocsctty, setsid, waitpid},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};

use super::{fork, message::Command};
use crate::keeper::program::{cannot, find, plain};

/// Where output goes and input comes from.
pub(super) struct Streams {
    /// Standard input; none means that there is none to read.
    pub(super) stdin: Option<OwnedFd>,
    /// Standard output and error.
    pub(super) output: OwnedFd,
}

/// Starts a command in the current folder, in a process group of its own. The error is for people.
pub(super) fn start(command: &Command, streams: Streams) -> Result<Pid, String> {
    let mut program = prepare(command)?;
    let failed = |error: io::Error| cannot(command, &error);
    let second = streams.output.try_clone().map_err(failed)?;
    let child = program
        .process_group(0)
        .stdin(streams.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(streams.output)
        .stderr(second)
        .spawn()
        .map_err(failed)?;
    Ok(Pid::from_raw(child.id() as i32).expect("a process has a positive id"))
}

/// Starts a command as the leader of a session whose terminal is this one.
pub(super) fn start_on(terminal: &OwnedFd, command: &Command) -> Result<Pid, String> {
    let mut program = prepare(command)?;
    let failed = |error: io::Error| cannot(command, &error);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let child = fork::fork(|| {
        let error = take_terminal(terminal).map_or_else(|error| error, |()| program.exec());
        let _ = rustix::io::write(&writer, plain(&error).as_bytes());
    });
    let child = child.map_err(failed)?;
    drop(writer);
    let mut why = String::new();
    let _ = io::Read::read_to_string(&mut std::fs::File::from(reader), &mut why);
    if why.is_empty() {
        return Ok(child);
    }
    let _ = waitpid(Some(child), WaitOptions::empty());
    Err(format!("cannot start `{}`: {why}", command.argv[0]))
}

fn take_terminal(terminal: &OwnedFd) -> io::Result<()> {
    setsid()?;
    ioctl_tiocsctty(terminal)?;
    rustix::stdio::dup2_stdin(terminal)?;
    rustix::stdio::dup2_stdout(terminal)?;
    rustix::stdio::dup2_stderr(terminal)?;
    Ok(())
}

/// The command with all but its streams. From here on this process can give no command the right to lift a seal.
fn prepare(command: &Command) -> Result<StdCommand, String> {
    let name = command.argv.first().ok_or("no command was given")?;
    let program = find(command, name)?;
    if command.sealed {
        remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)
            .map_err(|error| cannot(command, &error.into()))?;
    }
    let mut prepared = StdCommand::new(&program);
    prepared
        .arg0(name)
        .args(&command.argv[1..])
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)));
    Ok(prepared)
}
