//! Whose fault a failure is: pure, from what was seen. A commit is blamed only for what passed before it and failed
//! twice, or what there is no reason to doubt.

use pages::view::State as Word;
use types::{BuildNumber, MachineName, Share};

use super::past::Said;

/// Whose fault a failure is, what people must look at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// This commit's.
    Commit,
    /// Nobody can tell.
    Unclear,
    /// An older commit's.
    OlderCommit,
    /// The farm's.
    Infrastructure,
    /// Chance's.
    Flake,
}

/// How often and where it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runs {
    /// Once, somewhere.
    Once,
    /// Twice on one machine.
    TwiceOn(MachineName),
    /// On one machine, then on another.
    Twice(MachineName, MachineName),
}

/// What was seen of a failure.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    pub(super) state: Word,
    pub(super) runs: Runs,
    /// What it did at the commit before, in which build.
    pub(super) before: Option<(Said, BuildNumber)>,
    /// Since when it fails without a pause.
    pub(super) since: Option<BuildNumber>,
    /// How often it flakes.
    pub(super) rate: Option<Share>,
    /// It failed on a machine only that is in quarantine, and why that is.
    pub(super) sick: Option<(MachineName, String)>,
}

impl Runs {
    pub(super) fn of(machines: &[MachineName]) -> Self {
        match machines {
            [first, second] if first == second => Self::TwiceOn(first.clone()),
            [first, second] => Self::Twice(first.clone(), second.clone()),
            _ => Self::Once,
        }
    }

    fn failed(&self) -> String {
        match self {
            Self::Once => "it failed, and was run once only".to_owned(),
            Self::TwiceOn(machine) => {
                format!("it failed twice on `{machine}`, as no other machine was to be had")
            }
            Self::Twice(first, second) => format!("it failed on `{first}` and again on `{second}`"),
        }
    }
}

/// Whose fault it is, and why.
pub(super) fn judge(seen: &Evidence) -> (Cause, String) {
    if let Some((machine, why)) = &seen.sick {
        let seen = match seen.state {
            Word::Flaky => flaked(&seen.runs),
            _ => format!("it failed on `{machine}` only"),
        };
        return (Cause::Infrastructure, format!("{seen}; `{machine}` is in quarantine: {why}"));
    }
    let failed = seen.runs.failed();
    match (seen.state, seen.before) {
        (Word::Infrastructure, _) => (
            Cause::Infrastructure,
            "the farm could not run it: this says nothing about the commit".to_owned(),
        ),
        (Word::Flaky, _) => (Cause::Flake, flaked(&seen.runs)),
        (_, Some((Said::Failed, before))) => {
            let since = seen.since.unwrap_or(before);
            (
                Cause::OlderCommit,
                format!("it failed at the commit before, too (build {before}); first in build {since}"),
            )
        }
        (_, Some((Said::Passed, _)))
            if seen.runs == Runs::Once && seen.rate.is_some_and(|rate| rate.of > 0) =>
        {
            (Cause::Unclear, "it was run once only, and it is known to flake".to_owned())
        }
        (_, Some((Said::Passed, before))) => {
            (Cause::Commit, format!("{failed}; it passed at the commit before (build {before})"))
        }
        (_, Some((Said::Unclear, before))) => {
            (Cause::Unclear, format!("{failed}; at the commit before its shard failed, too (build {before})"))
        }
        (_, None) => (Cause::Unclear, format!("{failed}; there is no earlier result to compare with")),
    }
}

fn flaked(runs: &Runs) -> String {
    match runs {
        Runs::Twice(first, second) => {
            format!("it failed on `{first}` and passed on `{second}`, at one commit")
        }
        Runs::TwiceOn(machine) => format!("it failed and then passed on `{machine}`, at one commit"),
        Runs::Once => "it failed and then passed, at one commit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: Word, runs: Runs, before: Option<Said>) -> Evidence {
        Evidence {
            state,
            runs,
            before: before.map(|said| (said, BuildNumber(4))),
            since: None,
            rate: None,
            sick: None,
        }
    }

    fn twice() -> Runs {
        Runs::of(&["m1".parse().unwrap(), "m2".parse().unwrap()])
    }

    #[test]
    fn what_failed_on_a_sick_machine_only_blames_nobody_else() {
        let sick = Some(("m1".parse().unwrap(), "3 of 3 failed".to_owned()));
        let flaky = Evidence { sick: sick.clone(), ..seen(Word::Flaky, twice(), Some(Said::Passed)) };
        let (cause, text) = judge(&flaky);
        assert_eq!(cause, Cause::Infrastructure);
        assert_eq!(
            text,
            "it failed on `m1` and passed on `m2`, at one commit; `m1` is in quarantine: 3 of 3 failed"
        );
        let failed = Evidence { sick, ..seen(Word::Failed, Runs::Once, Some(Said::Passed)) };
        assert_eq!(judge(&failed).0, Cause::Infrastructure);
    }

    #[test]
    fn a_commit_is_blamed_for_what_passed_before_it_and_failed_on_two_machines() {
        let (cause, text) = judge(&seen(Word::Failed, twice(), Some(Said::Passed)));
        assert_eq!(cause, Cause::Commit);
        assert_eq!(text, "it failed on `m1` and again on `m2`; it passed at the commit before (build 4)");
    }

    #[test]
    fn it_is_not_blamed_for_what_failed_before_flaked_or_could_not_run() {
        let cause = |state, before| judge(&seen(state, twice(), before)).0;
        assert_eq!(cause(Word::Failed, Some(Said::Failed)), Cause::OlderCommit);
        assert_eq!(cause(Word::Flaky, Some(Said::Passed)), Cause::Flake);
        assert_eq!(cause(Word::Infrastructure, Some(Said::Passed)), Cause::Infrastructure);
        assert_eq!(cause(Word::TimedOut, Some(Said::Unclear)), Cause::Unclear);
        assert_eq!(cause(Word::Failed, None), Cause::Unclear);
    }

    #[test]
    fn what_flakes_must_fail_twice_to_be_believed() {
        let rate = Some(Share { of: 1, all: 40 });
        let once = Evidence { rate, ..seen(Word::Failed, Runs::Once, Some(Said::Passed)) };
        assert_eq!(judge(&once).0, Cause::Unclear);
        assert_eq!(judge(&Evidence { runs: twice(), ..once.clone() }).0, Cause::Commit);
        assert_eq!(judge(&Evidence { rate: Some(Share { of: 0, all: 40 }), ..once }).0, Cause::Commit);
    }
}
