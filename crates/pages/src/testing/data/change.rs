//! An invented change: one patch set being tried, one that failed, one that was called off.

use types::BuildNumber;

use super::{before, commit, name};
use crate::view::{ChangeView, State, TriedBuild, TryState, TryView, Waiting, WordView};

/// The change 4711.
pub fn change() -> ChangeView {
    ChangeView {
        repository: name("example"),
        number: 4711,
        review: "https://review.example.com/c/example/+/4711".to_owned(),
        tries: vec![
            tried(3, TryState::Running, [State::Passed, State::Failed, State::Waiting]),
            tried(2, TryState::Failed, [State::Passed, State::Failed, State::Flaky]),
            tried(1, TryState::Superseded, [State::Passed, State::Cancelled, State::Cancelled]),
        ],
    }
}

fn tried(patch_set: u32, state: TryState, states: [State; 3]) -> TryView {
    let age = u64::from(4 - patch_set) * 4000;
    let builders = ["linux-amd64", "linux-s390x", "windows-amd64"];
    let build = |(at, state): (usize, State)| TriedBuild {
        number: BuildNumber(48_000 + u64::from(patch_set) * 10 + at as u64),
        builder: name(builders[at]),
        state,
        percent: None,
        reason: if state == State::Failed { "net/http: exit status 1".to_owned() } else { String::new() },
        waiting: (state == State::Waiting).then(|| Waiting {
            code: "ALL_BUSY".to_owned(),
            text: "the only windows-amd64 is busy".to_owned(),
            unblock: "it is free".to_owned(),
            since: before(300),
            position: Some(1),
            eta_ms: Some(60_000),
        }),
        at_base: (at < 2).then_some(State::Passed),
    };
    let ended = state != TryState::Running;
    let commit_ref = commit(patch_set as usize, age);
    let mut words =
        vec![WordView { word: "begun".to_owned(), said: Some(before(age - 1)), note: "said".to_owned() }];
    words.extend((state == TryState::Failed).then(|| WordView {
        word: "ended".to_owned(),
        said: None,
        note: String::new(),
    }));
    TryView {
        patch_set,
        commit: commit_ref.hash,
        subject: commit_ref.subject,
        base: Some(commit(9, 90_000).hash),
        state,
        begun: before(age),
        ended: ended.then(|| before(age - 900)),
        builds: states.into_iter().enumerate().map(build).collect(),
        notes: if patch_set == 3 { vec!["there is no builder `plan9`".to_owned()] } else { Vec::new() },
        words,
    }
}
