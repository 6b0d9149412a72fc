//! Starting a command: finding the program, and saying clearly why it cannot be started.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
};

use rustix::{
    fs::{Access, access},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, ioctl_tiocsctty, setsid, waitpid},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};

use super::{fork, message::Command};

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

fn cannot(command: &Command, error: &io::Error) -> String {
    format!("cannot start `{}`: {}", command.argv[0], plain(error))
}

/// What the system said, without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The program that a name stands for: looked up in the command's own PATH, or relative to the work folder.
fn find(command: &Command, name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = Path::new(&command.work_folder).join(name);
        return if path.exists() { Ok(path) } else { Err(format!("there is no command `{name}`")) };
    }
    let path =
        command.environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let runs = |candidate: &PathBuf| candidate.is_file() && access(candidate, Access::EXEC_OK).is_ok();
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(runs)
        .ok_or_else(|| format!("there is no command `{name}` in the PATH, which is `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str], path: &str) -> Command {
        Command {
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            environment: vec![("PATH".to_owned(), path.to_owned())],
            work_folder: "/nowhere".to_owned(),
            folder: String::new(),
            stdin: false,
            terminal: false,
            sealed: false,
            apart: None,
            timeout_ms: 0,
            max_output_bytes: 0,
        }
    }

    #[test]
    fn a_program_is_looked_up_in_the_commands_path() {
        assert_eq!(find(&command(&[], "/nowhere:/bin"), "sh").unwrap(), Path::new("/bin/sh"));
        let error = find(&command(&[], "/nowhere"), "sh").unwrap_err();
        assert_eq!(error, "there is no command `sh` in the PATH, which is `/nowhere`");
    }

    #[test]
    fn a_name_with_a_separator_is_relative_to_the_work_folder() {
        assert_eq!(find(&command(&[], "/bin"), "bin/x").unwrap_err(), "there is no command `bin/x`");
        assert_eq!(find(&command(&[], ""), "/bin/sh").unwrap(), Path::new("/bin/sh"));
    }
}
