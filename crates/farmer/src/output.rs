//! What every command prints alike: errors, outcomes, times.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use api::coordinator::{Build, Outcome, Phase};
use owo_colors::{OwoColorize, Stream::Stdout, Style};

/// The farm could not do the work, or could not be reached.
pub(crate) const INFRASTRUCTURE: u8 = 3;
/// A command failed.
pub(crate) const FAILED: u8 = 1;
/// What was asked makes no sense.
pub(crate) const USAGE: u8 = 2;

/// An error with the exit code that it deserves.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Coded {
    code: u8,
    message: String,
}

/// What was asked makes no sense: exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Coded { code: USAGE, message: message.into() }.into()
}

/// The farm could not do it: exit code 3.
pub(crate) fn infrastructure(message: impl Into<String>) -> anyhow::Error {
    Coded { code: INFRASTRUCTURE, message: message.into() }.into()
}

/// Prints an error on standard error and answers its exit code.
#[expect(clippy::print_stderr, reason = "errors of a command line go there")]
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("farmer: {error:#}");
    let status = error.chain().find_map(|cause| cause.downcast_ref::<tonic::Status>());
    let coded = error.chain().find_map(|cause| cause.downcast_ref::<Coded>());
    let code = match (coded, status.map(tonic::Status::code)) {
        (Some(coded), _) => coded.code,
        (
            None,
            Some(tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::FailedPrecondition),
        ) => USAGE,
        _ => INFRASTRUCTURE,
    };
    ExitCode::from(code)
}

/// Turns the answer of the farm into an error that says what to do.
pub(crate) fn refused(status: &tonic::Status) -> anyhow::Error {
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::FailedPrecondition => {
            usage(message)
        }
        tonic::Code::Unavailable => {
            infrastructure(format!("the farm does not answer ({message}): is `farmer up` running?"))
        }
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => infrastructure(format!(
            "the farm refused the token ({message}): give the right one with --token-file"
        )),
        code => infrastructure(format!("the farm answered {code:?}: {message}")),
    }
}

/// One line to standard output.
///
/// # Errors
/// When standard output is closed; the command then ends quietly with its exit code.
pub(crate) fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Whether progress may be redrawn in place.
pub(crate) fn is_live() -> bool {
    std::io::stderr().is_terminal()
}

/// Glyph and word of an outcome or, while there is none, of a phase.
pub(crate) fn state(build: &Build) -> (&'static str, String, Style) {
    let plain = Style::new();
    match build.outcome() {
        Outcome::Passed if build.flakes > 0 => ("≈", "passed, flaky".to_owned(), plain.yellow()),
        Outcome::Passed => ("✓", "passed".to_owned(), plain.green()),
        Outcome::Failed => ("✕", "failed".to_owned(), plain.red().bold()),
        Outcome::TimedOut => ("✕", "timed out".to_owned(), plain.red().bold()),
        Outcome::Infrastructure => ("!", "infrastructure fault".to_owned(), plain.magenta()),
        Outcome::Skipped => ("–", "skipped".to_owned(), plain.dimmed()),
        Outcome::Cancelled => ("–", "cancelled".to_owned(), plain.dimmed()),
        Outcome::Unspecified if build.started.is_none() => ("○", "waiting".to_owned(), plain.dimmed()),
        Outcome::Unspecified => ("●", phase(build), plain.blue()),
    }
}

/// What a build does now, in words.
pub(crate) fn phase(build: &Build) -> String {
    match build.phase() {
        Phase::Unspecified | Phase::Queued => "waiting".to_owned(),
        Phase::Source => "fetching the source".to_owned(),
        Phase::SnapshotFetch => "fetching the snapshot".to_owned(),
        Phase::Make => "making".to_owned(),
        Phase::SnapshotStore => "storing the snapshot".to_owned(),
        Phase::List => "listing tests".to_owned(),
        Phase::Test if build.shards_total > 0 => {
            format!("testing, {} of {} shards", build.shards_done, build.shards_total)
        }
        Phase::Test => "testing".to_owned(),
        Phase::Finish => "finishing".to_owned(),
    }
}

/// The exit code of a build that has ended.
pub(crate) fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Passed | Outcome::Skipped => 0,
        Outcome::Failed | Outcome::TimedOut => FAILED,
        Outcome::Infrastructure | Outcome::Cancelled | Outcome::Unspecified => INFRASTRUCTURE,
    }
}

/// A glyph and a word in the colour of the state, where standard output shows colours.
pub(crate) fn coloured(build: &Build) -> String {
    let (glyph, word, style) = state(build);
    let text = format!("{glyph} {word}");
    text.if_supports_color(Stdout, |text| text.style(style)).to_string()
}

/// A duration as people say it: `340 ms`, `12 s`, `3 m 54 s`, `2 h 5 m`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..1 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The time of day here, as `14:03:59`.
pub(crate) fn time_of_day() -> String {
    let now = runtime::system_clock().now();
    let now = jiff::Timestamp::from_microsecond(now.0).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// How long something took or has taken.
pub(crate) fn elapsed(
    from: Option<prost_types::Timestamp>,
    to: Option<prost_types::Timestamp>,
) -> Option<Duration> {
    let from = rpc::from_timestamp(&from?);
    let to = to.map_or_else(|| runtime::system_clock().now(), |to| rpc::from_timestamp(&to));
    Some(to.since(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in
            [(0, "0 ms"), (340, "340 ms"), (12_400, "12 s"), (234_000, "3 m 54 s"), (7_500_000, "2 h 5 m")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn only_a_failed_build_exits_with_one() {
        assert_eq!(code(Outcome::Passed), 0);
        assert_eq!(code(Outcome::Failed), 1);
        assert_eq!(code(Outcome::TimedOut), 1);
        assert_eq!(code(Outcome::Infrastructure), 3);
        assert_eq!(code(Outcome::Cancelled), 3);
    }
}
