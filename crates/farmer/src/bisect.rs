//! `farmer bisect`: which commit broke a test, though it also fails by chance. The commits are those of the repository in
//! the current folder; each is tried by a build of that one test, which begins with the snapshot of its commit if there is
//! one.

mod search;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use api::coordinator::{
    Build, ExplainRequest, Outcome, Phase, RequestBuildsRequest, explain_request::Subject,
    explain_response::Answer,
};
use serde_json::json;

use self::search::{Next, Search, Seen};
use crate::{build, cli::FarmArgs, farm::Location, output, progress};

/// How many commits are searched at the most.
const MOST: usize = 10_000;
/// How often one commit is tried before another must be: a build of the farm each time.
const TRIES: u32 = 50;

/// Arguments of `farmer bisect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A build in which the test fails
    number: u64,
    /// The test
    test: String,
    /// A commit at which it passed [default: the last at which the farm saw it pass]
    #[arg(long, value_name = "REVISION")]
    good: Option<String>,
    /// How sure to be, from 0.5 to 0.999
    #[arg(long, default_value_t = 0.95, value_parser = confidence)]
    confidence: f64,
    /// How many builds to ask for at the most
    #[arg(long, default_value_t = 200)]
    builds: u32,
    #[command(flatten)]
    farm: FarmArgs,
}

fn confidence(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.5..=0.999).contains(&value) { Ok(value) } else { Err("not from 0.5 to 0.999".to_owned()) }
}

/// Runs `farmer bisect`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let bad = build::get(&farm, args.number).await?;
    let good = match args.good {
        Some(good) => good,
        None => last_good(&farm, &bad, &args.test).await?,
    };
    let folder = std::env::current_dir().context("find the current folder")?;
    let commits = commits(&folder, &good, &bad.commit)?;
    let mut hunt = Hunt {
        farm: &farm,
        bad: &bad,
        test: &args.test,
        tried: vec![0; commits.len() + 1],
        commits,
        json: args.farm.json,
    };
    let mut search = Search::new(hunt.commits.len() - 1, args.confidence);
    // What the farm has seen already counts.
    search.record(hunt.commits.len() - 1, Seen::Failed);
    for _ in 0..args.builds {
        let Next::Try(commit) = search.next() else { break };
        if hunt.tried[commit] >= TRIES {
            break;
        }
        for seen in hunt.attempt(commit).await? {
            search.record(commit, seen);
        }
    }
    hunt.tell(&search)
}

/// The newest commit before a build at which the farm saw the test pass.
async fn last_good(farm: &Location, bad: &Build, test: &str) -> anyhow::Result<String> {
    let request = rpc::request(ExplainRequest { subject: Some(Subject::Build(bad.number)) });
    let answer = farm.why()?.explain(request).await.map_err(|status| output::refused(&status))?;
    let Some(Answer::Build(told)) = answer.into_inner().answer else {
        return Err(output::infrastructure("the farm answered nothing"));
    };
    let failure = told.failures.iter().find(|failure| failure.test == test).or(told.failures.first());
    match failure.map(|failure| failure.passed_commit.as_str()) {
        Some(commit) if !commit.is_empty() => Ok(commit.to_owned()),
        _ => Err(output::usage(format!(
            "the farm has not seen `{test}` pass before build {}: say where it passed with --good",
            bad.number
        ))),
    }
}

/// The commits after the good one up to the bad one, oldest first, with the good one before them.
fn commits(folder: &Path, good: &str, bad: &str) -> anyhow::Result<Vec<String>> {
    let range = format!("{good}..{bad}");
    let git = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = std::process::Command::new("git").arg("-C").arg(folder).args(arguments).output();
        let output = output.context("start git")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(output::usage(format!("git {}: {said}; fetch first", arguments.join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let first = git(&["rev-parse", "--verify", "--quiet", &format!("{good}^{{commit}}")])?;
    let listed = git(&["rev-list", "--first-parent", "--reverse", &range])?;
    let commits: Vec<String> = std::iter::once(first).chain(listed.lines().map(str::to_owned)).collect();
    match commits.len() {
        1 => Err(output::usage(format!("there is no commit in {range}"))),
        count if count > MOST => Err(output::usage(format!("{count} commits in {range} are too many"))),
        _ => Ok(commits),
    }
}

/// A search under way.
struct Hunt<'a> {
    farm: &'a Location,
    bad: &'a Build,
    test: &'a str,
    /// The good one, then those that may be the culprit.
    commits: Vec<String>,
    /// How often each was tried.
    tried: Vec<u32>,
    json: bool,
}

impl Hunt<'_> {
    /// Has the farm run the test at a commit, and says what it showed: a test that failed was run twice.
    async fn attempt(&mut self, commit: usize) -> anyhow::Result<Vec<Seen>> {
        self.tried[commit] += 1;
        let request = RequestBuildsRequest {
            repository: self.bad.repository.clone(),
            revision: self.commits[commit].clone(),
            builders: vec![self.bad.builder.clone()],
            request_id: runtime::new_id().to_string(),
            tests: vec![escaped(self.test)],
            repeat: self.tried[commit],
        };
        let answer = self.farm.builds()?.request_builds(rpc::request(request)).await;
        let seen = match answer {
            Ok(answer) => {
                let numbers = answer.into_inner().builds.iter().map(|build| build.number).collect::<Vec<_>>();
                progress::wait(self.farm, &numbers).await?;
                let number = numbers.first().context("the farm answered no build")?;
                seen(&build::get(self.farm, *number).await?)
            }
            // It has no such builder, or its configuration is wrong: nobody knows.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => vec![Seen::Hidden],
            Err(status) if status.code() == tonic::Code::NotFound => vec![Seen::Hidden],
            Err(status) => return Err(output::refused(&status)),
        };
        let mut words: Vec<&str> = seen.iter().map(|seen| word(*seen)).collect();
        if words.is_empty() {
            words.push("could not be run by the farm");
        }
        let short = build::short(&self.commits[commit]);
        output::line(if self.json {
            json!({ "commit": self.commits[commit], "seen": words }).to_string()
        } else {
            format!("{short}  {}", words.join(", then "))
        })?;
        Ok(seen)
    }

    fn tell(&self, search: &Search) -> anyhow::Result<ExitCode> {
        let runs = search.results();
        let (kind, range, sure) = match search.next() {
            Next::Found { first, last, confidence } => ("found", first..last + 1, confidence),
            Next::Before(sure) => ("before", 0..1, sure),
            Next::OnlyFlakes(sure) => ("only_flakes", 0..0, sure),
            Next::Try(_) => ("undecided", 0..0, 0.0),
        };
        let commits = &self.commits[range];
        if self.json {
            let told = json!({ "result": kind, "commits": commits, "confidence": sure, "runs": runs });
            output::line(told.to_string())?;
        } else {
            output::line(sentence(kind, commits, self.test, sure, runs))?;
        }
        Ok(if kind == "found" { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }
}

fn sentence(kind: &str, commits: &[String], test: &str, sure: f64, runs: usize) -> String {
    let sure = format!("{:.1} % sure after {runs} runs", sure * 100.0);
    match (kind, commits) {
        ("found", [one]) => format!("{one} broke `{test}`: {sure}"),
        ("found", [first, .., last]) => format!(
            "one of the {} commits from {first} to {last} broke `{test}`: {sure}; those before the last cannot be built",
            commits.len()
        ),
        ("before", _) => format!("`{test}` was broken before: {sure}; say an older commit with --good"),
        ("only_flakes", _) => format!("no commit broke `{test}`, it fails by chance: {sure}"),
        _ => format!("undecided after {runs} runs: try again with more --builds, or less --confidence"),
    }
}

/// What a build of one test shows: nothing if the farm could not do it.
fn seen(build: &Build) -> Vec<Seen> {
    if matches!(build.outcome(), Outcome::Infrastructure | Outcome::Cancelled | Outcome::Unspecified) {
        return Vec::new();
    }
    let Some(attempt) = build.attempts.last() else { return vec![Seen::Hidden] };
    let tested = attempt.shards.first().filter(|_| attempt.shards.len() == 1);
    let runs = attempt.steps.iter().filter(|step| step.phase() == Phase::Test && step.shard > 0);
    let of = |outcome: Outcome| match outcome {
        Outcome::Passed => Some(Seen::Passed),
        Outcome::Failed | Outcome::TimedOut => Some(Seen::Failed),
        _ => None,
    };
    let seen: Vec<Seen> = runs.filter_map(|step| of(step.outcome())).collect();
    if tested.is_none() || seen.is_empty() { vec![Seen::Hidden] } else { seen }
}

fn word(seen: Seen) -> &'static str {
    match seen {
        Seen::Passed => "passed",
        Seen::Failed => "failed",
        Seen::Hidden => "cannot be built",
    }
}

/// A name as a glob: what stands for any text stands for any one character.
fn escaped(test: &str) -> String {
    test.replace('*', "?")
}
