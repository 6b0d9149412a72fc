//! `/logs`: the protocol by which programs written for Go's maintner follow a log.
//!
//! `GET /logs` lists the segments, and waits for news if asked to; `GET /logs/N` is the growing segment, of which a
//! follower fetches what it lacks by `Range`. Frozen segments lie at `/segments/NAME`, or where the operator put copies
//! of them: their URLs may be cached for ever. What is listed is durable.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use maintner::{
    Log,
    log::{Content, Published},
};
use serde::Serialize;
use tokio::{task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// The sum of the sizes that are listed.
const SUM: &str = "x-sum-segment-size";
/// A segment is read and sent in pieces of this size.
const PIECE: u64 = 256 * 1024;

/// How the log is shown.
#[derive(Debug, Clone)]
pub struct LogsConfig {
    /// How long a follower waits for news before it is told that there are none. Proxies must wait longer.
    pub long_poll: Duration,
    /// Where copies of frozen segments lie, by name, as in `https://cdn.example.com/log`; here, if not said.
    pub frozen_at: Option<String>,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { long_poll: Duration::from_secs(55), frozen_at: None }
    }
}

struct Shown {
    log: Log,
    config: LogsConfig,
    stop: CancellationToken,
}

/// Serves a log to followers until `stop`, which ends those that wait.
pub fn logs_router(log: Log, config: LogsConfig, stop: CancellationToken) -> Router {
    Router::new()
        .route("/logs", any(index))
        .route("/logs/{number}", any(segment))
        .route("/segments/{name}", any(frozen))
        .with_state(Arc::new(Shown { log, config, stop }))
}

/// One segment in the list. The order of the fields is that of the original.
#[derive(Debug, Serialize)]
struct Listed {
    number: u32,
    size: u64,
    sha224: String,
    url: String,
}

/// A request that is answered with 400 and these words.
struct Bad(&'static str);

impl IntoResponse for Bad {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (StatusCode::BAD_REQUEST, headers, format!("{}\n", self.0)).into_response()
    }
}

impl Shown {
    fn url_of_frozen(&self, segment: &Published) -> String {
        match &self.config.frozen_at {
            Some(base) => format!("{}/{}", base.trim_end_matches('/'), segment.name()),
            None => format!("/segments/{}", segment.name()),
        }
    }

    /// The segments from one on; from the first, if there is none of that number yet. An empty one is left out.
    fn list(&self, start: usize) -> Vec<Listed> {
        let listed = |segment: Published| Listed {
            number: segment.number,
            size: segment.bytes,
            url: if segment.frozen {
                self.url_of_frozen(&segment)
            } else {
                format!("/logs/{}", segment.number)
            },
            sha224: segment.sha224,
        };
        let segments = self.log.published();
        let start = if start < segments.len() { start } else { 0 };
        segments.into_iter().skip(start).filter(|segment| segment.bytes > 0).map(listed).collect()
    }

    /// Whether the size becomes another in time.
    async fn size_is_not(&self, size: u64) -> bool {
        let mut extent = self.log.subscribe();
        let changed = timeout(self.config.long_poll, extent.wait_for(|extent| extent.bytes != size));
        tokio::select! {
            () = self.stop.cancelled() => false,
            changed = changed => matches!(changed, Ok(Ok(_))),
        }
    }
}

fn must_read(method: &Method) -> Result<(), Bad> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { Err(Bad("bad method")) }
}

async fn index(
    State(shown): State<Arc<Shown>>,
    method: Method,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Bad> {
    must_read(&method)?;
    let parameter = |wanted: &str| {
        query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    // What is no number is as good as none, as with the original.
    let start: i64 = parameter("startseg").parse().unwrap_or(0);
    let start = usize::try_from(start).map_err(|_| Bad("bad startseg"))?;
    match parameter("waitsizenot") {
        "" => {}
        size => {
            let size: i64 = size.parse().map_err(|_| Bad("bad waitsizenot"))?;
            let size = u64::try_from(size).map_err(|_| Bad("bad waitsizenot"))?;
            if !shown.size_is_not(size).await {
                return Ok(StatusCode::NOT_MODIFIED.into_response());
            }
        }
    }
    let listed = shown.list(start);
    let sum: u64 = listed.iter().map(|segment| segment.size).sum();
    let mut body = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    listed
        .serialize(&mut serde_json::Serializer::with_formatter(&mut body, format))
        .map_err(|_| Bad("cannot list"))?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (headers, body).into_response();
    response.headers_mut().insert(SUM, sum.into());
    Ok(response)
}

async fn segment(
    State(shown): State<Arc<Shown>>,
    method: Method,
    Path(number): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Bad> {
    must_read(&method)?;
    let number: i64 = number.parse().map_err(|_| Bad("bad path"))?;
    let number = u32::try_from(number).map_err(|_| Bad("bad segment number"))?;
    let Some(content) = content(&shown, number).await? else { return Err(Bad("bad segment number")) };
    if content.segment.frozen {
        let location = shown.url_of_frozen(&content.segment);
        return Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response());
    }
    Ok(send(content, &headers, None))
}

async fn frozen(
    State(shown): State<Arc<Shown>>,
    method: Method,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Bad> {
    must_read(&method)?;
    let number = name.split('.').next().and_then(|number| number.parse().ok());
    let found = match number {
        Some(number) => content(&shown, number).await?,
        None => None,
    };
    match found.filter(|content| content.segment.frozen && content.segment.name() == name) {
        Some(content) => Ok(send(content, &headers, Some("public, max-age=31536000, immutable"))),
        None => Ok((StatusCode::NOT_FOUND, "there is no such segment\n").into_response()),
    }
}

async fn content(shown: &Shown, number: u32) -> Result<Option<Content>, Bad> {
    let log = shown.log.clone();
    let opened = spawn_blocking(move || log.content(number)).await;
    match opened {
        Ok(Ok(content)) => Ok(content),
        Ok(Err(error)) => {
            error!("segment {number} of the mutation log cannot be served: {:#}", anyhow::Error::new(error));
            Err(Bad("cannot read the segment"))
        }
        Err(_) => Err(Bad("going down")),
    }
}

/// The bytes, or the range of them that is asked for.
fn send(content: Content, headers: &HeaderMap, cache: Option<&'static str>) -> Response {
    let size = content.segment.bytes;
    // A condition on the range can be judged only of what never changes; without the range all is right too.
    let conditional = headers.contains_key(header::IF_RANGE);
    let asked = headers.get(header::RANGE).filter(|_| !conditional).and_then(|range| range.to_str().ok());
    let (status, first, end) = match asked.map_or(Wanted::All, |range| wanted(range, size)) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
        Wanted::Nothing => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, range, "invalid range\n").into_response();
        }
    };
    let mut response = Body::from_stream(pieces(content, first, end)).into_response();
    *response.status_mut() = status;
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::CONTENT_LENGTH, (end - first).into());
    out.extend(cache.map(|cache| (header::CACHE_CONTROL, HeaderValue::from_static(cache))));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::try_from(format!("bytes {first}-{}/{size}", end - 1))
    {
        out.insert(header::CONTENT_RANGE, range);
    }
    response
}

fn pieces(
    content: Content,
    first: u64,
    end: u64,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> {
    stream::try_unfold((content, first), move |(content, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let len = (end - at).min(PIECE);
        let reading = spawn_blocking(move || content.read(at, len as usize).map(|bytes| (bytes, content)));
        let (bytes, content) = reading.await.map_err(io::Error::other)??;
        Ok(Some((bytes, (content, at + len))))
    })
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part {
        first: u64,
        end: u64,
    },
    /// It lies beyond the end.
    Nothing,
}

/// Several ranges at once, and what is no range, are answered with all of it, as the standard allows.
fn wanted(range: &str, size: u64) -> Wanted {
    let Some(spec) = range.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let (first, last) = (first.trim(), last.trim());
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Wanted::All;
    }
    // What is too large to be a number is beyond any end.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    match (first, last) {
        ("", "") => Wanted::All,
        ("", suffix) => match number(suffix).min(size) {
            0 => Wanted::Nothing,
            len => Wanted::Part { first: size - len, end: size },
        },
        (first, last) => {
            let first = number(first);
            let end = if last.is_empty() { size } else { number(last).saturating_add(1).min(size) };
            if !last.is_empty() && number(last) < first {
                return Wanted::All;
            }
            if first >= size { Wanted::Nothing } else { Wanted::Part { first, end } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let part = |first, end| Wanted::Part { first, end };
        for (range, expected) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=5-", part(5, 100)),
            ("bytes=99-99", part(99, 100)),
            ("bytes=90-200", part(90, 100)),
            ("bytes=-30", part(70, 100)),
            ("bytes=-300", part(0, 100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=-", Wanted::All),
            ("bytes=9-5", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("bytes=+1-5", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes", Wanted::All),
        ] {
            assert_eq!(wanted(range, 100), expected, "{range}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }
}
