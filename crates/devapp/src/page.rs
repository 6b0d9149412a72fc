//! `/recent`, its data and its events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use futures_util::{Stream, stream};
use pages::{Icon, Markup, Options, Page};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use types::{Outcome, Timestamp};

use crate::{
    core::{Item, MAX_ITEMS, What},
    recent::Recent,
};

/// How many pages may be live at once.
const MAX_STREAMS: usize = 256;
/// The page's script takes a stream that is silent for three of these for lost.
const BEAT: Duration = Duration::from_secs(10);
/// A page is told to read itself again at most so often.
const SETTLE: Duration = Duration::from_millis(500);
/// What the first sentence is about.
const LATELY: Duration = Duration::from_hours(24);

#[derive(Clone)]
struct Shared {
    recent: Recent,
    options: Arc<Options>,
    streams: Arc<Semaphore>,
}

/// The pages of devapp, with the headers that every page of the farm has.
pub(crate) fn router(recent: Recent, options: Options) -> Router {
    let streams = Arc::new(Semaphore::new(MAX_STREAMS));
    let shared = Shared { recent, options: Arc::new(options), streams };
    let pages = Router::new()
        .route("/recent", get(page))
        .route("/recent.json", get(json))
        .route("/recent/events", get(events))
        .with_state(shared.clone());
    pages::harden(pages, &shared.options)
}

#[derive(Debug, Deserialize)]
struct Params {
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct View {
    /// False while the log is still being read.
    complete: bool,
    /// Newest first.
    items: Vec<Item>,
}

async fn json(State(shared): State<Shared>, Query(params): Query<Params>) -> Json<View> {
    let limit = params.limit.unwrap_or(MAX_ITEMS).min(MAX_ITEMS);
    Json(View { complete: shared.recent.is_caught_up(), items: shared.recent.newest(limit) })
}

async fn page(State(shared): State<Shared>) -> Response {
    let now = shared.options.clock.now();
    let items = shared.recent.newest(MAX_ITEMS);
    let lately = Lately::of(&items, now);
    let template = RecentPage {
        verdict: lately.verdict(),
        complete: shared.recent.is_caught_up(),
        rows: items.iter().map(|item| Row::of(item, now)).collect(),
    };
    match template.render() {
        Ok(body) => {
            let mut page = Page::new("Recent", "/recent", Markup(body));
            page.live = Some("/recent/events".into());
            page.icon = if lately.red > 0 { Icon::Red } else { Icon::Green };
            ([(header::CACHE_CONTROL, "no-cache")], Html(pages::shell(&shared.options, &page)))
                .into_response()
        }
        Err(error) => {
            tracing::error!("the page could not be drawn: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be drawn\n").into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "recent.html")]
struct RecentPage {
    verdict: String,
    complete: bool,
    rows: Vec<Row>,
}

/// An item as the template shows it.
struct Row {
    number: u64,
    when: Markup,
    repository: String,
    what: Shown,
}

enum Shown {
    Ref {
        name: String,
        commit: String,
        subject: String,
        author: String,
        note: String,
    },
    Gone {
        name: String,
    },
    Build {
        class: &'static str,
        outcome: String,
        build: u64,
        builder: String,
        commit: String,
        subject: String,
        note: String,
    },
}

impl Row {
    fn of(item: &Item, now: Timestamp) -> Self {
        let what = match &item.what {
            What::RefMoved { r#ref, commit, subject, author, new_commits } => Shown::Ref {
                name: short_ref(r#ref).to_owned(),
                commit: commit.short(),
                subject: subject.clone(),
                author: author.clone(),
                note: if *new_commits > 1 { format!("{new_commits} new commits") } else { String::new() },
            },
            What::RefDeleted { r#ref } => Shown::Gone { name: short_ref(r#ref).to_owned() },
            What::BuildEnded {
                build,
                builder,
                commit,
                subject,
                outcome,
                reason,
                duration_ms,
                is_try,
                ..
            } => Shown::Build {
                class: class(*outcome),
                outcome: outcome.as_str().replace('_', " "),
                build: *build,
                builder: builder.clone(),
                commit: commit.short(),
                subject: if *is_try { format!("try: {subject}") } else { subject.clone() },
                note: format!("{} {reason}", duration_ms.map(took).unwrap_or_default()).trim().to_owned(),
            },
        };
        Self { number: item.number, when: when(item.at, now), repository: item.repository.clone(), what }
    }
}

/// The letter that the farm's style sheet knows an outcome by.
fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "p",
        Outcome::Failed => "f",
        Outcome::TimedOut => "t",
        Outcome::Infrastructure => "i",
        Outcome::Skipped => "s",
        Outcome::Cancelled => "c",
    }
}

fn short_ref(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/")).unwrap_or(name)
}

fn took(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} m {} s", ms / 60_000, ms / 1000 % 60),
    }
}

/// The last day in numbers.
struct Lately {
    refs: usize,
    builds: usize,
    red: usize,
}

impl Lately {
    fn of(items: &[Item], now: Timestamp) -> Self {
        let mut lately = Self { refs: 0, builds: 0, red: 0 };
        for item in items.iter().filter(|item| now.since(item.at) <= LATELY) {
            match &item.what {
                What::BuildEnded { outcome, .. } => {
                    lately.builds += 1;
                    lately.red += usize::from(matches!(outcome, Outcome::Failed | Outcome::TimedOut));
                }
                What::RefMoved { .. } | What::RefDeleted { .. } => lately.refs += 1,
            }
        }
        lately
    }

    /// The page's answer in one sentence.
    fn verdict(&self) -> String {
        let Self { refs, builds, red } = self;
        if refs + builds == 0 {
            return "Nothing happened in the last day".into();
        }
        let failed = match (red, builds) {
            (_, 0) => String::new(),
            (0, _) => ", none of them red".into(),
            (red, _) => format!(", {red} of them red"),
        };
        // Older items of a busy day may be gone already.
        let at_least = if refs + builds == MAX_ITEMS { "At least " } else { "" };
        let refs = if *refs == 1 { "1 ref moved".into() } else { format!("{refs} refs moved") };
        let builds = if *builds == 1 { "1 build ended".into() } else { format!("{builds} builds ended") };
        format!("{at_least}{refs} and {builds} in the last day{failed}")
    }
}

/// A `time` element, which the page's script keeps current.
fn when(at: Timestamp, now: Timestamp) -> Markup {
    let time = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
    let seconds = now.since(at).as_secs();
    let ago = match seconds {
        0..60 => format!("{seconds} s ago"),
        60..5400 => format!("{} min ago", seconds / 60),
        5400..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    };
    let (machine, title) = (time.strftime("%Y-%m-%dT%H:%M:%SZ"), time.strftime("%Y-%m-%d %H:%M:%S UTC"));
    Markup(format!("<time datetime=\"{machine}\" title=\"{title}\">{ago}</time>"))
}

/// One live page.
struct Live {
    changes: watch::Receiver<u64>,
    shutdown: CancellationToken,
    greeted: bool,
    /// The next `change` comes no sooner.
    settled: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    async fn next(&mut self) -> Option<Event> {
        let beat = || Event::default().event("beat").data("1");
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(beat().retry(Duration::from_secs(2)));
        }
        let settled = self.settled;
        let changed = async {
            time::sleep_until(settled).await;
            self.changes.changed().await
        };
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            changed = changed => {
                changed.ok()?;
                self.settled = Instant::now() + SETTLE;
                Some(Event::default().event("change").data("1"))
            }
            () = time::sleep(BEAT) => Some(beat()),
        }
    }
}

async fn events(State(shared): State<Shared>) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let text = format!("{MAX_STREAMS} pages are live already: reload to see what changed\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], text).into_response();
    };
    let live = Live {
        changes: shared.recent.subscribe(),
        shutdown: shared.options.shutdown.clone(),
        greeted: false,
        settled: Instant::now(),
        _permit: permit,
    };
    let unbuffered = header::HeaderName::from_static("x-accel-buffering");
    ([(header::CACHE_CONTROL, "no-store"), (unbuffered, "no")], Sse::new(following(live))).into_response()
}

fn following(live: Live) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok(event), live))
    })
}
