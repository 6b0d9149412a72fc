//! `/machine/NAME`: is it well, and if not, what is to be done? For whoever looks after it.

use askama::Template;
use axum::{
    extract::{Path, State as Extract},
    http::HeaderMap,
    response::Response,
};
use types::Timestamp;

use crate::{
    farm::MAX_ROWS,
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show,
    source::SourceError,
    view::{FaultShare, MachineHistory, MachineState, MachineView, SessionView},
    words,
};

/// The last part of an address: a name, and the format that it asks for.
pub(crate) fn parse_name<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
) -> (Result<T, SourceError>, Format) {
    let (name, format) = match text.strip_suffix(".json") {
        Some(name) => (name, Format::Json),
        None => (text, Format::Html),
    };
    (name.parse().map_err(|error| SourceError::NotFound(format!("{error}"))), format)
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (name, format) = parse_name(&name);
    let found = match name {
        Ok(name) => shared.source.machine(&name).await,
        Err(error) => Err(error),
    };
    match (found, format) {
        (Ok(history), Format::Json) => respond::json(&headers, &history),
        (Ok(history), _) => respond::html(&headers, &shared.options, &draw(&shared, &history)),
        (Err(error), format) => respond::error(&shared.options, format, &error),
    }
}

#[derive(Template)]
#[template(path = "machine.html")]
struct Document<'a> {
    history: &'a MachineHistory,
    machine: &'a MachineView,
    sessions: &'a [SessionView],
    title: String,
    now: Timestamp,
    /// What lately was not as it should be, in a sentence.
    record: String,
}

fn draw(shared: &Shared, history: &MachineHistory) -> Page {
    let now = shared.options.clock.now();
    let title = title(history);
    let template = Document {
        history,
        machine: &history.machine,
        sessions: &history.sessions,
        title: title.clone(),
        now,
        record: record(history),
    };
    Page {
        title,
        current: "/farm".to_owned(),
        body: Markup(render(&template)),
        icon: match history.machine.state {
            MachineState::Broken | MachineState::Quarantined | MachineState::Lost => Icon::Red,
            MachineState::Idle => Icon::Green,
            MachineState::Leased | MachineState::Cleaning | MachineState::Draining => Icon::Busy,
        },
        live: Some("/events?farm".to_owned()),
        ..Page::default()
    }
}

fn title(history: &MachineHistory) -> String {
    let machine = &history.machine;
    let name = &machine.name;
    match machine.state {
        MachineState::Idle => format!("{name} is well, and waits for work"),
        MachineState::Leased => format!("{name} works on {}", machine.works_on),
        MachineState::Cleaning => format!("{name} is cleaned after a build"),
        MachineState::Draining => format!("{name} ends what it does, and takes no more"),
        MachineState::Broken => format!("{name} is broken and takes no work"),
        MachineState::Quarantined => format!("{name} is in quarantine and takes no work"),
        MachineState::Lost => format!("{name} is not connected"),
    }
}

fn record(history: &MachineHistory) -> String {
    let own = match (history.share.leases, history.share.faulty) {
        (0, _) => return "It has not worked yet".to_owned(),
        (leases, 0) => format!("No fault in its last {}", words::count(leases, "lease")),
        (leases, faulty) => {
            format!("It failed {} of its last {}", words::grouped(faulty), words::count(leases, "lease"))
        }
    };
    let like: FaultShare = history.siblings.iter().fold(FaultShare::default(), |all, one| FaultShare {
        leases: all.leases + one.share.leases,
        faulty: all.faulty + one.share.faulty,
    });
    match like.leases {
        0 => own,
        _ => format!("{own}; others of its kind {}", share(like)),
    }
}

/// `2 of 250 (0.8 %)`.
fn share(share: FaultShare) -> String {
    let part = share.faulty as f64 * 100.0 / share.leases.max(1) as f64;
    match share.leases {
        0 => "none yet".to_owned(),
        leases => format!("{} of {} ({part:.1} %)", words::grouped(share.faulty), words::grouped(leases)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_first_sentence_says_whether_it_is_well() {
        let mut history = testing::machine_history();
        assert_eq!(title(&history), "linux-amd64-1 works on 48220.1");
        assert_eq!(
            record(&history),
            "It failed 1 of its last 12 leases; others of its kind 3 of 250 (1.2 %)"
        );
        history.machine.state = MachineState::Lost;
        assert_eq!(title(&history), "linux-amd64-1 is not connected");
        history.share = FaultShare::default();
        assert_eq!(record(&history), "It has not worked yet");
    }
}
