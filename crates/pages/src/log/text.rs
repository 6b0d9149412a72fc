//! A line of a log as people should see it: escape sequences gone, progress bars as they ended, never too long.

use std::borrow::Cow;

use crate::html::Markup;

/// More of one line is left to the raw log.
const MAX_LINE: usize = 4000;

/// The visible text of a line, and how many bytes of it were cut.
pub(crate) fn visible(line: &[u8]) -> (String, usize) {
    let cut = line.len().saturating_sub(MAX_LINE);
    let kept = &line[..line.len() - cut];
    let kept = kept.strip_suffix(b"\r").unwrap_or(kept);
    // A terminal would show what follows the last carriage return: the end of a progress bar.
    let kept = kept.iter().rposition(|byte| *byte == b'\r').map_or(kept, |at| &kept[at + 1..]);
    (without_escapes(&String::from_utf8_lossy(kept)).into_owned(), cut)
}

/// Text without terminal escape sequences: colours, titles, cursor moves.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '\u{1b}' {
            out.push(char);
            continue;
        }
        match chars.next() {
            // CSI: parameters, then one letter.
            Some('[') => while chars.next().is_some_and(|char| !('\u{40}'..='\u{7e}').contains(&char)) {},
            // OSC: up to BEL or ESC \.
            Some(']') => {
                while let Some(char) = chars.next() {
                    if char == '\u{7}' || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            // Others are two characters long.
            _ => {}
        }
    }
    Cow::Owned(out)
}

/// True for a line that tells of a failure, as common tools write it.
pub fn is_telling(line: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "--- FAIL",
        "FAIL",
        "panic:",
        "fatal:",
        "fatal error:",
        "error:",
        "error[",
        "Error:",
        "ERROR:",
        "not ok ",
        "make: ***",
        "npm ERR!",
        "thread '",
        "Traceback (most recent call last)",
        "AssertionError",
    ];
    let line = line.trim_start();
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        || line.ends_with("FAILED")
        || line.contains(": error: ")
}

/// Where a line's number leads, up to the number.
pub(crate) fn line_href(attempt: u32) -> String {
    format!("?attempt={attempt}&amp;line=")
}

/// Appends a line with its number, which is its permanent address.
pub(crate) fn draw_line(
    out: &mut Markup,
    href: &str,
    number: u64,
    line: &[u8],
    found: Option<&str>,
    hit: bool,
) {
    let (text, cut) = visible(line);
    out.raw("<span id=L").number(number);
    if hit {
        out.raw(" class=hit");
    } else if is_telling(&text) {
        out.raw(" class=bad");
    }
    out.raw("><a href=\"")
        .raw(href)
        .number(number)
        .raw("#L")
        .number(number)
        .raw("\">")
        .number(number)
        .raw("</a>");
    draw_text(out, &text, found);
    if cut > 0 {
        out.raw("<i> … ").number(cut as u64).raw(" bytes more: raw</i>");
    }
    out.raw("\n</span>");
}

fn draw_text(out: &mut Markup, text: &str, found: Option<&str>) {
    let Some(found) = found.filter(|found| !found.is_empty()) else {
        out.text(text);
        return;
    };
    let mut rest = text;
    while let Some(at) = position(rest, found) {
        let end = at + found.len();
        out.text(&rest[..at]).raw("<mark>").text(&rest[at..end]).raw("</mark>");
        rest = &rest[end..];
    }
    out.text(rest);
}

/// True if text is looked for in any case: when it is written in lower case.
pub(crate) fn any_case(found: &str) -> bool {
    !found.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn position(text: &str, found: &str) -> Option<usize> {
    if any_case(found) { text.to_ascii_lowercase().find(found) } else { text.find(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(line: &[u8], found: Option<&str>) -> String {
        let mut out = Markup::default();
        draw_line(&mut out, &line_href(1), 7, line, found, false);
        out.0
    }

    #[test]
    fn escape_sequences_are_not_text() {
        assert_eq!(
            visible(b"\x1b[31;1mred\x1b[0m \x1b]0;title\x07done\x1b]8;;x\x1b\\link\x1bM").0,
            "red donelink"
        );
        assert_eq!(visible(b"\x1b[").0, "");
    }

    #[test]
    fn a_progress_bar_is_shown_as_it_ended() {
        assert_eq!(visible(b" 10 %\r 50 %\r100 %\r").0, "100 %");
        assert_eq!(visible(b"plain\r").0, "plain");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let (text, cut) = visible(&vec![b'x'; 100_000]);
        assert_eq!((text.len(), cut), (4000, 96_000));
        assert!(drawn(&vec![b'x'; 5000], None).contains("1000 bytes more"));
    }

    #[test]
    fn what_is_no_utf8_is_shown_as_such() {
        assert_eq!(visible(b"a\xffb").0, "a\u{fffd}b");
    }

    #[test]
    fn a_hostile_line_stays_text() {
        assert_eq!(
            drawn(b"</pre><script>x</script>", None),
            "<span id=L7><a href=\"?attempt=1&amp;line=7#L7\">7</a>&lt;/pre&gt;&lt;script&gt;x&lt;/script&gt;\n</span>"
        );
    }

    #[test]
    fn found_text_is_marked_in_any_case_unless_it_was_asked_for_in_one() {
        assert!(drawn(b"one Two two", Some("two")).contains("one <mark>Two</mark> <mark>two</mark>\n"));
        assert!(drawn(b"one Two two", Some("Two")).contains("one <mark>Two</mark> two\n"));
        assert!(drawn(b"a<b", Some("<")).contains("a<mark>&lt;</mark>b"));
    }

    #[test]
    fn lines_that_tell_of_failure_are_known() {
        for line in
            ["--- FAIL: TestX (0.1s)", "error[E0308]: mismatched", "x.c:3: error: no", "test a ... FAILED"]
        {
            assert!(is_telling(line), "{line}");
        }
        for line in ["ok   net/http", "0 errors", "PASS", "failures are rare"] {
            assert!(!is_telling(line), "{line}");
        }
    }
}
