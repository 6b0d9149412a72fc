//! `/farm`: what is waited for, and what is wrong? The raw truth that operators quote.

use askama::Template;
use axum::{extract::State as Extract, http::HeaderMap, response::Response};
use types::Timestamp;

use crate::{
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    view::{FarmView, MachineState, SessionView, Severity},
    words,
};

pub(crate) async fn page(Extract(shared): Extract<Shared>, headers: HeaderMap) -> Response {
    match shared.source.farm().await {
        Ok(farm) => respond::html(&headers, &shared.options, &draw(&shared, &farm)),
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

pub(crate) async fn json(Extract(shared): Extract<Shared>, headers: HeaderMap) -> Response {
    match shared.source.farm().await {
        Ok(farm) => respond::json(&headers, &farm),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

/// Rows of each table beyond this many are left to the JSON.
pub(crate) const MAX_ROWS: usize = 200;

#[derive(Template)]
#[template(path = "farm.html")]
struct Document<'a> {
    farm: &'a FarmView,
    sessions: &'a [SessionView],
    title: String,
    facts: String,
    now: Timestamp,
    longest_ms: u64,
}

fn draw(shared: &Shared, farm: &FarmView) -> Page {
    let errors = farm.problems.iter().any(|problem| problem.severity == Severity::Error);
    let icon = match (errors, farm.leases.is_empty()) {
        (true, _) => Icon::Red,
        (false, true) => Icon::Green,
        (false, false) => Icon::Busy,
    };
    let title = title(farm);
    let now = shared.options.clock.now();
    let template = Document {
        farm,
        sessions: &farm.sessions,
        facts: facts(farm),
        now,
        longest_ms: farm.phases.iter().map(|phase| phase.p95_ms).max().unwrap_or(0),
        title: title.clone(),
    };
    Page {
        title,
        current: "/farm".to_owned(),
        body: Markup(render(&template)),
        icon,
        live: Some("/events?farm".to_owned()),
        ..Page::default()
    }
}

fn title(farm: &FarmView) -> String {
    let waits = match farm.queue_length {
        0 => "Nothing waits".to_owned(),
        1 => "1 build waits".to_owned(),
        many => format!("{} builds wait", words::grouped(many)),
    };
    match farm.problems.len() {
        0 => format!("{waits}, nothing is wrong"),
        1 => format!("{waits}, 1 thing is wrong"),
        many => format!("{waits}, {many} things are wrong"),
    }
}

fn facts(farm: &FarmView) -> String {
    let of = |states: &[MachineState]| {
        farm.machines.iter().filter(|one| states.contains(&one.state)).count() as u64
    };
    let machines = format!(
        "{}: {} busy, {} idle",
        words::count(farm.machines.len() as u64, "machine"),
        of(&[MachineState::Leased, MachineState::Cleaning]),
        of(&[MachineState::Idle])
    );
    let down = match of(&[MachineState::Broken, MachineState::Quarantined, MachineState::Lost]) {
        0 => String::new(),
        down => format!(", {down} broken or lost"),
    };
    format!("{machines}{down} · {} ended since the farm was made", words::count(farm.builds_ended, "build"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_farm_says_what_waits_and_what_is_wrong() {
        let mut farm = testing::farm();
        assert_eq!(title(&farm), "2 builds wait, 2 things are wrong");
        farm.queue_length = 0;
        farm.problems.clear();
        assert_eq!(title(&farm), "Nothing waits, nothing is wrong");
    }

    #[test]
    fn machines_are_counted_by_what_they_do() {
        assert_eq!(
            facts(&testing::farm()),
            "5 machines: 2 busy, 2 idle, 1 broken or lost · 48,212 builds ended since the farm was made"
        );
    }
}
