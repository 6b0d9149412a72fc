//! Finds text in a log on the server, a bounded piece at a time.

use std::time::Duration;

use bytes::BytesMut;
use memchr::memmem::Finder;
use serde::Serialize;
use tokio::time::Instant;

use super::text::{any_case, visible};
use crate::{
    source::{Source, SourceError},
    view::{LogInfo, LogPosition},
};

/// A line with the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hit {
    pub line: u64,
    pub text: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Found {
    pub hits: Vec<Hit>,
    /// The first line that was not looked at; absent if all were.
    pub next_line: Option<u64>,
}

/// How many hits one answer has.
const MAX_HITS: usize = 100;
const PIECE: u64 = 1 << 20;
/// How long one answer may take: nobody waits longer for a page.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A line is looked at so far, and no further.
const MAX_CARRY: usize = 1 << 20;

/// Looks for text from a line on.
pub(crate) async fn find(
    source: &dyn Source,
    log: &LogInfo,
    wanted: &str,
    from_line: u64,
) -> Result<Found, SourceError> {
    let deadline = Instant::now() + PATIENCE;
    let begin = source.line_position(log.build, log.attempt, from_line.max(1)).await?;
    let mut search = Search {
        wanted,
        finder: Finder::new(wanted),
        any_case: any_case(wanted),
        at: begin,
        hits: Vec::new(),
    };
    let mut carry = BytesMut::new();
    let mut byte = begin.byte;
    while byte < log.bytes {
        if search.hits.len() >= MAX_HITS || Instant::now() > deadline {
            return Ok(Found { hits: search.hits, next_line: Some(search.at.line) });
        }
        let part = source.bytes(log.build, log.attempt, byte..(byte + PIECE).min(log.bytes)).await?;
        if part.is_empty() {
            break;
        }
        byte += part.len() as u64;
        carry.extend_from_slice(&part);
        match memchr::memrchr(b'\n', &carry) {
            Some(end) => search.lines(&carry.split_to(end + 1)),
            None if carry.len() > MAX_CARRY => carry.truncate(MAX_CARRY),
            None => {}
        }
    }
    if !carry.is_empty() {
        carry.extend_from_slice(b"\n");
        search.lines(&carry);
    }
    let more = search.hits.len() > MAX_HITS;
    search.hits.truncate(MAX_HITS);
    let next_line = search.hits.last().filter(|_| more).map(|hit| hit.line + 1);
    Ok(Found { hits: search.hits, next_line })
}

struct Search<'a> {
    wanted: &'a str,
    finder: Finder<'a>,
    any_case: bool,
    at: LogPosition,
    hits: Vec<Hit>,
}

impl Search<'_> {
    /// Looks through whole lines: first for the bytes, which is fast, then at the lines where they are.
    fn lines(&mut self, text: &[u8]) {
        let lowered = self.any_case.then(|| text.to_ascii_lowercase());
        let searched = lowered.as_deref().unwrap_or(text);
        let mut counted = 0;
        let mut from = 0;
        while let Some(at) = self.finder.find(&searched[from..]).map(|at| at + from) {
            let begin = memchr::memrchr(b'\n', &text[..at]).map_or(0, |at| at + 1);
            let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |length| at + length);
            self.at.line += memchr::memchr_iter(b'\n', &text[counted..begin]).count() as u64;
            counted = begin;
            let (shown, _) = visible(&text[begin..end]);
            // What the escape sequences had is not what people see.
            let seen = if self.any_case {
                shown.to_ascii_lowercase().contains(self.wanted)
            } else {
                shown.contains(self.wanted)
            };
            if seen && self.hits.len() <= MAX_HITS {
                self.hits.push(Hit { line: self.at.line, text: shown });
            }
            from = (end + 1).min(text.len());
            if from == text.len() || self.hits.len() > MAX_HITS {
                break;
            }
        }
        self.at.line += memchr::memchr_iter(b'\n', &text[counted..]).count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeSource};

    async fn found(text: String, wanted: &str, from: u64) -> Found {
        let source = FakeSource::new();
        let build = testing::failed_build().number;
        source.set_log(build, text.into_bytes(), true);
        let log = crate::LogSource::log(&*source, build, None).await.unwrap();
        find(&*source, &log, wanted, from).await.unwrap()
    }

    #[tokio::test]
    async fn text_is_found_with_its_line() {
        let text = "alpha\nBeta beta\n\ngamma beta".to_owned();
        let lines = async |wanted: &str, from| -> Vec<u64> {
            found(text.clone(), wanted, from).await.hits.iter().map(|hit| hit.line).collect()
        };
        assert_eq!(lines("beta", 1).await, [2, 4]);
        assert_eq!(lines("Beta", 1).await, [2]);
        assert_eq!(lines("beta", 3).await, [4]);
        assert_eq!(lines("delta", 1).await, [] as [u64; 0]);
    }

    #[tokio::test]
    async fn lines_keep_their_numbers_over_many_pieces() {
        let text = testing::numbered_lines(300_000);
        let result = found(text, "line 299999", 1).await;
        assert_eq!(result.hits, [Hit { line: 299_999, text: "line 299999".to_owned() }]);
        assert_eq!(result.next_line, None);
    }

    #[tokio::test]
    async fn many_hits_are_cut_and_say_where_to_go_on() {
        let result = found("x\n".repeat(250), "x", 1).await;
        assert_eq!((result.hits.len(), result.next_line), (100, Some(101)));
        let rest = found("x\n".repeat(250), "x", 201).await;
        assert_eq!((rest.hits.len(), rest.next_line), (50, None));
    }

    #[tokio::test]
    async fn colours_are_not_found() {
        assert!(found("\u{1b}[31mred\u{1b}[0m\n".to_owned(), "[31", 1).await.hits.is_empty());
        assert_eq!(found("\u{1b}[31mred\u{1b}[0m\n".to_owned(), "red", 1).await.hits.len(), 1);
    }
}
