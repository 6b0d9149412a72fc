//! Text that looks like what people write about a program, cut from one long piece.

use super::random::Random;

const WORDS: &[&str] = &[
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "is",
    "it",
    "that",
    "for",
    "this",
    "with",
    "not",
    "on",
    "be",
    "as",
    "when",
    "runtime",
    "compiler",
    "test",
    "panic",
    "goroutine",
    "channel",
    "package",
    "module",
    "error",
    "build",
    "fails",
    "linux",
    "windows",
    "darwin",
    "commit",
    "nil",
    "pointer",
    "slice",
    "map",
    "interface",
    "method",
    "function",
    "should",
    "would",
    "could",
    "because",
    "however",
    "instead",
    "return",
    "value",
    "type",
    "generic",
    "memory",
    "garbage",
    "collector",
    "scheduler",
    "deadlock",
    "race",
    "detector",
    "timeout",
    "connection",
    "server",
    "client",
    "request",
    "response",
    "header",
    "handler",
    "context",
    "cancel",
    "proposal",
    "behavior",
    "documentation",
    "example",
    "version",
    "release",
    "regression",
    "benchmark",
    "allocation",
    "inlining",
    "escape",
    "analysis",
    "please",
    "thanks",
    "update",
    "revert",
    "cleanup",
    "refactor",
    "naïve",
    "größer",
    "日本語",
    "résumé",
];
/// The piece that all text is cut from.
const POOL: usize = 256 * 1024;

/// A source of text.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pool: String,
}

impl Text {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut pool = String::with_capacity(POOL + 256);
        while pool.len() < POOL {
            match random.below(60) {
                0 => pool.push_str("\n\n"),
                1 => pool.push_str(".\n"),
                2 => pool.push_str("`x := <-c` "),
                3 => pool.push_str("https://example.com/play/p/"),
                4 => pool.push_str("```\ngoroutine 1 [running]:\nmain.main()\n\t/tmp/x.go:12 +0x1d\n```\n"),
                _ => {
                    pool.push_str(WORDS[random.skewed(WORDS.len())]);
                    pool.push(' ');
                }
            }
        }
        Self { pool }
    }

    /// Some text of about so many bytes.
    pub(super) fn some(&self, random: &mut Random, bytes: usize) -> &str {
        let bytes = bytes.min(POOL / 2);
        let start = self.boundary(random.below(self.pool.len() - bytes));
        let end = self.boundary(start + bytes);
        &self.pool[start..end]
    }

    fn boundary(&self, at: usize) -> usize {
        self.pool.floor_char_boundary(at)
    }
}

/// One line of so many words.
pub(super) fn line(random: &mut Random, words: usize) -> String {
    (0..words).map(|_| *random.pick(WORDS)).collect::<Vec<_>>().join(" ")
}
