//! What a failure looks like, without what differs from run to run: failures of one cause mostly look alike.

use pages::view::LogLine;

/// How many lines make a signature.
const LINES: usize = 3;
/// How long it is at most, in characters.
const LONGEST: usize = 160;

/// The signature of a failure with these lines: of those that tell, else of the last that says something.
pub(super) fn signature(lines: &[LogLine]) -> String {
    let telling: Vec<&LogLine> = lines.iter().filter(|line| line.hit).take(LINES).collect();
    let last = lines.iter().rev().find(|line| !line.text.trim().is_empty());
    let chosen = if telling.is_empty() { last.into_iter().collect() } else { telling };
    let words: Vec<String> = chosen.into_iter().map(|line| plain(line.text.trim())).collect();
    words.join(" / ").chars().take(LONGEST).collect()
}

/// A line without numbers, addresses, times and temporary paths.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some(path) = rest.strip_prefix("/tmp/") {
            let end = path.find(|c: char| c.is_whitespace() || ":;,'\"`()".contains(c)).unwrap_or(path.len());
            out.push_str("/tmp/#");
            rest = &path[end..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        if end == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let word = &rest[..end];
        let is_hash = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        out.push_str(if first.is_ascii_digit() || is_hash { "#" } else { word });
        rest = &rest[end..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        for (line, told) in [
            ("--- FAIL: TestHTTP2 (0.02s)", "--- FAIL: TestHTTP2 (#.#)"),
            ("server_test.go:33: got 3, want 0x4f", "server_test.go:#: got #, want #"),
            ("open /tmp/TestX123/001/f: no such file", "open /tmp/#: no such file"),
            ("at deadbeef01 in ünïcode", "at # in ünïcode"),
        ] {
            assert_eq!(plain(line), told);
        }
    }

    #[test]
    fn the_lines_that_tell_are_taken_else_the_last() {
        let line = |text: &str, hit| LogLine { number: 1, text: text.to_owned(), hit };
        let told = [line("ok", false), line("--- FAIL: TestA", true), line("exit 1", false)];
        assert_eq!(signature(&told), "--- FAIL: TestA");
        assert_eq!(signature(&[line("first", false), line("boom 7", false), line(" ", false)]), "boom #");
        assert_eq!(signature(&[]), "");
    }
}
