//! `/build/N`: what broke, and is it mine?

mod timeline;
mod verdict;

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Path, Query, State as Extract},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use types::{AttemptId, BuildNumber, Phase, Timestamp};

use self::timeline::MAX_STEPS;
pub(crate) use self::{
    timeline::{label, phase},
    verdict::tag,
};
use crate::{
    grid::rows::class,
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    source::SourceError,
    view::{BuildView, Elsewhere, Failure, LogLine, ShardView, SnapshotUse, State, StepView},
    words,
};

/// What the address of a build may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    /// Which attempt; the last if absent.
    pub attempt: Option<u32>,
}

/// The last part of `/build/48213.json`: a number and a format. `48213.2` is an attempt.
pub(crate) fn parse_id(id: &str) -> Result<(BuildNumber, Option<u32>, Format), SourceError> {
    let (name, format) = match id.rsplit_once('.') {
        Some((name, "json")) => (name, Format::Json),
        Some((name, "txt")) => (name, Format::Text),
        _ => (id, Format::Html),
    };
    if let Ok(attempt) = name.parse::<AttemptId>() {
        return Ok((attempt.build, Some(attempt.attempt), format));
    }
    let number = name.parse().map_err(|error| SourceError::NotFound(format!("{error}")))?;
    Ok((number, None, format))
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(id): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let (number, attempt, format) = match parse_id(&id) {
        Ok((_, _, Format::Text)) => return Redirect::permanent(&format!("/log/{id}")).into_response(),
        Ok(parsed) => parsed,
        Err(error) => return respond::error(&shared.options, Format::Html, &error),
    };
    match (shared.source.build(number, attempt.or(params.attempt)).await, format) {
        (Ok(build), Format::Json) => respond::json(&headers, &build),
        (Ok(build), _) => respond::html(&headers, &shared.options, &draw(&shared, &build)),
        (Err(error), format) => respond::error(&shared.options, format, &error),
    }
}

/// A line of log, or a gap between two.
pub(super) struct Line<'a> {
    gap: Option<u64>,
    line: &'a LogLine,
}

/// How many of each are shown; the JSON has all.
const MAX_FAILURES: usize = 10;
const MAX_SHARDS: usize = 200;
const MAX_LINES: usize = 40;

struct Facts {
    tag: String,
    class: &'static str,
    title: String,
    when: Markup,
}

#[derive(Template)]
#[template(path = "build.html")]
struct Document<'a> {
    build: &'a BuildView,
    facts: Facts,
    now: Timestamp,
    token: &'a str,
    timeline: Option<Markup>,
    log: String,
    query: String,
    more_failures: usize,
    elsewhere: Vec<(State, Vec<&'a Elsewhere>)>,
}

/// The lines of a failure, with the gaps between them.
fn lines(failure: &Failure) -> Vec<Line<'_>> {
    let mut last = None;
    let mut lines = Vec::new();
    for line in failure.lines.iter().take(MAX_LINES) {
        let gap = last.map(|last: u64| line.number.saturating_sub(last + 1)).filter(|gap| *gap > 0);
        last = Some(line.number);
        lines.push(Line { gap, line });
    }
    lines
}

impl Document<'_> {
    fn shard_took(&self, shard: &ShardView) -> String {
        shard.started.map(|started| show::took(started, shard.ended.as_ref(), self.now)).unwrap_or_default()
    }

    /// How long after the first step another began.
    fn offset(&self, step: &StepView) -> String {
        let begin = self.build.steps.iter().map(|step| step.started).min().unwrap_or(step.started);
        words::duration(step.started.since(begin))
    }

    fn snapshot(&self) -> Option<String> {
        let snapshot = self.build.snapshot.as_ref()?;
        let size = snapshot.bytes.map(|bytes| format!(", {}", words::bytes(bytes))).unwrap_or_default();
        Some(match snapshot.r#use {
            SnapshotUse::Made => format!("made here{size}"),
            SnapshotUse::Reused => format!("reused{size}"),
            SnapshotUse::None => "none".to_owned(),
        })
    }

    /// Each phase once, with what all steps of it took together.
    fn phases(&self) -> Vec<(&'static str, String)> {
        let mut sums: Vec<(Phase, Duration)> = Vec::new();
        for step in &self.build.steps {
            let took = step.ended.unwrap_or(self.now).since(step.started);
            match sums.iter_mut().find(|(phase, _)| *phase == step.phase) {
                Some((_, sum)) => *sum += took,
                None => sums.push((step.phase, took)),
            }
        }
        sums.into_iter().map(|(phase, sum)| (timeline::phase(phase), words::duration(sum))).collect()
    }
}

fn draw(shared: &Shared, build: &BuildView) -> Page {
    let now = shared.options.clock.now();
    let facts = Facts {
        tag: verdict::tag(build.state),
        class: class(build.state),
        title: verdict::title(build),
        when: verdict::when(build, now),
    };
    let icon = match build.state {
        state if state.is_active() => Icon::Busy,
        State::Passed | State::Flaky => Icon::Green,
        _ => Icon::Red,
    };
    let title = format!("{} {}", facts.tag, facts.title);
    let several = build.attempts.len() > 1;
    let query = if several { format!("?attempt={}", build.attempt) } else { String::new() };
    let template = Document {
        build,
        facts,
        now,
        token: &shared.options.form_token,
        timeline: timeline::draw(build, now),
        log: format!("/log/{}", build.number),
        query,
        more_failures: build.failures.len().saturating_sub(MAX_FAILURES),
        elsewhere: by_state(&build.elsewhere),
    };
    Page {
        title: format!("{title} · {}", build.number),
        current: String::new(),
        body: Markup(render(&template)),
        icon,
        live: Some(format!("/events?build={}", build.number)),
        ..Page::default()
    }
}

/// The same commit elsewhere, red first.
fn by_state(elsewhere: &[Elsewhere]) -> Vec<(State, Vec<&Elsewhere>)> {
    const ORDER: [State; 10] = [
        State::Failed,
        State::TimedOut,
        State::Infrastructure,
        State::Flaky,
        State::Running,
        State::Waiting,
        State::Passed,
        State::Cancelled,
        State::Skipped,
        State::NotBuilt,
    ];
    ORDER
        .into_iter()
        .map(|state| (state, elsewhere.iter().filter(|one| one.state == state).collect::<Vec<_>>()))
        .filter(|(_, builds)| !builds.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_build_an_attempt_and_a_format() {
        let parsed = |id| parse_id(id).ok();
        assert_eq!(parsed("48213"), Some((BuildNumber(48213), None, Format::Html)));
        assert_eq!(parsed("48213.2"), Some((BuildNumber(48213), Some(2), Format::Html)));
        assert_eq!(parsed("48213.2.json"), Some((BuildNumber(48213), Some(2), Format::Json)));
        assert_eq!(parsed("7.txt"), Some((BuildNumber(7), None, Format::Text)));
        assert!(matches!(parse_id("x"), Err(SourceError::NotFound(_))));
        assert!(matches!(parse_id("0"), Err(SourceError::NotFound(_))));
    }
}
