//! Reads a window of a log: some lines around a place, never more than a bound, whatever the log's size.

use bytes::{Bytes, BytesMut};

use crate::{
    source::{Source, SourceError},
    view::{LogInfo, LogPosition},
};

/// How many lines a page has.
pub(crate) const LINES: u64 = 1000;
/// How many of them come before the line that was asked for.
const BEFORE: u64 = 200;
/// How many bytes a page reads.
const BYTES: u64 = 512 << 10;

/// Where to open a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the first line.
    Start,
    /// With this line in sight.
    Around(u64),
    /// At this line.
    From(u64),
    /// So that this is the last line.
    UpTo(u64),
    /// At the end.
    End,
}

/// Lines of a log.
pub(crate) struct Window {
    /// The number of the first one.
    pub first: u64,
    /// The lines without their line feeds.
    pub lines: Vec<Bytes>,
    /// Where the unended last line begins, or the end: where a live tail goes on.
    pub end: LogPosition,
    /// True if the last line has no line feed yet.
    pub open: bool,
    /// True if nothing comes after.
    pub at_end: bool,
}

impl Window {
    /// The number of the last line; less than the first if there is none.
    pub(crate) fn last(&self) -> u64 {
        (self.first + self.lines.len() as u64).saturating_sub(1)
    }
}

/// Reads the lines at a place.
pub(crate) async fn read(source: &dyn Source, log: &LogInfo, place: Place) -> Result<Window, SourceError> {
    let first = match place {
        Place::Start => 1,
        Place::Around(line) => line.min(log.lines).saturating_sub(BEFORE),
        Place::From(line) => line.min(log.lines),
        Place::UpTo(line) => line.min(log.lines).saturating_sub(LINES - 1),
        Place::End => log.lines.saturating_sub(LINES - 1),
    }
    .max(1);
    let mut begin = source.line_position(log.build, log.attempt, first).await?;
    // Long lines before it must not push the wanted one out.
    let wanted = match place {
        Place::Around(line) | Place::UpTo(line) => Some(line.min(log.lines).max(1)),
        Place::End => Some(log.lines.max(1)),
        Place::Start | Place::From(_) => None,
    };
    if let Some(wanted) = wanted {
        let wanted = source.line_position(log.build, log.attempt, wanted).await?;
        if wanted.byte.saturating_sub(begin.byte) > BYTES / 2 {
            begin = source.byte_position(log.build, log.attempt, wanted.byte - BYTES / 2).await?;
        }
        if wanted.byte.saturating_sub(begin.byte) > BYTES / 2 {
            begin = wanted;
        }
    }
    let text = read_bytes(source, log, begin.byte).await?;
    Ok(split(begin, &text, log))
}

async fn read_bytes(source: &dyn Source, log: &LogInfo, begin: u64) -> Result<Bytes, SourceError> {
    let end = (begin + BYTES).min(log.bytes);
    let mut text = BytesMut::new();
    while begin + (text.len() as u64) < end {
        let part = source.bytes(log.build, log.attempt, begin + text.len() as u64..end).await?;
        if part.is_empty() {
            break;
        }
        text.extend_from_slice(&part);
    }
    Ok(text.freeze())
}

fn split(begin: LogPosition, text: &Bytes, log: &LogInfo) -> Window {
    let mut lines = Vec::new();
    let mut at = 0;
    while lines.len() < LINES as usize {
        let Some(length) = memchr::memchr(b'\n', &text[at..]) else { break };
        lines.push(text.slice(at..at + length));
        at += length + 1;
    }
    let end = LogPosition { line: begin.line + lines.len() as u64, byte: begin.byte + at as u64 };
    let whole = begin.byte + text.len() as u64 >= log.bytes;
    let rest = text.slice(at..);
    let open = !rest.is_empty() && lines.len() < LINES as usize;
    if open {
        // The last line has not ended, or is longer than the window: it is shown as far as it goes.
        lines.push(rest);
    }
    Window { first: begin.line, open, at_end: whole && (open || at == text.len()), lines, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeSource};

    async fn window(text: String, place: Place) -> Window {
        let source = FakeSource::new();
        let build = testing::failed_build().number;
        source.set_log(build, text.into_bytes(), true);
        let log = crate::LogSource::log(&*source, build, None).await.unwrap();
        read(&*source, &log, place).await.unwrap()
    }

    #[tokio::test]
    async fn a_log_opens_at_any_place() {
        for (place, first, last) in [
            (Place::Start, 1, 1000),
            (Place::Around(5000), 4800, 5799),
            (Place::From(9500), 9500, 10_000),
            (Place::UpTo(3000), 2001, 3000),
            (Place::End, 9001, 10_000),
            (Place::Around(99_999), 9800, 10_000),
            (Place::Around(0), 1, 1000),
        ] {
            let window = window(testing::numbered_lines(10_000), place).await;
            assert_eq!((window.first, window.last()), (first, last), "{place:?}");
            assert_eq!(window.lines[0], format!("line {first}"), "{place:?}");
            assert_eq!(window.at_end, last == 10_000, "{place:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_log_has_no_lines() {
        let window = window(String::new(), Place::End).await;
        assert!(window.lines.is_empty() && window.at_end && !window.open);
    }

    #[tokio::test]
    async fn an_unended_line_is_shown_and_the_tail_goes_on_at_its_beginning() {
        let window = window("one\ntwo".to_owned(), Place::End).await;
        assert_eq!(window.lines, ["one", "two"]);
        assert!(window.open);
        assert_eq!(window.end, LogPosition { line: 2, byte: 4 });
    }

    #[tokio::test]
    async fn a_line_larger_than_the_window_hides_no_other() {
        let text = format!("first\n{}\nlast\n", "x".repeat(2 << 20));
        let around = window(text.clone(), Place::Around(3)).await;
        assert_eq!((around.first, around.last()), (3, 3));
        assert_eq!(around.lines, ["last"]);
        let start = window(text, Place::Start).await;
        assert_eq!(start.lines[0], "first");
        assert!(start.open && !start.at_end);
    }
}
