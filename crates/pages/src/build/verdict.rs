//! What broke, and is it mine? The sentence that a build's page begins with.

use types::{Phase, Timestamp};

use super::timeline;
use crate::{
    html::Markup,
    view::{BuildView, State},
    words,
};

/// The rest of the sentence after the state: `1 test of 9,214 on linux-arm64`.
pub(crate) fn title(build: &BuildView) -> String {
    let builder = &build.builder;
    match build.state {
        State::Passed | State::Flaky => match build.tests {
            Some(tests) if tests.total > 0 => format!("{} on {builder}", words::count(tests.total, "test")),
            _ => format!("on {builder}"),
        },
        State::Failed => format!("{} on {builder}", failed(build)),
        State::TimedOut => format!("{} on {builder}", place(build, "")),
        State::Infrastructure => format!("on {builder}: this says nothing about the commit"),
        State::Running => format!("{} on {builder}", doing(build)),
        State::Waiting | State::Skipped | State::Cancelled | State::NotBuilt => format!("on {builder}"),
    }
}

fn failed(build: &BuildView) -> String {
    match build.tests {
        Some(tests) if tests.failed > 0 => {
            format!("{} of {}", words::count(tests.failed, "test"), words::grouped(tests.total))
        }
        _ => place(build, "in "),
    }
}

fn place(build: &BuildView, before: &str) -> String {
    let first = build.failures.iter().find(|failure| failure.state.is_red());
    first.map(|failure| format!("{before}{}", failure.name)).unwrap_or_default()
}

fn doing(build: &BuildView) -> String {
    let done = build.shards.iter().filter(|shard| !shard.state.is_active()).count();
    match build.phase {
        Some(Phase::Test) if build.shards.len() > 1 => {
            format!("tests, {done} of {} shards done,", build.shards.len())
        }
        Some(phase) => timeline::phase(phase).to_owned(),
        None => String::new(),
    }
}

/// `in 3 m 54 s, 22 min ago`, `for 40 s`, `for 2 m 3 s`.
pub(crate) fn when(build: &BuildView, now: Timestamp) -> Markup {
    match (build.started, build.ended) {
        (Some(started), Some(ended)) => {
            let took = words::duration(ended.since(started));
            Markup(format!("in {took}, {}", words::ago_element(ended, now)))
        }
        (None, Some(ended)) => words::ago_element(ended, now),
        (Some(started), None) if build.state == State::Running => {
            Markup(format!("for {}", words::lasting_element(started, now)))
        }
        _ => Markup(format!("for {}", words::lasting_element(build.created, now))),
    }
}

/// The state as the first word of a sentence.
pub(crate) fn tag(state: State) -> String {
    let word = state.word();
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing, view::TestCount};

    fn sentence(build: &BuildView) -> String {
        format!("{} {}", tag(build.state), title(build))
    }

    #[test]
    fn each_state_has_its_sentence() {
        let failed = testing::failed_build();
        let with = |state| BuildView { state, ..failed.clone() };
        assert_eq!(sentence(&failed), "Failed 1 test of 9,214 on linux-arm64");
        assert_eq!(
            sentence(&BuildView { tests: None, ..failed.clone() }),
            "Failed in net/http: TestServeReuse on linux-arm64"
        );
        assert_eq!(sentence(&with(State::Passed)), "Passed 9,214 tests on linux-arm64");
        assert_eq!(sentence(&with(State::TimedOut)), "Timed out net/http: TestServeReuse on linux-arm64");
        assert_eq!(
            sentence(&with(State::Infrastructure)),
            "Infrastructure fault on linux-arm64: this says nothing about the commit"
        );
        assert_eq!(sentence(&with(State::Waiting)), "Waiting on linux-arm64");
        let running = BuildView { phase: Some(Phase::Test), ..with(State::Running) };
        assert_eq!(sentence(&running), "Running tests, 9 of 9 shards done, on linux-arm64");
        let tests = Some(TestCount { total: 0, failed: 0 });
        assert_eq!(sentence(&BuildView { tests, ..with(State::Passed) }), "Passed on linux-arm64");
    }

    #[test]
    fn an_ended_build_says_how_long_it_took_and_when() {
        let build = testing::failed_build();
        assert!(
            when(&build, testing::NOW).0.starts_with("in 3 m 54 s, <time"),
            "{}",
            when(&build, testing::NOW)
        );
    }
}
