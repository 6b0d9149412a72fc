//! Globs over names, branches and tests: `*` is any text, `?` any one character. Nothing else is special.

use std::{fmt, str::FromStr};

/// A pattern that matches whole names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob(String);

/// Not a glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pattern may not be empty")]
pub struct ParseGlobError;

impl Glob {
    /// Matches anything.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The list that matches anything.
    pub(crate) fn all() -> Vec<Self> {
        vec![Self::any()]
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        // Where the last `*` is, and how much text it has taken so far: going back to it is the only going back.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == '?' || c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == '*')
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Glob {
    type Err = ParseGlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err(ParseGlobError) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Glob>().unwrap().matches(text)
    }

    #[test]
    fn a_glob_matches_the_whole_name() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "x/tools"),
            ("linux-*", "linux-amd64"),
            ("*-race", "linux-amd64-race"),
            ("l?nux*64", "linux-amd64"),
            ("a*b*c", "aXbXbc"),
            ("[x]", "[x]"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("linux", "linux-amd64"), ("?", ""), ("a*b", "ab!"), ("[x]", "x")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!("".parse::<Glob>().is_err());
    }

    proptest! {
        #[test]
        fn what_a_star_replaces_is_matched(left in "[a-c?]{0,5}", middle in ".{0,9}", right in "[a-c]{0,5}") {
            let pattern = format!("{left}*{right}");
            let text = format!("{}{middle}{right}", left.replace('?', "z"));
            prop_assert!(matches(&pattern, &text));
        }
    }
}
