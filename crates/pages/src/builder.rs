//! `/builder/NAME`: is it healthy? What it built lately, and where the time went.

mod plot;

use askama::Template;
use axum::{
    extract::{Path, Query, State as Extract},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use types::{BuilderName, RepositoryName, Timestamp};

use crate::{
    html::Markup,
    machine::parse_name,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    source::SourceError,
    view::{BuilderHistory, BuilderRun, Severity, State},
    words,
};

/// What the address may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    /// Whose builder of that name; the first repository's that has one if absent.
    repo: Option<String>,
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(name): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let (name, format) = parse_name(&name);
    match (look(&shared, name, params).await, format) {
        (Ok(history), Format::Json) => respond::json(&headers, &history),
        (Ok(history), _) => respond::html(&headers, &shared.options, &draw(&shared, &history)),
        (Err(error), format) => respond::error(&shared.options, format, &error),
    }
}

async fn look(
    shared: &Shared,
    name: Result<BuilderName, SourceError>,
    params: Params,
) -> Result<BuilderHistory, SourceError> {
    let repository = match params.repo.as_deref().filter(|name| !name.is_empty()) {
        Some(text) => {
            Some(text.parse::<RepositoryName>().map_err(|error| SourceError::Invalid(error.to_string()))?)
        }
        None => None,
    };
    shared.source.builder(&name?, repository.as_ref()).await
}

#[derive(Template)]
#[template(path = "builder.html")]
struct Document<'a> {
    history: &'a BuilderHistory,
    title: String,
    facts: String,
    plot: Option<Markup>,
    now: Timestamp,
}

fn draw(shared: &Shared, history: &BuilderHistory) -> Page {
    let now = shared.options.clock.now();
    let (severity, title) = title(history);
    let template = Document {
        history,
        title: title.clone(),
        facts: facts(history),
        plot: plot::draw(&history.builds),
        now,
    };
    let busy = history.builds.iter().any(|run| run.state.is_active());
    Page {
        title,
        current: "/builders".to_owned(),
        body: Markup(render(&template)),
        icon: match (severity, busy) {
            (Some(_), _) => Icon::Red,
            (None, true) => Icon::Busy,
            (None, false) => Icon::Green,
        },
        live: Some("/events?farm".to_owned()),
        ..Page::default()
    }
}

/// Builds that say something of their commits, the newest first.
fn verdicts(history: &BuilderHistory) -> impl Iterator<Item = &BuilderRun> {
    history.builds.iter().filter(|run| run.state.is_verdict())
}

fn title(history: &BuilderHistory) -> (Option<Severity>, String) {
    let name = &history.name;
    let red: Vec<&BuilderRun> = verdicts(history).take_while(|run| run.state.is_red()).collect();
    if let Some(oldest) = red.last() {
        let all = red.len() == verdicts(history).count();
        let since = if all { "for at least" } else { "for" };
        let subject = &oldest.commit.subject;
        let text =
            format!("{name} is red {since} {}, since “{subject}”", words::count(red.len() as u64, "commit"));
        return (Some(Severity::Error), text);
    }
    let green = verdicts(history).take_while(|run| !run.state.is_red()).count() as u64;
    match green {
        0 => (None, format!("{name} has no results yet")),
        1 => (None, format!("{name} is green")),
        green => (None, format!("{name} is green, {} in a row", words::count(green, "result"))),
    }
}

fn facts(history: &BuilderHistory) -> String {
    let mut parts = vec![match history.queue_length {
        0 => "nothing of it waits".to_owned(),
        1 => "1 build waits".to_owned(),
        many => format!("{} builds wait", words::grouped(many)),
    }];
    let mut took: Vec<u64> = verdicts(history).map(plot::total_ms).filter(|ms| *ms > 0).collect();
    took.sort_unstable();
    if let Some(median) = took.get(took.len() / 2) {
        parts.push(format!("half of its builds took no longer than {}", words::duration_ms(*median)));
    }
    let faults = history.builds.iter().filter(|run| run.state == State::Infrastructure).count() as u64;
    if faults > 0 {
        parts.push(format!("{} of the last {} ended by the farm's fault", faults, history.builds.len()));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_sentence_says_whether_it_is_green() {
        let mut history = testing::builder_history();
        assert_eq!(
            title(&history).1,
            "linux-s390x is red for 3 commits, since “os: resolve a relative root beneath the directory handle”"
        );
        history.builds.retain(|run| !run.state.is_red());
        assert_eq!(title(&history).1, "linux-s390x is green, 19 results in a row");
        history.builds.clear();
        assert_eq!(title(&history).1, "linux-s390x has no results yet");
    }

    #[test]
    fn what_waits_and_how_long_builds_take_is_said() {
        assert_eq!(
            facts(&testing::builder_history()),
            "1 build waits · half of its builds took no longer than 3 m 55 s · 1 of the last 24 ended by the farm's fault"
        );
    }
}
