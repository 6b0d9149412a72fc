//! Fields of log lines and names of metrics have one spelling in the whole farm: each is listed in `docs/logging.md`.

use std::{collections::BTreeSet, fs};

use super::{
    Problem,
    tokens::{Kind, Tokens},
    tree::Tree,
};

const FILE: &str = "docs/logging.md";

const LOG_MACROS: &[&str] = &[
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
    "span",
];

/// Endings of the methods that make an instrument of a meter.
const INSTRUMENTS: &[&str] = &["_counter", "_gauge", "_histogram"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let text = fs::read_to_string(tree.root.join(FILE)).unwrap_or_default();
    // Whatever stands in backticks is listed.
    let listed: BTreeSet<&str> = text.split('`').skip(1).step_by(2).collect();
    let mut problems = Vec::new();
    for (file, tokens) in tree.sources().filter(|(file, _)| !file.is_test()) {
        for (line, what, name) in names(&tokens.without_tests()) {
            if !listed.contains(name.as_str()) {
                problems.push(Problem::new(
                    &file.path,
                    line,
                    format!("{what} `{name}` is not listed in {FILE}"),
                ));
            }
        }
    }
    problems
}

fn names(tokens: &Tokens) -> Vec<(usize, &'static str, String)> {
    let mut found = Vec::new();
    for at in 0..tokens.all.len() {
        let Some(name) = tokens.ident(at) else { continue };
        let line = tokens.all[at].line;
        if LOG_MACROS.contains(&name) && tokens.punct(at + 1, '!') && tokens.is(at + 2, &Kind::Open('(')) {
            found.extend(fields(tokens, at + 2).into_iter().map(|field| (line, "log field", field)));
        }
        let instrument =
            INSTRUMENTS.iter().any(|ending| name.ends_with(ending)) && at > 0 && tokens.punct(at - 1, '.');
        if let (true, Some(Kind::Literal(text))) =
            (instrument, tokens.all.get(at + 2).map(|token| &token.kind))
        {
            found.push((line, "metric", text.trim_matches('"').to_owned()));
        }
    }
    found
}

/// The names before `=` among the arguments that open at `open`.
fn fields(tokens: &Tokens, open: usize) -> Vec<String> {
    let end = tokens.after_group(open) - 1;
    let mut fields = Vec::new();
    let mut at = open;
    while at < end {
        if at == open || tokens.punct(at, ',') {
            let mut parts = Vec::new();
            let mut next = at + 1;
            while let Some(part) = tokens.ident(next) {
                parts.push(part);
                next += 1;
                if !tokens.punct(next, '.') {
                    break;
                }
                next += 1;
            }
            if !parts.is_empty() && tokens.punct(next, '=') && !tokens.punct(next + 1, '=') {
                fields.push(parts.join("."));
            }
            at += 1;
        } else if matches!(tokens.all[at].kind, Kind::Open(_)) {
            at = tokens.after_group(at);
        } else {
            at += 1;
        }
    }
    fields
}
