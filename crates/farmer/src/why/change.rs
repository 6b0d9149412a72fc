//! How the tries of a change stand: the newest, and its first failure.

use api::coordinator::{ChangeExplanation, Outcome, TriedBuild};
use serde_json::{Value, json};

use super::{BUILDERS, build_json, of_build};
use crate::build;

pub(super) fn lines(told: &ChangeExplanation, url: &str) -> Vec<String> {
    let (name, newest) = (told.change.clone().unwrap_or_default(), told.newest.clone().unwrap_or_default());
    let mut out = vec![format!("{}~{}: {}", name.repository, name.number, newest.text)];
    for build in newest.builds.iter().take(BUILDERS) {
        out.push(format!("  {}: {} (build {})", build.builder, stands(build), build.number));
    }
    if newest.builds.len() > BUILDERS {
        out.push(format!("  and {} builders more", newest.builds.len() - BUILDERS));
    }
    out.extend(newest.notes.iter().map(|note| format!("  note: {note}")));
    if let Some(failure) = &told.first_failure {
        out.push(String::new());
        out.extend(of_build(failure, url));
    }
    if !told.review.is_empty() {
        out.push(told.review.clone());
    }
    out.push(format!("{url}{}", told.page));
    out
}

/// How a builder of a try stands, against its base.
fn stands(build: &TriedBuild) -> String {
    let state = match build.outcome() {
        Outcome::Unspecified if build.text.is_empty() => "runs".to_owned(),
        Outcome::Unspecified => format!("waits: {}", build.text),
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Infrastructure => "infrastructure fault".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
    };
    match build.at_base() {
        Outcome::Failed | Outcome::TimedOut => format!("{state}; it failed at its base, too"),
        Outcome::Passed => format!("{state}; it passed at its base"),
        _ => state,
    }
}

pub(super) fn json(told: &ChangeExplanation) -> Value {
    let (name, newest) = (told.change.clone().unwrap_or_default(), told.newest.clone().unwrap_or_default());
    let builds = newest.builds.iter().map(|one| {
        json!({
            "number": one.number,
            "builder": one.builder,
            "outcome": build::outcome_json(one.outcome()),
            "text": one.text,
            "at_base": build::outcome_json(one.at_base()),
        })
    });
    json!({
        "change": name.number,
        "repository": name.repository,
        "patch_set": newest.patch_set,
        "commit": newest.commit,
        "state": newest.state().as_str_name().trim_start_matches("TRY_STATE_").to_ascii_lowercase(),
        "text": newest.text,
        "builds": builds.collect::<Vec<_>>(),
        "notes": newest.notes,
        "first_failure": told.first_failure.as_ref().map(build_json),
        "page": told.page,
        "review": told.review,
    })
}

#[cfg(test)]
mod tests {
    use api::coordinator::{ChangeName, TrySet};

    use super::*;

    #[test]
    fn a_change_is_told_by_its_newest_try_against_its_base() {
        let tried = |builder: &str, outcome: Outcome, text: &str, at_base: Outcome| TriedBuild {
            number: 7,
            builder: builder.to_owned(),
            outcome: outcome.into(),
            text: text.to_owned(),
            at_base: at_base.into(),
        };
        let told = ChangeExplanation {
            change: Some(ChangeName { number: 4711, repository: "example".to_owned() }),
            newest: Some(TrySet {
                patch_set: 3,
                text: "Patch set 3 is being tried: 1 of 2 builders to go, 1 failed".to_owned(),
                builds: vec![
                    tried("a", Outcome::Failed, "exit status 1", Outcome::Passed),
                    tried("b", Outcome::Unspecified, "all machines are busy", Outcome::Unspecified),
                ],
                notes: vec!["there is no builder `c`".to_owned()],
                ..TrySet::default()
            }),
            page: "/change/4711?repo=example".to_owned(),
            ..ChangeExplanation::default()
        };
        let expected = [
            "example~4711: Patch set 3 is being tried: 1 of 2 builders to go, 1 failed",
            "  a: failed; it passed at its base (build 7)",
            "  b: waits: all machines are busy (build 7)",
            "  note: there is no builder `c`",
            "http://farm/change/4711?repo=example",
        ];
        assert_eq!(lines(&told, "http://farm"), expected);
        assert_eq!(json(&told)["builds"][1]["outcome"], Value::Null);
    }
}
