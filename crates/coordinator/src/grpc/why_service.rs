//! `WhyService`.

use api::coordinator::{
    self as wire, ExplainRequest, ExplainResponse, explain_request::Subject, explain_response::Answer,
    why_service_server::WhyService,
};
use pages::{
    SourceError,
    view::{Standing, State, TestHistory, TestLine, TriedBuild, TryState, TryView},
};
use tonic::{Code, Request, Response, Status};
use types::{BuildNumber, Outcome, RepositoryName, Share};

use super::{convert, failed};
use crate::view::{Cause, Explained, PagesSource, Said, Tip};

/// How many builders of a test are answered.
const BUILDERS: usize = 50;
/// How many builders of a change.
const TRIED: usize = 100;
/// How many lines of a failure.
const LINES: usize = 20;

/// Says why.
#[derive(Clone)]
pub(crate) struct Why {
    pub(crate) source: PagesSource,
}

#[tonic::async_trait]
impl WhyService for Why {
    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let answer = match request.into_inner().subject {
            Some(Subject::Build(number)) => Answer::Build(self.build(BuildNumber(number)).await?),
            Some(Subject::Test(name)) => Answer::Test(self.test(&name).await?),
            Some(Subject::Change(name)) => Answer::Change(self.change(&name).await?),
            None => {
                return Err(rpc::status(
                    Code::InvalidArgument,
                    "NO_SUBJECT",
                    "name a build, a test or a change",
                ));
            }
        };
        Ok(Response::new(ExplainResponse { answer: Some(answer) }))
    }
}

impl Why {
    async fn build(&self, number: BuildNumber) -> Result<wire::BuildExplanation, Status> {
        let full = self.source.viewer.full(number, true).await.map_err(|error| failed(&error))?;
        let explained =
            self.source.explain(number).await.map_err(|error| unexplained("UNKNOWN_BUILD", &error))?;
        let build = wire::Build { attempts: Vec::new(), ..convert::full(&full) };
        let reproduce = reproduce(&build, &explained.failures);
        Ok(wire::BuildExplanation {
            reproduce,
            build: Some(build),
            failures: explained.failures.into_iter().map(failure).collect(),
            more_failures: explained.more as u32,
        })
    }

    async fn test(&self, name: &str) -> Result<wire::TestExplanation, Status> {
        let history = self.source.test_history(name).await;
        let mut history = history.map_err(|error| unexplained("UNKNOWN_TEST", &error))?;
        history.builders.sort_by_key(TestLine::standing);
        let last_failure = match last_failure(&history) {
            Some(number) => Some(self.of_test(number, name).await?),
            None => None,
        };
        Ok(wire::TestExplanation {
            test: name.to_owned(),
            builders: history.builders.iter().take(BUILDERS).map(standing).collect(),
            last_failure,
            page: format!("/test/{name}"),
        })
    }

    async fn change(&self, name: &wire::ChangeName) -> Result<wire::ChangeExplanation, Status> {
        let repository = match name.repository.as_str() {
            "" => None,
            text => Some(
                text.parse::<RepositoryName>()
                    .map_err(|error| rpc::status(Code::InvalidArgument, "NO_SUBJECT", error))?,
            ),
        };
        let view = self.source.change_view(name.number, repository.as_ref()).await;
        let view = view.map_err(|error| unexplained("UNKNOWN_CHANGE", &error))?;
        let newest = view.tries.first();
        let failed = newest.and_then(|newest| newest.builds.iter().find(|build| build.state.is_red()));
        let stuck = || {
            let faulty = |build: &&TriedBuild| build.state == State::Infrastructure;
            newest.and_then(|newest| newest.builds.iter().find(faulty))
        };
        let first_failure = match failed.or_else(stuck) {
            Some(build) => Some(self.build(build.number).await?),
            None => None,
        };
        Ok(wire::ChangeExplanation {
            page: format!("/change/{}?repo={}", view.number, view.repository),
            change: Some(wire::ChangeName { number: view.number, repository: view.repository.to_string() }),
            newest: newest.map(try_set),
            first_failure,
            review: view.review.clone(),
        })
    }

    /// The explanation of a build, of what failed with one test only.
    async fn of_test(&self, number: BuildNumber, test: &str) -> Result<wire::BuildExplanation, Status> {
        let mut told = self.build(number).await?;
        let of_it = |failure: &wire::FailureExplanation| failure.test == test;
        if told.failures.iter().any(of_it) {
            told.failures.retain(of_it);
            told.more_failures = 0;
        }
        Ok(told)
    }
}

/// The newest build in which a test failed, whatever became of it later.
fn last_failure(history: &TestHistory) -> Option<BuildNumber> {
    let runs = history.builders.iter().flat_map(|line| &line.runs);
    runs.filter(|run| run.state.is_red()).map(|run| run.build).max()
}

fn unexplained(reason: &'static str, error: &SourceError) -> Status {
    match error {
        SourceError::NotFound(_) => rpc::status(Code::NotFound, reason, error),
        SourceError::Invalid(_) => rpc::status(Code::InvalidArgument, "NO_SUBJECT", error),
        SourceError::Refused(_) | SourceError::Unavailable(_) => {
            rpc::status(Code::Unavailable, "STORE_UNAVAILABLE", error)
        }
    }
}

/// A command that does again what failed, where a person has the repository.
fn reproduce(build: &wire::Build, failures: &[Explained]) -> String {
    if build.ended.is_none() || failures.is_empty() {
        return String::new();
    }
    let tests: Vec<String> =
        failures.iter().filter_map(|told| told.failure.test.as_deref()).map(quoted).collect();
    let all_named = tests.len() == failures.len();
    let tests = if all_named { format!(" --tests {}", tests.join(" ")) } else { String::new() };
    let short = build.commit.get(..12).unwrap_or(&build.commit);
    // A try's commit is not in the repository of whoever asks; what was tried is.
    let checkout = if build.is_try { String::new() } else { format!("git checkout {short} && ") };
    format!("{checkout}farmer try --builder {}{tests}", quoted(&build.builder))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn failure(told: Explained) -> wire::FailureExplanation {
    let (at_tip, tip_build) = match told.tip {
        Tip::This => (wire::AtTip::This, 0),
        Tip::Is(Said::Passed, number) => (wire::AtTip::Passes, number.0),
        Tip::Is(Said::Failed, number) => (wire::AtTip::Fails, number.0),
        Tip::Unknown | Tip::Is(Said::Unclear, _) => (wire::AtTip::Unspecified, 0),
    };
    let cause = match told.cause {
        Cause::Commit => wire::Cause::Commit,
        Cause::OlderCommit => wire::Cause::OlderCommit,
        Cause::Flake => wire::Cause::Flake,
        Cause::Infrastructure => wire::Cause::Infrastructure,
        Cause::Unclear => wire::Cause::Unclear,
    };
    wire::FailureExplanation {
        name: told.failure.name,
        test: told.failure.test.unwrap_or_default(),
        shard: told.failure.shard.unwrap_or(0),
        outcome: convert::outcome(Some(told.outcome)),
        cause: cause.into(),
        text: told.text,
        machines: told.machines.iter().map(ToString::to_string).collect(),
        passed_build: told.passed.map_or(0, |(build, _)| build.0),
        passed_commit: told.passed.map(|(_, commit)| commit.to_string()).unwrap_or_default(),
        since_build: told.since.map_or(0, |since| since.0),
        at_tip: at_tip.into(),
        tip_build,
        flakes: told.rate.filter(|rate| rate.all > 0).map(rate),
        signature: told.signature,
        alike: told.alike.iter().map(|number| number.0).collect(),
        lines: told
            .failure
            .lines
            .into_iter()
            .take(LINES)
            .map(|line| wire::ToldLine { number: line.number, text: line.text, telling: line.hit })
            .collect(),
    }
}

fn try_set(view: &TryView) -> wire::TrySet {
    let state = match view.state {
        TryState::Running => wire::TryState::Running,
        TryState::Passed => wire::TryState::Passed,
        TryState::Failed => wire::TryState::Failed,
        TryState::Unfinished => wire::TryState::Unfinished,
        TryState::Superseded => wire::TryState::Superseded,
    };
    wire::TrySet {
        patch_set: view.patch_set,
        commit: view.commit.to_string(),
        state: state.into(),
        text: view.verdict(),
        begun: Some(rpc::timestamp(view.begun)),
        ended: view.ended.map(rpc::timestamp),
        builds: view.builds.iter().take(TRIED).map(tried_build).collect(),
        notes: view.notes.clone(),
    }
}

fn tried_build(build: &TriedBuild) -> wire::TriedBuild {
    let text = match &build.waiting {
        Some(waiting) => waiting.text.clone(),
        None => build.reason.clone(),
    };
    wire::TriedBuild {
        number: build.number.0,
        builder: build.builder.to_string(),
        outcome: convert::outcome(outcome(build.state)),
        text,
        at_base: convert::outcome(build.at_base.and_then(outcome)),
    }
}

/// How something ended that stands so; none if it has not.
fn outcome(state: State) -> Option<Outcome> {
    match state {
        State::Passed | State::Flaky => Some(Outcome::Passed),
        State::Failed => Some(Outcome::Failed),
        State::TimedOut => Some(Outcome::TimedOut),
        State::Infrastructure => Some(Outcome::Infrastructure),
        State::Skipped => Some(Outcome::Skipped),
        State::Cancelled => Some(Outcome::Cancelled),
        State::Waiting | State::Running | State::NotBuilt => None,
    }
}

fn rate(share: Share) -> wire::FlakeRate {
    let (low, high) = share.interval();
    wire::FlakeRate { flaked: share.of, commits: share.all, low, high }
}

fn standing(line: &TestLine) -> wire::TestStanding {
    let (passed, failed, _) = line.counts();
    let at = |number: BuildNumber| format!("build {number}");
    let (word, text) = match line.standing() {
        Standing::Fails => {
            let since = line.failing().last().map(|run| at(run.build)).unwrap_or_default();
            ("FAILS", format!("fails since {since}"))
        }
        Standing::MayFail => ("MAY_FAIL", "it or a neighbour in its shard failed lately".to_owned()),
        Standing::Flakes => {
            let last = line.flake().map(|flake| at(flake.failed.build)).unwrap_or_default();
            ("FLAKES", format!("passes, and failed and passed at one commit in {last}"))
        }
        Standing::Passes => ("PASSES", "passes".to_owned()),
    };
    wire::TestStanding {
        builder: line.builder.to_string(),
        repository: line.repository.to_string(),
        standing: word.to_owned(),
        text,
        passed,
        failed,
        flakes: Some(rate(line.flake_rate())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_reads_them() {
        assert_eq!(quoted("net/http"), "net/http");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
