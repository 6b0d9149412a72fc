//! What templates call. A template hands over fields by reference and what it computes by value, so these take both.

use types::{Phase, Timestamp};

use crate::{
    build, grid,
    html::Markup,
    view::{HostView, KnownIssue, MachineState, SessionState, State, StepView},
    words,
};

/// A value, however a template hands it over.
pub(crate) trait Given<T>: Sized {
    fn given(self) -> T;
}

impl<T: Copy> Given<T> for T {
    fn given(self) -> T {
        self
    }
}

impl<T: Copy> Given<T> for &T {
    fn given(self) -> T {
        *self
    }
}

impl<T: Copy> Given<T> for &&T {
    fn given(self) -> T {
        **self
    }
}

pub(crate) fn class(state: impl Given<State>) -> &'static str {
    grid::rows::class(state.given())
}

pub(crate) fn machine_class(state: impl Given<MachineState>) -> &'static str {
    match state.given() {
        MachineState::Idle => "p",
        MachineState::Leased => "r",
        MachineState::Cleaning | MachineState::Draining => "w",
        MachineState::Broken | MachineState::Quarantined | MachineState::Lost => "i",
    }
}

/// The glyph of a session.
pub(crate) fn session_class(state: impl Given<SessionState>) -> &'static str {
    class(match state.given() {
        SessionState::Waiting => State::Waiting,
        SessionState::Preparing | SessionState::Ready => State::Running,
        SessionState::Ended => State::Skipped,
    })
}

pub(crate) fn phase(phase: impl Given<Phase>) -> &'static str {
    build::phase(phase.given())
}

pub(crate) fn ms(ms: impl Given<u64>) -> String {
    words::duration_ms(ms.given())
}

pub(crate) fn grouped(number: impl Given<u64>) -> String {
    words::grouped(number.given())
}

pub(crate) fn count(number: impl Given<u64>, one: &str) -> String {
    words::count(number.given(), one)
}

pub(crate) fn size(bytes: impl Given<u64>) -> String {
    words::bytes(bytes.given())
}

pub(crate) fn ago(then: impl Given<Timestamp>, now: impl Given<Timestamp>) -> Markup {
    words::ago_element(then.given(), now.given())
}

pub(crate) fn lasting(since: impl Given<Timestamp>, now: impl Given<Timestamp>) -> Markup {
    words::lasting_element(since.given(), now.given())
}

pub(crate) fn took(
    from: impl Given<Timestamp>,
    to: Option<&Timestamp>,
    now: impl Given<Timestamp>,
) -> String {
    words::duration(to.copied().unwrap_or(now.given()).since(from.given()))
}

pub(crate) fn label(step: &StepView) -> String {
    build::label(step)
}

/// `2 of 3`, or `2` where nobody says how many there should be.
pub(crate) fn of(connected: impl Given<u64>, expected: impl Given<u64>) -> String {
    match expected.given() {
        0 => words::grouped(connected.given()),
        expected => format!("{} of {}", words::grouped(connected.given()), words::grouped(expected)),
    }
}

/// True if machines are missing.
pub(crate) fn is_short(host: &HostView) -> bool {
    host.connected == 0 || host.connected < host.expected
}

/// A share in steps of five per cent, as the style sheet has them.
pub(crate) fn share(part: impl Given<u64>, whole: impl Given<u64>) -> u64 {
    (part.given() * 20).div_ceil(whole.given().max(1)).min(20) * 5
}

/// Text from outside becomes a link only to the web.
pub(crate) fn is_link(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

pub(crate) fn is_known_link(known: &KnownIssue) -> bool {
    is_link(&known.url)
}

/// Text in which backticks set off names and commands, as errors of the farm write them.
pub(crate) fn prose(text: &str) -> Markup {
    let mut out = Markup::default();
    let mut rest = text;
    while let Some((before, (code, after))) =
        rest.split_once('`').and_then(|(a, b)| Some((a, b.split_once('`')?)))
    {
        out.text(before).raw("<code>").text(code).raw("</code>");
        rest = after;
    }
    out.text(rest);
    out
}

/// The first of many: nothing on a page is unbounded.
pub(crate) fn first<T>(all: &[T], most: usize) -> &[T] {
    &all[..all.len().min(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_is_a_link() {
        assert!(is_link("https://example.org/1"));
        assert!(!is_link("javascript:alert(1)"));
        assert!(!is_link("issue 1"));
    }

    #[test]
    fn names_in_backticks_are_set_off_and_nothing_else_is_markup() {
        assert_eq!(prose("run `a<b` or `c").0, "run <code>a&lt;b</code> or `c");
        assert_eq!(prose("plain").0, "plain");
    }

    #[test]
    fn shares_are_rounded_up_to_what_can_be_seen() {
        assert_eq!(
            [share(0, 10), share(1, 1000), share(5, 10), share(10, 10), share(11, 10), share(1, 0)],
            [0, 5, 50, 100, 100, 100]
        );
    }
}
