//! `/events`: what changed, as server-sent events. Hints and small pieces of markup; a page that missed some reads its
//! own address again.
//!
//! Events: `cell` (a cell of the grid), `change` (read the page again), `log` (lines for the tail), `end` (nothing more
//! will come), `beat` (nothing happened, but the stream lives). Bounded: so many streams at once, and one that lags is
//! told to read again rather than queued for.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::{self, Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use types::{BuildNumber, RepositoryName};

use crate::{
    grid::rows,
    html::Markup,
    log::text,
    respond::{self, Format},
    router::Shared,
    source::{Source, SourceError},
    view::LiveEvent,
};

/// How many pages may be live at once.
pub(crate) const MAX_STREAMS: usize = 512;
/// The script takes a stream that is silent for three of these for lost.
const BEAT: Duration = Duration::from_secs(10);
/// A page that is told to read itself again is not told so again for this long.
const SETTLE: Duration = Duration::from_millis(500);
/// How much of a log one event carries.
const TAIL_BYTES: u64 = 128 << 10;

/// Which events are wanted.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    /// Cells and rows of this repository.
    grid: Option<RepositoryName>,
    /// Changes of this build.
    build: Option<u64>,
    /// The tail of this build's log,
    log: Option<u64>,
    /// of this attempt,
    attempt: Option<u32>,
    /// from this byte,
    byte: Option<u64>,
    /// which begins this line.
    line: Option<u64>,
    /// Changes of the farm.
    farm: Option<String>,
}

pub(crate) async fn stream(
    State(shared): State<Shared>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let error = SourceError::Unavailable(format!(
            "{MAX_STREAMS} pages are live already: reload to see what changed"
        ));
        let mut response = respond::error(&shared.options, Format::Text, &error);
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("30"));
        return response;
    };
    if params.grid.is_none() && params.build.is_none() && params.log.is_none() && params.farm.is_none() {
        return (StatusCode::BAD_REQUEST, "say what to hear of: grid, build, log or farm\n").into_response();
    }
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(parse_position);
    // Subscribe first: what happens while the tail is read is then heard, not missed.
    let receiver = shared.source.subscribe();
    let mut beat = time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let live = Live {
        source: Arc::clone(&shared.source),
        tail: params.log.map(|number| {
            let (byte, line) = resumed.unwrap_or((params.byte.unwrap_or(0), params.line.unwrap_or(1)));
            Tail {
                number: BuildNumber(number),
                attempt: params.attempt,
                byte,
                line,
                rest: String::new(),
                look: true,
            }
        }),
        params,
        receiver,
        beat,
        settled: None,
        greeted: false,
        shutdown: shared.options.shutdown.clone(),
        _permit: permit,
    };
    let events = stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    (
        [(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")],
        Sse::new(events),
    )
        .into_response()
}

fn parse_position(id: &str) -> Option<(u64, u64)> {
    let (byte, line) = id.split_once(':')?;
    Some((byte.parse().ok()?, line.parse().ok()?))
}

/// One live page.
struct Live {
    source: Arc<dyn Source>,
    params: Params,
    tail: Option<Tail>,
    receiver: broadcast::Receiver<LiveEvent>,
    beat: Interval,
    /// When a change that was held back is to be told.
    settled: Option<Instant>,
    greeted: bool,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// Where in a log a page is.
struct Tail {
    number: BuildNumber,
    attempt: Option<u32>,
    byte: u64,
    line: u64,
    /// The unended last line, as the page has it.
    rest: String,
    /// True if there may be more to read.
    look: bool,
}

impl Live {
    /// The next event; none once the farm stops.
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            self.greeted = true;
            return Some(Event::default().event("beat").data("1").retry(Duration::from_secs(2)));
        }
        loop {
            if let Some(tail) = &mut self.tail
                && let Some(event) = tail.read(&*self.source).await
            {
                return Some(event);
            }
            let settled = self.settled;
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                event = self.receiver.recv() => match event {
                    Ok(event) => if let Some(event) = self.hear(&event) { return Some(event) },
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        if let Some(tail) = &mut self.tail { tail.look = true }
                        return Some(change());
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = time::sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {
                    self.settled = None;
                    return Some(change());
                }
                _ = self.beat.tick() => return Some(Event::default().event("beat").data("1")),
            }
        }
    }

    fn hear(&mut self, event: &LiveEvent) -> Option<Event> {
        match event {
            LiveEvent::Cell { repository, commit, builder, cell }
                if self.params.grid.as_ref() == Some(repository) =>
            {
                // The verdict above the grid may be another one now.
                self.hold();
                let mut html = Markup::default();
                rows::draw_cell(&mut html, builder.as_str(), cell, false);
                let data = serde_json::json!({
                    "row": rows::anchor(*commit), "builder": builder.as_str(), "html": html.0,
                });
                return Some(Event::default().event("cell").data(data.to_string()));
            }
            LiveEvent::Rows { repository } if self.params.grid.as_ref() == Some(repository) => self.hold(),
            LiveEvent::Build { number } if [self.params.build, self.params.log].contains(&Some(number.0)) => {
                if let Some(tail) = &mut self.tail {
                    tail.look = true;
                }
                self.hold();
            }
            LiveEvent::Log { number, .. } => {
                if let Some(tail) = self.tail.as_mut().filter(|tail| tail.number == *number) {
                    tail.look = true;
                } else if self.params.build == Some(number.0) {
                    self.hold();
                }
            }
            LiveEvent::Farm if self.params.farm.is_some() => self.hold(),
            _ => {}
        }
        None
    }

    /// Tells of a change a little later, once for all that happen until then.
    fn hold(&mut self) {
        self.settled.get_or_insert_with(|| Instant::now() + SETTLE);
    }
}

/// Browsers drop events without data.
fn change() -> Event {
    Event::default().event("change").data("1")
}

impl Tail {
    /// What the log has beyond what the page has.
    async fn read(&mut self, source: &dyn Source) -> Option<Event> {
        if !std::mem::take(&mut self.look) {
            return None;
        }
        let log = source.log(self.number, self.attempt).await.ok()?;
        self.attempt = Some(log.attempt);
        let end = log.bytes.min(self.byte + TAIL_BYTES);
        let part = if self.byte < end {
            source.bytes(self.number, log.attempt, self.byte..end).await.ok()?
        } else {
            bytes::Bytes::new()
        };
        let read_all = self.byte + part.len() as u64 >= log.bytes;
        let done = log.finished && read_all;
        let mut whole = memchr::memrchr(b'\n', &part).map_or(0, |at| at + 1);
        if done || (whole == 0 && part.len() as u64 == TAIL_BYTES) {
            // Nothing will end this line, or it is longer than what an event carries.
            whole = part.len();
        }
        let mut html = Markup::default();
        let href = text::line_href(log.attempt);
        for line in part[..whole].strip_suffix(b"\n").unwrap_or(&part[..whole]).split(|byte| *byte == b'\n') {
            if whole == 0 {
                break;
            }
            text::draw_line(&mut html, &href, self.line, line, None, false);
            self.line += 1;
        }
        self.byte += whole as u64;
        self.look = !read_all && !part.is_empty();
        let rest = text::visible(&part[whole..]).0;
        if whole == 0 && rest == self.rest && !done {
            return None;
        }
        self.rest.clone_from(&rest);
        let data = serde_json::json!({ "html": html.0, "rest": rest, "byte": self.byte, "line": self.line, "done": done });
        let id = format!("{}:{}", self.byte, self.line);
        Some(Event::default().event("log").id(id).data(data.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeSource};

    async fn tail(source: &FakeSource, tail: &mut Tail) -> String {
        tail.look = true;
        tail.read(source).await.map(|event| format!("{event:?}")).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_tail_brings_whole_lines_once_and_the_unended_one_as_it_grows() {
        let source = FakeSource::new();
        let number = testing::failed_build().number;
        source.set_log(number, b"one\ntw".to_vec(), false);
        let mut at = Tail { number, attempt: None, byte: 0, line: 1, rest: String::new(), look: true };
        let first = tail(&source, &mut at).await;
        assert!(first.contains("L1") && first.contains("tw") && !first.contains("L2"), "{first}");
        assert_eq!((at.byte, at.line), (4, 2));
        assert_eq!(tail(&source, &mut at).await, "");
        source.append_log(number, b"o\nthree\n");
        let second = tail(&source, &mut at).await;
        assert!(second.contains("L2") && second.contains("two") && second.contains("L3"), "{second}");
        assert_eq!((at.byte, at.line), (14, 4));
        source.finish_log(number);
        assert!(tail(&source, &mut at).await.contains("done"));
    }

    #[test]
    fn a_position_reads_back() {
        assert_eq!(parse_position("14:4"), Some((14, 4)));
        assert_eq!(parse_position("x"), None);
    }
}
