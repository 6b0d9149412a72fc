//! What is said of a change, in words that a person can act on.

use std::fmt::Write as _;

use types::{CommitHash, Outcome};

use crate::{
    core::{TryBuild, TryEnd, TrySet, Word},
    ports::Outcomes,
};

/// How many failed builds are named.
const MOST: usize = 20;

/// What the text is made of.
pub(super) struct Facts<'a> {
    pub(super) set: &'a TrySet,
    /// The address of the pages, without a slash at the end.
    pub(super) pages: &'a str,
    /// The label whose vote asks for a try; empty if votes do not.
    pub(super) label: &'a str,
    /// How the builders ended at what the patch set was made on.
    pub(super) base: &'a Outcomes,
}

/// The message for a word.
pub(super) fn message(word: Word, facts: &Facts<'_>) -> String {
    let mut text = match word {
        Word::Begun => begun(facts),
        Word::Failing => failing(facts),
        Word::Ended => ended(facts),
    };
    if word != Word::Failing {
        for note in &facts.set.notes {
            let _ = write!(text, "\n\nNote: {note}.");
        }
    }
    let change = &facts.set.change;
    let _ = write!(text, "\n\n{}/change/{}?repo={}", facts.pages, change.number, change.repository);
    text
}

fn begun(facts: &Facts<'_>) -> String {
    let builds = &facts.set.builds;
    let mut text =
        format!("Trying patch set {} on {}:\n", facts.set.patch_set, count(builds.len(), "builder"));
    for build in builds {
        let _ = write!(text, "\n* {}: {}", build.builder, link(facts, build));
    }
    text
}

fn failing(facts: &Facts<'_>) -> String {
    let all = facts.set.builds.len();
    let mut text = String::from("A first build has failed, others still run:\n");
    list(&mut text, facts);
    let _ = write!(text, "\n\n{} of {all} have ended. ", all - facts.set.pending().count());
    text.push_str("What is tried is this very commit, not rebased on its branch.");
    text
}

fn ended(facts: &Facts<'_>) -> String {
    let set = facts.set;
    let all = set.builds.len();
    match set.end.map(|(_, end)| end) {
        Some(TryEnd::Passed) => {
            let mut text = format!("{} passed:\n{}", count(all, "build"), lines(facts));
            excused(&mut text, facts);
            text
        }
        Some(TryEnd::Failed) => {
            let mut text = format!("{} of {} failed:\n", set.failed().count(), count(all, "build"));
            list(&mut text, facts);
            excused(&mut text, facts);
            text
        }
        _ if all == 0 => "Nothing was tried: no builder is there for it.".to_owned(),
        _ => {
            let mut text = String::from("Not everything could be built to its end, so there is no vote:\n");
            let unfinished =
                |build: &&TryBuild| build.outcome.is_none_or(|outcome| outcome != Outcome::Passed);
            for build in set.builds.iter().filter(unfinished).take(MOST) {
                let outcome = build.outcome.map_or("not ended", word);
                let _ = write!(text, "\n* {}: {outcome}: {}", build.builder, link(facts, build));
            }
            if !facts.label.is_empty() {
                let _ = write!(text, "\n\nTo try again, take back {0}+1 and vote {0}+1 anew.", facts.label);
            }
            text
        }
    }
}

fn lines(facts: &Facts<'_>) -> String {
    let line = |build: &TryBuild| format!("\n* {}: {}", build.builder, link(facts, build));
    facts.set.builds.iter().map(line).collect()
}

/// The builds that failed, each beside how its builder ended at the base.
fn list(text: &mut String, facts: &Facts<'_>) {
    let failed: Vec<&TryBuild> = facts.set.failed().collect();
    for build in failed.iter().take(MOST) {
        let outcome = build.outcome.map(word).unwrap_or_default();
        let _ =
            write!(text, "\n* {}: {outcome}{}: {}", build.builder, at_base(facts, build), link(facts, build));
        if !build.note.is_empty() {
            let _ = write!(text, " ({})", build.note);
        }
    }
    if let Some(more) = failed.len().checked_sub(MOST).filter(|more| *more > 0) {
        let _ = write!(text, "\n* and {more} more");
    }
}

/// What failed and is not held against the change, with what shows that.
fn excused(text: &mut String, facts: &Facts<'_>) {
    let flaked = |build: &&TryBuild| build.outcome == Some(Outcome::Passed) && !build.note.is_empty();
    let mut flaked = facts.set.builds.iter().filter(flaked).take(MOST).peekable();
    if flaked.peek().is_some() {
        text.push_str("\n\nNot held against the change, since it passed when it was run again:\n");
    }
    for build in flaked {
        let _ = write!(text, "\n* {}: {}: {}", build.builder, build.note, link(facts, build));
    }
}

fn at_base(facts: &Facts<'_>, build: &TryBuild) -> String {
    let (Some(base), Some(outcome)) = (facts.set.base, facts.base.get(&build.builder)) else {
        return String::new();
    };
    let base = CommitHash::short(&base);
    match outcome {
        Outcome::Passed => format!(" (passed at its base {base})"),
        Outcome::Failed | Outcome::TimedOut => format!(" (failed at its base {base} too)"),
        _ => String::new(),
    }
}

fn link(facts: &Facts<'_>, build: &TryBuild) -> String {
    format!("{}/build/{}", facts.pages, build.number)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "took too long",
        Outcome::Infrastructure => "a fault of the farm",
        Outcome::Skipped => "skipped",
        Outcome::Cancelled => "called off",
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use types::{BuildNumber, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::core::ChangeKey;

    fn set(outcomes: &[Option<Outcome>], end: Option<TryEnd>) -> TrySet {
        let build = |(index, outcome): (usize, &Option<Outcome>)| TryBuild {
            number: BuildNumber(index as u64 + 1),
            builder: format!("b{}", index + 1).parse().unwrap(),
            outcome: *outcome,
            note: String::new(),
        };
        TrySet {
            id: Uuid::nil(),
            change: ChangeKey { repository: "example".parse().unwrap(), number: 7 },
            patch_set: 2,
            commit: CommitHash::from_bytes([1; 20]),
            base: Some(CommitHash::from_bytes([2; 20])),
            ask: String::new(),
            open: true,
            begun: Timestamp(0),
            end: end.map(|end| (Timestamp(1), end)),
            builds: outcomes.iter().enumerate().map(build).collect(),
            notes: Vec::new(),
        }
    }

    fn say(word: Word, set: &TrySet, base: &[(&str, Outcome)]) -> String {
        let base = base.iter().map(|(name, outcome)| (name.parse().unwrap(), *outcome)).collect();
        message(word, &Facts { set, pages: "http://farm", label: "Run-TryBot", base: &base })
    }

    #[test]
    fn a_set_is_announced_with_where_to_look_and_what_was_not_understood() {
        let mut set = set(&[None, None], None);
        set.notes.push("there is no builder `plan9`".to_owned());
        let expected = "Trying patch set 2 on 2 builders:\n\n* b1: http://farm/build/1\n* b2: http://farm/build/2\n\n\
                        Note: there is no builder `plan9`.\n\nhttp://farm/change/7?repo=example";
        assert_eq!(say(Word::Begun, &set, &[]), expected);
    }

    #[test]
    fn a_failure_is_stated_against_the_base() {
        let failed = [Some(Outcome::Failed), Some(Outcome::TimedOut), Some(Outcome::Passed), None];
        let base = [("b1", Outcome::Passed), ("b2", Outcome::Failed)];
        let expected = "A first build has failed, others still run:\n\n\
                        * b1: failed (passed at its base 02020202): http://farm/build/1\n\
                        * b2: took too long (failed at its base 02020202 too): http://farm/build/2\n\n3 of 4 have ended. \
                        What is tried is this very commit, not rebased on its branch.\n\n\
                        http://farm/change/7?repo=example";
        assert_eq!(
            say(Word::Failing, &set(&failed, None), &base).replace("0202020202", "02020202"),
            expected
        );
        let ended = set(&failed[..3], Some(TryEnd::Failed));
        assert!(say(Word::Ended, &ended, &base).starts_with("2 of 3 builds failed:\n\n* b1: failed (passed"));
    }

    #[test]
    fn what_flaked_is_excused_and_says_by_what() {
        let flaked = "flaky: TestPark: exit status 1 on `m1`, then it passed on `m2`";
        let mut set = set(&[Some(Outcome::Passed), Some(Outcome::Passed)], Some(TryEnd::Passed));
        flaked.clone_into(&mut set.builds[1].note);
        let excused = format!(
            "\n\nNot held against the change, since it passed when it was run again:\n\n\
             * b2: {flaked}: http://farm/build/2\n\n"
        );
        let said = say(Word::Ended, &set, &[]);
        assert!(said.starts_with("2 builds passed:\n\n* b1: ") && said.contains(&excused), "{said}");
        (set.builds[0].outcome, set.end) = (Some(Outcome::Failed), Some((Timestamp(1), TryEnd::Failed)));
        "TestServe: exit status 2, twice on `m1`".clone_into(&mut set.builds[0].note);
        let said = say(Word::Ended, &set, &[]);
        let failed = "* b1: failed: http://farm/build/1 (TestServe: exit status 2, twice on `m1`)";
        assert!(said.contains(failed) && said.contains(&excused), "{said}");
    }

    #[test]
    fn a_fault_of_the_farm_is_no_failure_and_says_how_to_go_on() {
        let set = set(&[Some(Outcome::Passed), Some(Outcome::Infrastructure)], Some(TryEnd::Unfinished));
        let said = say(Word::Ended, &set, &[]);
        let expected = "Not everything could be built to its end, so there is no vote:\n\n* b2: a fault of the farm: \
                        http://farm/build/2\n\nTo try again, take back Run-TryBot+1 and vote Run-TryBot+1 anew.\n\n\
                        http://farm/change/7?repo=example";
        assert_eq!(said, expected);
    }
}
