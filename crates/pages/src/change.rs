//! `/change/N`: may I submit? The verdict of each patch set and builder, against its base, and what is still waited for.

use askama::Template;
use axum::{
    extract::{Path, Query, State as Extract},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use types::{RepositoryName, Timestamp};

use crate::{
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    source::SourceError,
    view::{ChangeView, TriedBuild, TryState, TryView},
};

/// What the address may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    /// Whose change of that number; needed only if two repositories have one.
    repo: Option<String>,
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(id): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let (id, format) = match id.strip_suffix(".json") {
        Some(id) => (id, Format::Json),
        None => (id.as_str(), Format::Html),
    };
    match (look(&shared, id, params).await, format) {
        (Ok(change), Format::Json) => respond::json(&headers, &change),
        (Ok(change), _) => respond::html(&headers, &shared.options, &draw(&shared, &change)),
        (Err(error), format) => respond::error(&shared.options, format, &error),
    }
}

async fn look(shared: &Shared, id: &str, params: Params) -> Result<ChangeView, SourceError> {
    let number =
        id.parse().map_err(|_| SourceError::NotFound(format!("`{id}` is not the number of a change")))?;
    let repository = match params.repo.as_deref().filter(|name| !name.is_empty()) {
        Some(text) => {
            Some(text.parse::<RepositoryName>().map_err(|error| SourceError::Invalid(error.to_string()))?)
        }
        None => None,
    };
    shared.source.change(number, repository.as_ref()).await
}

#[derive(Template)]
#[template(path = "change.html")]
struct Document<'a> {
    change: &'a ChangeView,
    title: String,
    now: Timestamp,
}

/// How a builder stood before the change.
fn at_base(build: &TriedBuild) -> Markup {
    let mut out = Markup::default();
    if let Some(state) = build.at_base {
        out.raw("<span class=\"glyph ").raw(show::class(state)).raw("\"></span> ").raw(state.word());
    }
    out
}

fn class(tried: &TryView) -> &'static str {
    show::class(tried.state.state())
}

fn draw(shared: &Shared, change: &ChangeView) -> Page {
    let title = title(change);
    let template = Document { change, title: title.clone(), now: shared.options.clock.now() };
    Page {
        title,
        body: Markup(render(&template)),
        icon: match change.tries.first().map(|tried| tried.state) {
            Some(TryState::Failed) => Icon::Red,
            Some(TryState::Running) => Icon::Busy,
            _ => Icon::Green,
        },
        live: Some("/events?farm".to_owned()),
        ..Page::default()
    }
}

fn title(change: &ChangeView) -> String {
    let verdict = change.tries.first().map(TryView::verdict);
    format!("{} · change {}", verdict.unwrap_or_else(|| "Nothing was tried".to_owned()), change.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing, view::State};

    #[test]
    fn the_first_sentence_says_whether_it_may_be_submitted() {
        let mut change = testing::change();
        assert_eq!(
            title(&change),
            "Patch set 3 is being tried: 1 of 3 builders to go, 1 failed · change 4711"
        );
        let newest = &mut change.tries[0];
        newest.state = TryState::Failed;
        newest.builds[2].state = State::Passed;
        assert_eq!(newest.verdict(), "Patch set 3 failed on 1 of 3 builders");
        newest.builds[1].at_base = Some(State::Failed);
        assert_eq!(newest.verdict(), "Patch set 3 failed on 1 of 3 builders, as at its base");
        newest.builds[1].state = State::Passed;
        newest.state = TryState::Passed;
        assert_eq!(newest.verdict(), "Patch set 3 passed on 3 builders");
        newest.state = TryState::Unfinished;
        assert_eq!(newest.verdict(), "Patch set 3 was not built to its end: this says nothing about it");
    }
}
