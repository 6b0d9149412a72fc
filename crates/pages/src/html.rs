//! Markup that is known to be safe, and the one place that makes text so.

use std::fmt;

/// HTML that needs no further escaping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup(pub String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::filters::HtmlSafe for Markup {}

impl Markup {
    /// Appends markup as it is. For constants and what [`Markup`] made.
    pub fn raw(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text, escaped for content and for double-quoted attributes alike.
    pub fn text(&mut self, text: &str) -> &mut Self {
        escape(&mut self.0, text);
        self
    }

    /// Appends a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        push_number(&mut self.0, number);
        self
    }
}

/// Appends a number without the formatting machinery, which is too slow for twenty thousand cells.
fn push_number(out: &mut String, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Appends text with what HTML would take for markup replaced. Control characters, which HTML forbids and which can
/// hide text, become visible replacements; so do the marks that reorder text around them.
pub(crate) fn escape(out: &mut String, text: &str) {
    let mut clean = 0;
    for (at, char) in text.char_indices() {
        let replacement = match char {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            '\t' | '\n' => continue,
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                "\u{fffd}"
            }
            _ => continue,
        };
        out.push_str(&text[clean..at]);
        out.push_str(replacement);
        clean = at + char.len_utf8();
    }
    out.push_str(&text[clean..]);
}

/// Text as markup.
pub fn escaped(text: &str) -> Markup {
    let mut out = Markup::default();
    out.text(text);
    out
}

/// Text for a query string or a path segment, per cent encoded.
pub(crate) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            escaped("</a><script>alert('x')</script> \"&\"").0,
            "&lt;/a&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &quot;&amp;&quot;"
        );
    }

    #[test]
    fn characters_that_hide_or_reorder_are_shown() {
        assert_eq!(escaped("a\u{202e}b\u{0}c\u{1b}[31m\td").0, "a\u{fffd}b\u{fffd}c\u{fffd}[31m\td");
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, 10, 48_213, u64::MAX] {
            let mut out = Markup::default();
            out.number(number);
            assert_eq!(out.0, number.to_string());
        }
    }

    #[test]
    fn what_goes_into_an_address_is_encoded() {
        assert_eq!(url_encode("author:b -race&x=ü"), "author%3Ab%20-race%26x%3D%C3%BC");
    }
}
