//! One builder at one commit, as the grid shows it.

use pages::view::{Cell, LiveEvent, State as Word};
use types::{BuildNumber, Outcome};

use crate::core::{Build, BuildKey, Stage, State};

/// The cell of a build that has ended.
pub(crate) fn ended(number: BuildNumber, (outcome, flakes): (Outcome, u32), reason: &str) -> Cell {
    let title = reason.chars().take(200).collect();
    Cell { state: word(outcome, flakes), percent: None, build: Some(number), title }
}

/// How a build ended of which so many shards failed and then passed.
pub(crate) fn word(outcome: Outcome, flakes: u32) -> Word {
    if outcome == Outcome::Passed && flakes > 0 { Word::Flaky } else { outcome.into() }
}

/// The cell of an active build.
pub(crate) fn active(state: &State, build: &Build) -> Cell {
    let waiting = build.attempt().is_none() || build.needs_machine();
    let title = match state.wait_reason(build.number) {
        Some(reason) if waiting => reason.text,
        _ => String::new(),
    };
    Cell {
        state: if waiting { Word::Waiting } else { Word::Running },
        percent: if waiting { None } else { Some(percent(build)) },
        build: Some(build.number),
        title,
    }
}

/// How much of a build is done. Before the tests nobody knows, so little is claimed.
pub(crate) fn percent(build: &Build) -> u8 {
    let Some(attempt) = build.attempt() else { return 0 };
    match (attempt.stage, attempt.shards.len()) {
        (Stage::Preparing, _) => 10,
        (Stage::Testing, 0 | 1) => 50,
        (Stage::Testing, all) => 20 + (attempt.shards_done() * 79 / all) as u8,
    }
}

/// The event for open pages.
pub(crate) fn live(key: &BuildKey, cell: Cell) -> LiveEvent {
    LiveEvent::Cell {
        repository: key.repository.clone(),
        commit: key.commit,
        builder: key.builder.clone(),
        cell,
    }
}
