//! How a service ends: one line that says what failed, and an exit code that says whose turn it is.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::config;

/// Whose turn it is after a failure (the codes are those of `sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The operator's: the configuration cannot be used. Code 78.
    Configuration,
    /// Nobody's, or another service's: a port, a peer or a folder is not available; try again. Code 69.
    Unavailable,
    /// Ours. Code 70.
    Bug,
}

impl Failure {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Configuration => 78,
            Self::Unavailable => 69,
            Self::Bug => 70,
        }
    }

    /// Marks an error as of this kind. It reads as before.
    pub fn of(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Marked { failure: self, error: error.into() })
    }

    /// What kind of failure an error is: as it was marked by [`Failure::of`], else by what caused it, else a bug.
    pub fn classify(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::known).unwrap_or(Self::Bug)
    }

    fn known(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(marked) = cause.downcast_ref::<Marked>() {
            return Some(marked.failure);
        }
        if cause.is::<config::Errors>() {
            return Some(Self::Configuration);
        }
        let kind = cause.downcast_ref::<io::Error>()?.kind();
        let unavailable = [
            io::ErrorKind::AddrInUse,
            io::ErrorKind::AddrNotAvailable,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::StorageFull,
            io::ErrorKind::TimedOut,
        ];
        unavailable.contains(&kind).then_some(Self::Unavailable)
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.code())
    }
}

/// An error with its [`Failure`]; it prints as the error itself.
#[derive(Debug)]
struct Marked {
    failure: Failure,
    error: anyhow::Error,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for Marked {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Prints `SERVICE: failed to …` with every cause on standard error, and gives the exit code.
pub fn exit_with(service: &str, error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{}", message(service, error));
    Failure::classify(error).into()
}

fn message(service: &str, error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let list = |text: &String| text.contains('\n');
    let mut text = format!("{service}: failed to {}", causes[0]);
    for cause in &causes[1..] {
        // Configuration errors are a list, a line each: it begins on a line of its own.
        text.push_str(if list(cause) { ":\n" } else { ": " });
        text.push_str(cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_mark_is_found_under_context_and_does_not_show() {
        let error = Failure::Unavailable.of(anyhow!("port taken").context("bind `127.0.0.1:80`"));
        let error = Err::<(), _>(error).context("start").unwrap_err();
        assert_eq!(Failure::classify(&error), Failure::Unavailable);
        assert_eq!(
            message("gitmirror", &error),
            "gitmirror: failed to start: bind `127.0.0.1:80`: port taken"
        );
    }

    #[test]
    fn a_taken_port_is_unavailable_and_the_rest_is_a_bug() {
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(Failure::classify(&anyhow::Error::new(taken).context("bind")), Failure::Unavailable);
        assert_eq!(Failure::classify(&anyhow!("oops")), Failure::Bug);
        assert_eq!(
            [78, 69, 70],
            [Failure::Configuration, Failure::Unavailable, Failure::Bug].map(Failure::code)
        );
    }

    #[test]
    fn configuration_errors_are_a_list() {
        struct Nothing;
        impl config::FromToml for Nothing {
            fn from_toml(_: &mut config::Table<'_>) -> Self {
                Self
            }
        }
        let errors = config::parse::<Nothing>("farm.toml", "a = 1\nb = 2").err().unwrap();
        let error = anyhow::Error::new(errors).context("load configuration");
        assert_eq!(Failure::classify(&error), Failure::Configuration);
        assert_eq!(
            message("maintnerd", &error),
            "maintnerd: failed to load configuration:\nfarm.toml:1:1: unknown key `a`\nfarm.toml:2:1: unknown key `b`"
        );
    }
}
