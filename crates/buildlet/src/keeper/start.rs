//! Starting a command: finding the program, and saying clearly why it cannot be started.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
};

use rustix::{
    fs::{Access, access},
    process::Pid,
};

use super::message::Command;

/// Where output goes and input comes from.
pub(super) struct Streams {
    /// Standard input; none means that there is none to read.
    pub(super) stdin: Option<OwnedFd>,
    /// Standard output and error.
    pub(super) output: OwnedFd,
}

/// Starts a command in the current folder, in a process group of its own. The error is for people.
pub(super) fn start(command: &Command, streams: Streams) -> Result<Pid, String> {
    let name = command.argv.first().ok_or("no command was given")?;
    let program = find(command, name)?;
    let failed = |error: io::Error| format!("cannot start `{name}`: {}", plain(&error));
    let second = streams.output.try_clone().map_err(failed)?;
    let child = StdCommand::new(&program)
        .arg0(name)
        .args(&command.argv[1..])
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(streams.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(streams.output)
        .stderr(second)
        .spawn()
        .map_err(failed)?;
    Ok(Pid::from_raw(child.id() as i32).expect("a process has a positive id"))
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
