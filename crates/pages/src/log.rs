//! `/log/N`: the lines. Any size, since a page only ever has a window of them.

mod find;
mod raw;
pub(crate) mod text;
mod window;

use askama::Template;
use axum::{
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, Method},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, Serialize};
use types::BuildNumber;

use self::{
    find::Found,
    window::{Place, Window},
};
use crate::{
    build::parse_id,
    html::{Markup, url_encode},
    respond::{self, Format},
    router::Shared,
    shell::{Icon, Page, render},
    show::{self, Given},
    source::SourceError,
    view::{LogInfo, LogLine, LogSection, State},
    words,
};

/// What the address of a log may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    attempt: Option<u32>,
    /// Open with this line in sight.
    line: Option<u64>,
    /// Open at this line.
    from: Option<u64>,
    /// Open so that this is the last line.
    to: Option<u64>,
    /// Open at the end.
    end: Option<String>,
    /// Text to find.
    #[serde(default)]
    find: String,
    /// Look for it from this line on.
    after: Option<u64>,
}

impl Params {
    fn place(&self, log: &LogInfo, found: Option<&Found>) -> Place {
        let first_hit = found.and_then(|found| found.hits.first()).map(|hit| hit.line);
        match (self.line.or(first_hit), self.from, self.to) {
            (Some(line), _, _) => Place::Around(line),
            (_, Some(line), _) => Place::From(line),
            (_, _, Some(line)) => Place::UpTo(line),
            _ if self.end.is_some() || log.state.is_active() => Place::End,
            _ => match log.failure_line {
                Some(line) => Place::Around(line),
                None => Place::Start,
            },
        }
    }

    fn names_a_place(&self) -> bool {
        self.line.is_some()
            || self.from.is_some()
            || self.to.is_some()
            || self.end.is_some()
            || !self.find.is_empty()
    }
}

/// What a page shows.
struct Opened {
    log: LogInfo,
    window: Window,
    found: Option<Found>,
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Path(id): Path<String>,
    Query(params): Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let (number, attempt, format) = match parse_id(&id) {
        Ok(parsed) => parsed,
        Err(error) => return respond::error(&shared.options, Format::Html, &error),
    };
    let log = match shared.source.log(number, attempt.or(params.attempt)).await {
        Ok(log) => log,
        Err(error) => return respond::error(&shared.options, format, &error),
    };
    if format == Format::Text {
        return raw::respond(shared.source.clone(), &log, &method, &headers);
    }
    // Only an address with the line in it can make a browser without scripts scroll there.
    if let (Format::Html, Some(line), false, false) =
        (format, log.failure_line, params.names_a_place(), log.state.is_active())
    {
        let place = format!("/log/{number}?attempt={}&line={line}#L{line}", log.attempt);
        return Redirect::to(&place).into_response();
    }
    match (open(&shared, &params, log).await, format) {
        (Ok(opened), Format::Json) => respond::json(&headers, &Json::from(&opened)),
        (Ok(opened), _) => respond::html(&headers, &shared.options, &draw(&params, &opened)),
        (Err(error), format) => respond::error(&shared.options, format, &error),
    }
}

async fn open(shared: &Shared, params: &Params, log: LogInfo) -> Result<Opened, SourceError> {
    let source = &*shared.source;
    let found = match params.find.as_str() {
        "" => None,
        wanted => Some(find::find(source, &log, wanted, params.after.unwrap_or(1)).await?),
    };
    let window = window::read(source, &log, params.place(&log, found.as_ref())).await?;
    Ok(Opened { log, window, found })
}

#[derive(Serialize)]
struct Json<'a> {
    log: &'a LogInfo,
    first_line: u64,
    lines: Vec<LogLine>,
    found: Option<&'a Found>,
}

impl<'a> From<&'a Opened> for Json<'a> {
    fn from(opened: &'a Opened) -> Self {
        let lines = opened.window.lines.iter().zip(opened.window.first..).map(|(line, number)| {
            let (text, _) = text::visible(line);
            LogLine { number, hit: text::is_telling(&text), text }
        });
        Self {
            log: &opened.log,
            first_line: opened.window.first,
            lines: lines.collect(),
            found: opened.found.as_ref(),
        }
    }
}

/// A section as far as the window shows it.
struct Part<'a> {
    section: Option<&'a LogSection>,
    open: bool,
    lines: Markup,
    /// Where a live tail is added.
    tail: bool,
}

#[derive(Template)]
#[template(path = "log.html")]
struct Document<'a> {
    log: &'a LogInfo,
    parts: Vec<Part<'a>>,
    first: u64,
    last: u64,
    tag: String,
    find: &'a str,
    found: Option<&'a Found>,
    at_end: bool,
    more_sections: usize,
    rest: Option<(u64, String)>,
}

const MAX_SECTIONS: usize = 300;

impl Document<'_> {
    fn above(&self) -> u64 {
        self.first - 1
    }

    fn below(&self) -> String {
        words::count(self.log.lines.saturating_sub(self.last), "line")
    }

    fn in_sight(&self, section: &LogSection) -> bool {
        section.first_line <= self.last && section.first_line + section.lines > self.first
    }

    fn at(&self, what: &str) -> String {
        format!("/log/{}?attempt={}&{what}", self.log.build, self.log.attempt)
    }

    fn at_line(&self, line: impl Given<u64>) -> String {
        let line = line.given();
        self.at(&format!("line={line}#L{line}"))
    }

    fn find_more(&self, after: impl Given<u64>) -> String {
        let after = after.given();
        self.at(&format!("find={}&after={after}", url_encode(self.find)))
    }

    fn found_at(&self, line: impl Given<u64>) -> String {
        let line = line.given();
        self.at(&format!("find={}&line={line}#L{line}", url_encode(self.find)))
    }
}

fn draw(params: &Params, opened: &Opened) -> Page {
    let Opened { log, window, found } = opened;
    let live = live(log, window);
    let rest = (live.is_some() && window.open).then(|| {
        (window.end.line, window.lines.last().map(|line| text::visible(line).0).unwrap_or_default())
    });
    let template = Document {
        log,
        parts: parts(params, opened, rest.is_some()),
        first: window.first,
        last: window.last(),
        tag: crate::build::tag(log.state),
        find: &params.find,
        found: found.as_ref(),
        at_end: window.at_end,
        more_sections: log.sections.len().saturating_sub(MAX_SECTIONS),
        rest,
    };
    let icon = match log.state {
        state if state.is_active() => Icon::Busy,
        State::Passed | State::Flaky => Icon::Green,
        _ => Icon::Red,
    };
    Page {
        title: format!("Log of {} · {}", log.build, log.builder),
        current: String::new(),
        body: Markup(render(&template)),
        icon,
        live: live.or_else(|| (!log.finished).then(|| format!("/events?build={}", log.build))),
        ..Page::default()
    }
}

/// Where the tail of a log comes from, if the window reaches it.
fn live(log: &LogInfo, window: &Window) -> Option<String> {
    (window.at_end && !log.finished)
        .then(|| tail_address(log.build, log.attempt, window.end.byte, window.end.line))
}

pub(crate) fn tail_address(build: BuildNumber, attempt: u32, byte: u64, line: u64) -> String {
    format!("/events?log={build}&attempt={attempt}&byte={byte}&line={line}")
}

/// The lines of the window by section. Sections that passed are folded when something else is what people came for.
fn parts<'a>(params: &Params, opened: &'a Opened, without_last: bool) -> Vec<Part<'a>> {
    let Opened { log, window, .. } = opened;
    let wanted = params.line.or(log.failure_line.filter(|_| !params.names_a_place()));
    let href = text::line_href(log.attempt);
    let found = Some(params.find.as_str()).filter(|find| !find.is_empty());
    let shown = window.lines.len() - usize::from(without_last && window.open);
    let mut parts: Vec<Part<'a>> = Vec::new();
    for (line, number) in window.lines[..shown].iter().zip(window.first..) {
        let section = section_of(&log.sections, number);
        let same = parts
            .last()
            .is_some_and(|part| part.section.map(|one| one.first_line) == section.map(|one| one.first_line));
        if !same {
            let holds = |line: u64| {
                section.is_some_and(|one| (one.first_line..one.first_line + one.lines).contains(&line))
            };
            let open = section.is_none_or(|one| one.state != State::Passed)
                || wanted.is_none_or(holds)
                || found.is_some();
            parts.push(Part { section, open, lines: Markup::default(), tail: false });
        }
        let hit = params.line == Some(number) || (params.line.is_none() && log.failure_line == Some(number));
        if let Some(part) = parts.last_mut() {
            text::draw_line(&mut part.lines, &href, number, line, found, hit);
        }
    }
    if window.at_end && !log.finished {
        if parts.is_empty() {
            parts.push(Part {
                section: log.sections.last(),
                open: true,
                lines: Markup::default(),
                tail: false,
            });
        }
        if let Some(last) = parts.last_mut() {
            (last.tail, last.open) = (true, true);
        }
    }
    parts
}

fn section_of(sections: &[LogSection], line: u64) -> Option<&LogSection> {
    let after = sections.partition_point(|section| section.first_line <= line);
    sections[..after].iter().rev().find(|section| line < section.first_line + section.lines)
}
