//! `farmer why`: what broke a build or what it waits for, how a test fares, or how the tries of a change stand, on one
//! screen.

mod change;

use std::process::ExitCode;

use api::coordinator::{
    AtTip, Build, BuildExplanation, Cause, ChangeName, ExplainRequest, FailureExplanation, FlakeRate,
    TestExplanation, explain_request::Subject, explain_response::Answer,
};
use serde_json::{Value, json};

use crate::{build, cli::FarmArgs, output};

/// How many lines of logs are shown of all failures together: what is asked fits on one screen.
const LINES: usize = 24;
/// How many builders of a test are shown.
const BUILDERS: usize = 8;

/// Arguments of `farmer why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A build by its number, a test by its name, or a change under review as `change/4711` or `REPOSITORY~4711`
    subject: String,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer why`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let subject = subject(args.subject);
    let request = rpc::request(ExplainRequest { subject: Some(subject) });
    let answer = farm.why()?.explain(request).await.map_err(|status| output::refused(&status))?;
    let answer =
        answer.into_inner().answer.ok_or_else(|| output::infrastructure("the farm answered nothing"))?;
    let lines = match (&answer, args.farm.json) {
        (Answer::Build(told), true) => vec![build_json(told).to_string()],
        (Answer::Test(told), true) => vec![test_json(told).to_string()],
        (Answer::Change(told), true) => vec![change::json(told).to_string()],
        (Answer::Change(told), false) => change::lines(told, &farm.url),
        (Answer::Build(told), false) => of_build(told, &farm.url),
        (Answer::Test(told), false) => of_test(told, &farm.url),
    };
    lines.iter().try_for_each(output::line)?;
    Ok(ExitCode::SUCCESS)
}

fn subject(text: String) -> Subject {
    if let Ok(number) = text.parse() {
        return Subject::Build(number);
    }
    let named = |(repository, number): (&str, &str)| {
        Some(ChangeName { number: number.parse().ok()?, repository: repository.to_owned() })
    };
    let change = text.strip_prefix("change/").map(|number| ("", number)).or_else(|| text.rsplit_once('~'));
    change.and_then(named).map_or(Subject::Test(text), Subject::Change)
}

fn of_build(told: &BuildExplanation, url: &str) -> Vec<String> {
    let none = Build::default();
    let asked = told.build.as_ref().unwrap_or(&none);
    let mut out = vec![build::headline(asked)];
    if let Some(wait) = &asked.waits_for {
        if !wait.unblock.is_empty() {
            out.push(format!("  it goes on when {}", wait.unblock));
        }
        if let Some(since) = output::elapsed(wait.since, None) {
            out.push(format!("  it has waited for {}", output::duration(since)));
        }
    }
    let each = LINES / told.failures.len().max(1);
    for failure in &told.failures {
        out.push(String::new());
        out.extend(of_failure(failure, asked, each));
    }
    if told.more_failures > 0 {
        out.push(format!("\nand {} more that failed", told.more_failures));
    }
    out.push(String::new());
    if !told.reproduce.is_empty() {
        out.push(format!("do it again: {}", told.reproduce));
    }
    out.push(format!("{url}{}", asked.page));
    out
}

fn of_failure(failure: &FailureExplanation, build: &Build, most: usize) -> Vec<String> {
    let shard = match failure.shard {
        0 => String::new(),
        shard => format!(" (shard {shard} of {})", build.shards_total),
    };
    let mut out =
        vec![format!("{}: {}{shard}", word(failure.cause()), failure.name), format!("  {}", failure.text)];
    let tip = match failure.at_tip() {
        AtTip::Unspecified => None,
        AtTip::This => Some("this is the newest commit that was built".to_owned()),
        AtTip::Passes => Some(format!("at the newest commit it passes (build {})", failure.tip_build)),
        AtTip::Fails => Some(format!("at the newest commit it fails, too (build {})", failure.tip_build)),
    };
    let alike = match failure.alike.as_slice() {
        [] => None,
        some => Some(format!("it failed alike in build {}", joined(some))),
    };
    let rate = failure.flakes.as_ref().map(rate);
    let known: Vec<String> = tip.into_iter().chain(rate).chain(alike).collect();
    if !known.is_empty() {
        out.push(format!("  {}", known.join("; ")));
    }
    // The lines after the first telling one say what it was.
    let telling = failure.lines.iter().position(|line| line.telling).unwrap_or(0);
    let from = if failure.lines.len() <= most {
        0
    } else {
        telling.saturating_sub(1).min(failure.lines.len() - most)
    };
    for line in failure.lines.iter().skip(from).take(most) {
        let mark = if line.telling { '>' } else { ' ' };
        out.push(format!("  {mark} {:>6}  {}", line.number, line.text));
    }
    out
}

fn of_test(told: &TestExplanation, url: &str) -> Vec<String> {
    let mut out = vec![told.test.clone()];
    for one in told.builders.iter().take(BUILDERS) {
        let rate = one.flakes.as_ref().map(|flakes| format!("; {}", rate(flakes))).unwrap_or_default();
        out.push(format!(
            "  {}: {}; {} passed, {} failed{rate}",
            one.builder, one.text, one.passed, one.failed
        ));
    }
    if told.builders.len() > BUILDERS {
        out.push(format!("  and {} builders more", told.builders.len() - BUILDERS));
    }
    match &told.last_failure {
        Some(last) => {
            out.push("\nits last failure:".to_owned());
            out.extend(of_build(last, url));
        }
        None => out.push(format!("{url}{}", told.page)),
    }
    out
}

/// Whose fault it is, as the first word of a line.
fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Commit => "broken by this commit",
        Cause::OlderCommit => "broken before this commit",
        Cause::Flake => "flaky",
        Cause::Infrastructure => "infrastructure fault",
        Cause::Unclear | Cause::Unspecified => "failed, cause unclear",
    }
}

fn rate(rate: &FlakeRate) -> String {
    let percent = |share: f64| share * 100.0;
    format!(
        "it flaked at {} of {} commits ({:.1} to {:.1} % with 95 % confidence)",
        rate.flaked,
        rate.commits,
        percent(rate.low),
        percent(rate.high)
    )
}

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The stable JSON: names as in `why_service.proto`, enums as lower-case words.
fn build_json(told: &BuildExplanation) -> Value {
    json!({
        "build": told.build.as_ref().map(build::build_json),
        "failures": told.failures.iter().map(failure_json).collect::<Vec<_>>(),
        "more_failures": told.more_failures,
        "reproduce": told.reproduce,
    })
}

fn failure_json(failure: &FailureExplanation) -> Value {
    json!({
        "name": failure.name,
        "test": failure.test,
        "shard": failure.shard,
        "outcome": build::outcome_json(failure.outcome()),
        "cause": failure.cause().as_str_name().trim_start_matches("CAUSE_").to_ascii_lowercase(),
        "text": failure.text,
        "machines": failure.machines,
        "since_build": failure.since_build,
        "passed_build": failure.passed_build,
        "passed_commit": failure.passed_commit,
        "at_tip": failure.at_tip().as_str_name().trim_start_matches("AT_TIP_").to_ascii_lowercase(),
        "tip_build": failure.tip_build,
        "flakes": failure.flakes.as_ref().map(rate_json),
        "signature": failure.signature,
        "alike": failure.alike,
        "lines": failure.lines.iter().map(|line| json!({
            "number": line.number, "text": line.text, "telling": line.telling,
        })).collect::<Vec<_>>(),
    })
}

fn rate_json(rate: &FlakeRate) -> Value {
    json!({ "flaked": rate.flaked, "commits": rate.commits, "low": rate.low, "high": rate.high })
}

fn test_json(told: &TestExplanation) -> Value {
    json!({
        "test": told.test,
        "builders": told.builders.iter().map(|one| json!({
            "builder": one.builder,
            "repository": one.repository,
            "standing": one.standing.to_ascii_lowercase(),
            "text": one.text,
            "passed": one.passed,
            "failed": one.failed,
            "flakes": one.flakes.as_ref().map(rate_json),
        })).collect::<Vec<_>>(),
        "last_failure": told.last_failure.as_ref().map(build_json),
        "page": told.page,
    })
}

#[cfg(test)]
mod tests {
    use api::coordinator::ToldLine;

    use super::*;

    fn failure(lines: u64) -> FailureExplanation {
        FailureExplanation {
            name: "net/http".to_owned(),
            shard: 3,
            cause: Cause::Commit.into(),
            text: "it failed on `m1` and again on `m2`; it passed at the commit before (build 6)".to_owned(),
            at_tip: AtTip::This.into(),
            flakes: Some(FlakeRate { flaked: 1, commits: 40, low: 0.004, high: 0.129 }),
            lines: (1..=lines)
                .map(|number| ToldLine { number, text: format!("line {number}"), telling: number == 5 })
                .collect(),
            ..FailureExplanation::default()
        }
    }

    #[test]
    fn a_subject_is_told_by_how_it_is_written() {
        let change = |number, repository: &str| {
            Subject::Change(ChangeName { number, repository: repository.to_owned() })
        };
        for (text, expected) in [
            ("12", Subject::Build(12)),
            ("change/12", change(12, "")),
            ("x/tools~12", change(12, "x/tools")),
            ("net/http", Subject::Test("net/http".to_owned())),
            ("change/x", Subject::Test("change/x".to_owned())),
            ("a~b", Subject::Test("a~b".to_owned())),
        ] {
            assert_eq!(subject(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn a_failure_says_whose_fault_it_is_and_shows_the_lines_around() {
        let build = Build { shards_total: 9, ..Build::default() };
        let told = of_failure(&failure(6), &build, 24);
        assert_eq!(
            told[..3],
            [
                "broken by this commit: net/http (shard 3 of 9)",
                "  it failed on `m1` and again on `m2`; it passed at the commit before (build 6)",
                "  this is the newest commit that was built; it flaked at 1 of 40 commits (0.4 to 12.9 % with 95 % \
                 confidence)",
            ]
        );
        assert_eq!(told[7], "  >      5  line 5");
        assert_eq!(told.len(), 9);
    }

    #[test]
    fn five_failures_of_twenty_lines_fit_on_a_screen() {
        let told = BuildExplanation {
            build: Some(Build::default()),
            failures: vec![failure(20); 5],
            more_failures: 9,
            reproduce: "farmer try".to_owned(),
        };
        let lines: usize = of_build(&told, "").iter().map(|text| text.lines().count().max(1)).sum();
        assert!(lines <= 48, "{lines} lines");
        let shown = of_failure(&told.failures[0], &Build::default(), 4);
        assert!(
            shown.iter().any(|line| line.ends_with("line 5")),
            "the telling line is among them: {shown:?}"
        );
    }
}
