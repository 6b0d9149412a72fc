//! Rust source as tokens, so that a rule sees into macros and is not fooled by comments, strings or imports.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What a token is. Groups are flattened: an opening and a closing token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Ident(String),
    Punct(char),
    Literal(String),
    Open(char),
    Close(char),
}

/// A path as it is written, for example `time::Instant::now`.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// The index of the token after it.
    pub(super) end: usize,
}

/// The tokens of a file.
pub(super) struct Tokens {
    pub(super) all: Vec<Token>,
    /// By the name that an import gives: the path it stands for.
    imports: BTreeMap<String, Vec<String>>,
    imported: Vec<Path>,
}

impl Tokens {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let stream: TokenStream =
            text.parse().map_err(|error: proc_macro2::LexError| anyhow::anyhow!("{error}"))?;
        let mut all = Vec::new();
        flatten(stream, &mut all);
        Ok(Self::new(all))
    }

    fn new(all: Vec<Token>) -> Self {
        let imported = imports(&all);
        let mut imports = BTreeMap::new();
        for (name, path) in &imported {
            imports.insert(name.clone(), path.segments.clone());
        }
        Self { all, imports, imported: imported.into_iter().map(|(_, path)| path).collect() }
    }

    /// The tokens without what is only compiled for tests.
    pub(super) fn without_tests(&self) -> Self {
        let mut kept = Vec::new();
        let mut at = 0;
        while at < self.all.len() {
            if self.is_test_attribute(at) {
                at = self.end_of_item(at);
            } else {
                kept.push(self.all[at].clone());
                at += 1;
            }
        }
        Self::new(kept)
    }

    pub(super) fn ident(&self, at: usize) -> Option<&str> {
        match &self.all.get(at)?.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn is(&self, at: usize, kind: &Kind) -> bool {
        self.all.get(at).is_some_and(|token| token.kind == *kind)
    }

    pub(super) fn punct(&self, at: usize, punct: char) -> bool {
        self.is(at, &Kind::Punct(punct))
    }

    /// Whether there is a module of this name here.
    pub(super) fn declares(&self, module: &str) -> bool {
        (1..self.all.len()).any(|at| self.ident(at) == Some(module) && self.ident(at - 1) == Some("mod"))
    }

    /// The index after the group that opens at `at`.
    pub(super) fn after_group(&self, at: usize) -> usize {
        after_group(&self.all, at)
    }

    /// Every path in code, as written, without those of imports.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.all.len() {
            if self.ident(at) == Some("use") {
                at = self.all[at..]
                    .iter()
                    .position(|token| token.kind == Kind::Punct(';'))
                    .map_or(self.all.len(), |n| at + n);
            } else if self.ident(at).is_some() && !self.continues(at) {
                let path = self.path_at(at);
                at = path.end;
                paths.push(path);
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Every path in code and imports, each as far as imports tell what it stands for.
    pub(super) fn resolved(&self) -> Vec<Path> {
        let mut paths = self.imported.clone();
        for mut path in self.paths() {
            if let Some(full) = self.imports.get(&path.segments[0]) {
                path.segments.splice(..1, full.iter().cloned());
            }
            paths.push(path);
        }
        paths
    }

    /// Whether the identifier here belongs to what stands before it: a function's name, a field, a method, a longer path.
    fn continues(&self, at: usize) -> bool {
        let before = |n: usize, punct| at >= n && self.punct(at - n, punct);
        if before(1, ':') && before(2, ':') {
            return at >= 3 && matches!(self.all[at - 3].kind, Kind::Ident(_) | Kind::Punct('>'));
        }
        let defined = at > 0 && self.ident(at - 1) == Some("fn");
        defined || (before(1, '.') && !before(2, '.'))
    }

    fn path_at(&self, start: usize) -> Path {
        let mut segments = vec![self.ident(start).unwrap_or_default().to_owned()];
        let mut end = start + 1;
        while self.punct(end, ':') && self.punct(end + 1, ':') {
            let Some(next) = self.ident(end + 2) else { break };
            segments.push(next.to_owned());
            end += 3;
        }
        Path { segments, line: self.all[start].line, end }
    }

    /// `#[cfg(test)]`, or `#[cfg(all(test, …))]`.
    fn is_test_attribute(&self, at: usize) -> bool {
        let opens = self.punct(at, '#') && self.is(at + 1, &Kind::Open('['));
        if !opens || self.ident(at + 2) != Some("cfg") {
            return false;
        }
        self.ident(at + 4) == Some("test")
            || (self.ident(at + 4) == Some("all") && self.ident(at + 6) == Some("test"))
    }

    /// The index after the item that the attribute at `at` belongs to.
    fn end_of_item(&self, at: usize) -> usize {
        let mut at = self.after_group(at + 1);
        while at < self.all.len() {
            match &self.all[at].kind {
                Kind::Punct(';') => return at + 1,
                Kind::Open('{') => return self.after_group(at),
                Kind::Open(_) => at = self.after_group(at),
                _ => at += 1,
            }
        }
        at
    }
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |kind, line| into.push(Token { kind, line });
        match tree {
            TokenTree::Ident(ident) => push(Kind::Ident(ident.to_string()), line),
            TokenTree::Punct(punct) => push(Kind::Punct(punct.as_char()), line),
            TokenTree::Literal(literal) => push(Kind::Literal(literal.to_string()), line),
            TokenTree::Group(group) => {
                if is_doc(&group.stream()) {
                    into.pop(); // the `#` before it
                    continue;
                }
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::None => (' ', ' '),
                };
                push(Kind::Open(open), line);
                flatten(group.stream(), into);
                into.push(Token { kind: Kind::Close(close), line: group.span_close().start().line });
            }
        }
    }
}

/// Documentation comments arrive as `#[doc = "…"]`.
fn is_doc(stream: &TokenStream) -> bool {
    let mut trees = stream.clone().into_iter();
    let named = matches!(trees.next(), Some(TokenTree::Ident(name)) if name == "doc");
    named && matches!(trees.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == '=')
}

fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Every name that a `use` brings in, and its full path.
fn imports(tokens: &[Token]) -> Vec<(String, Path)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].kind == Kind::Ident("use".to_owned()) {
            use_tree(tokens, at + 1, &[], &mut found);
        }
    }
    found
}

/// Reads one tree of a `use`; gives the index after it.
fn use_tree(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<(String, Path)>) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    let mut name = None;
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Punct(':') => at += 1,
            Kind::Ident(word) if word == "as" => {
                if let Some(Kind::Ident(alias)) = tokens.get(at + 1).map(|token| &token.kind) {
                    name = Some(alias.clone());
                }
                at += 2;
            }
            Kind::Ident(word) if word == "self" && !prefix.is_empty() => at += 1,
            Kind::Ident(word) => {
                segments.push(word.clone());
                at += 1;
            }
            Kind::Open('{') => {
                let end = after_group(tokens, at);
                let mut inner = at + 1;
                while inner + 1 < end {
                    inner = use_tree(tokens, inner, &segments, found) + 1;
                }
                return end;
            }
            _ => break, // `,`, `;`, `}`, `*`
        }
    }
    let name = name.or_else(|| segments.last().cloned());
    if let (Some(name), true) = (name, at > start) {
        found.push((name, Path { segments, line: tokens[start].line, end: at }));
    }
    // A star is part of this tree, the separator is not.
    at + usize::from(tokens.get(at).is_some_and(|token| token.kind == Kind::Punct('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<String> {
        let paths = Tokens::parse(text).unwrap().resolved();
        paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn paths_are_resolved_through_imports() {
        let text = "use std::{time::{self, Duration as D, Instant}, fmt};
            fn f() { time::Instant::now(); D::from_secs(1); ::tokio::spawn(a.spawn); }";
        let all = resolved(text);
        for path in [
            "std::time",
            "std::time::Instant::now",
            "std::time::Duration::from_secs",
            "tokio::spawn",
            "std::fmt",
        ] {
            assert!(all.iter().any(|found| found == path), "{path} is not in {all:?}");
        }
        assert!(!all.iter().any(|found| found == "spawn"), "a field is no path: {all:?}");
    }

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let text = "/// tokio::spawn\nfn f() { g(\"tokio::spawn\") } // tokio::spawn
            #[cfg(test)] mod tests { fn f() { tokio::spawn(x) } } fn g() { after() }";
        let tokens = Tokens::parse(text).unwrap().without_tests();
        let all: Vec<_> = tokens.resolved().into_iter().map(|path| path.segments.join("::")).collect();
        assert!(!all.iter().any(|path| path == "tokio::spawn"), "{all:?}");
        assert!(all.iter().any(|path| path == "after"), "{all:?}");
    }
}
