//! `/log/N.txt`: the bytes, streamed, with ranges, so that a download of any size can be taken up again.

use std::{ops::Range, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;

use crate::{
    source::{Source, SourceError},
    view::LogInfo,
};

const PIECE: u64 = 256 << 10;

/// Answers with the log, or the range of it that was asked for. Of a log that grows: what there is now.
pub(crate) fn respond(
    source: Arc<dyn Source>,
    log: &LogInfo,
    method: &Method,
    request: &HeaderMap,
) -> Response {
    let tag = format!("\"{}.{}.{}\"", log.build, log.attempt, log.bytes);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    set(&mut headers, header::ETAG, &tag);
    let named = |name: header::HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    if named(header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    // A range of something else would be glued to what the client has.
    let fits = named(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = named(header::RANGE).filter(|_| fits).and_then(|range| parse_range(range, log.bytes));
    let (status, range) = match range {
        None => (StatusCode::OK, 0..log.bytes),
        Some(Ok(range)) => {
            set(
                &mut headers,
                header::CONTENT_RANGE,
                &format!("bytes {}-{}/{}", range.start, range.end - 1, log.bytes),
            );
            (StatusCode::PARTIAL_CONTENT, range)
        }
        Some(Err(Unsatisfiable)) => {
            set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{}", log.bytes));
            return (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response();
        }
    };
    set(&mut headers, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    let body = if method == Method::HEAD { Body::empty() } else { body(source, log, range) };
    (status, headers, body).into_response()
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("made of digits, dots and ASCII punctuation"));
}

struct Unsatisfiable;

/// One range of bytes. Several at once, or another unit, are answered with all, as the standard allows.
fn parse_range(text: &str, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => length.saturating_sub(suffix.parse::<u64>().ok()?)..length,
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.is_empty() { Err(Unsatisfiable) } else { Ok(range) })
}

fn body(source: Arc<dyn Source>, log: &LogInfo, range: Range<u64>) -> Body {
    let (build, attempt) = (log.build, log.attempt);
    let pieces = stream::try_unfold(range, move |range| {
        let source = Arc::clone(&source);
        async move {
            if range.is_empty() {
                return Ok::<Option<(Bytes, Range<u64>)>, SourceError>(None);
            }
            let piece = source.bytes(build, attempt, range.start..range.end.min(range.start + PIECE)).await?;
            if piece.is_empty() {
                // Its length was promised: better cut the connection than end as if whole.
                return Err(SourceError::Unavailable("the log ends early".to_owned()));
            }
            let next = range.start + piece.len() as u64..range.end;
            Ok(Some((piece, next)))
        }
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let parsed = |text| parse_range(text, 100).map(Result::ok);
        assert_eq!(parsed("bytes=0-9"), Some(Some(0..10)));
        assert_eq!(parsed("bytes=90-"), Some(Some(90..100)));
        assert_eq!(parsed("bytes=-10"), Some(Some(90..100)));
        assert_eq!(parsed("bytes=-1000"), Some(Some(0..100)));
        assert_eq!(parsed("bytes=50-1000"), Some(Some(50..100)));
        assert_eq!(parsed("bytes=100-"), Some(None));
        assert_eq!(parsed("bytes=-0"), Some(None));
        assert_eq!(parsed("bytes=9-0"), None);
        assert_eq!(parsed("bytes=0-1,5-6"), None);
        assert_eq!(parsed("lines=0-1"), None);
    }
}
