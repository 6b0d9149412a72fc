//! Finding the program that a command names, and saying clearly why it cannot be started.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::Command;
use crate::platform;

/// That a command cannot be started, for people.
pub(super) fn cannot(command: &Command, error: &io::Error) -> String {
    format!("cannot start `{}`: {}", command.argv[0], plain(error))
}

/// What the system said, without the number that Rust adds.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The program that a name stands for: looked up in the command's own PATH, or relative to the work folder.
pub(super) fn find(command: &Command, name: &str) -> Result<PathBuf, String> {
    if name.contains(std::path::is_separator) {
        let path = Path::new(&command.work_folder).join(name);
        let found = candidates(&path).find(|candidate| candidate.exists());
        return found.ok_or_else(|| format!("there is no command `{name}`"));
    }
    let path =
        command.environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    std::env::split_paths(path)
        .flat_map(|folder| candidates(&folder.join(name)).collect::<Vec<_>>())
        .find(|candidate| platform::is_program(candidate))
        .ok_or_else(|| format!("there is no command `{name}` in the PATH, which is `{path}`"))
}

/// What a path may mean where programs have endings that nobody writes.
fn candidates(path: &Path) -> impl Iterator<Item = PathBuf> {
    platform::PROGRAM_ENDINGS.iter().map(move |ending| {
        let mut name = OsString::from(path);
        name.push(ending);
        name.into()
    })
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
