//! Core modules decide and do nothing else: no runtime, transport, input or output, clock or randomness, and nothing
//! whose order differs from run to run. So the simulator can replay them from a seed.
//!
//! A core module is `crates/*/src/core.rs` or anything below `crates/*/src/core/`.

use std::collections::BTreeSet;

use super::{
    Problem,
    tokens::{Kind, Path, Tokens},
    tree::{File, Tree},
};

/// Crates that bring a runtime, a transport or randomness.
const CRATES: &[(&str, &str)] = &[
    ("tokio", "a runtime"),
    ("tokio_util", "a runtime"),
    ("tokio_stream", "a runtime"),
    ("tonic", "a transport"),
    ("hyper", "a transport"),
    ("axum", "a transport"),
    ("rpc", "a transport"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("fastrand", "randomness"),
];

/// Names that read a clock or give something random, wherever they come from.
const NAMES: &[(&str, &str)] = &[
    ("SystemTime", "a clock"),
    ("Instant", "a clock"),
    ("Clock", "a clock"),
    ("SharedClock", "a clock"),
    ("SystemClock", "a clock"),
    ("system_clock", "a clock"),
    ("Zoned", "a clock"),
    ("new_id", "randomness"),
    ("random_token", "randomness"),
    ("now_v7", "randomness"),
    ("new_v4", "randomness"),
    ("RandomState", "randomness"),
];

/// Modules of the standard library that reach outside.
const OUTSIDE: &[&str] = &["env", "fs", "net", "os", "process", "thread"];

/// Methods that walk a map or set in its own order.
const WALKS: &[&str] = &[
    "iter",
    "iter_mut",
    "keys",
    "values",
    "values_mut",
    "into_iter",
    "into_keys",
    "into_values",
    "drain",
    "retain",
    "extract_if",
    "union",
    "intersection",
    "difference",
    "symmetric_difference",
];

/// Types that hold one value: they are looked through.
const WRAPPERS: &[&str] = &["Arc", "Box", "Rc", "Option"];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &tree.crates {
        let files: Vec<(&File, Tokens)> = tree
            .sources()
            .filter(|(file, _)| file.package.as_deref() == Some(&package.name) && is_core(file))
            .map(|(file, tokens)| (file, tokens.without_tests()))
            .collect();
        // A field may be declared in one file and walked in another.
        let types = files.iter().fold(BTreeSet::from(["HashMap", "HashSet"].map(String::from)), aliases);
        let maps: BTreeSet<String> = files.iter().flat_map(|(_, tokens)| maps(tokens, &types)).collect();
        for (file, tokens) in &files {
            problems.extend(impure(file, tokens));
            problems.extend(walks(tokens, &maps).into_iter().map(|(line, name)| {
                let message = format!("core module walks `{name}`, a hash map or set: its order differs from run to run, use a BTreeMap or sort");
                Problem::new(&file.path, line, message)
            }));
        }
    }
    problems
}

fn is_core(file: &File) -> bool {
    (file.path.ends_with("/src/core.rs") || file.path.contains("/src/core/")) && !file.is_test()
}

fn impure(file: &File, tokens: &Tokens) -> Vec<Problem> {
    let mut problems = Vec::new();
    for path in tokens.resolved() {
        if let Some((name, what)) = impurity(&path) {
            problems.push(Problem::new(&file.path, path.line, format!("core module uses `{name}`: {what}")));
        }
    }
    for (at, token) in tokens.all.iter().enumerate() {
        if matches!(tokens.ident(at), Some("async" | "await")) {
            problems.push(Problem::new(
                &file.path,
                token.line,
                "core module is async: it must decide without waiting",
            ));
        }
    }
    problems
}

fn impurity(path: &Path) -> Option<(&'static str, &'static str)> {
    if let [std, module, ..] = &path.segments[..]
        && std == "std"
        && let Some(module) = OUTSIDE.iter().find(|outside| *outside == module)
    {
        return Some((module, "input or output"));
    }
    let whole = CRATES.iter().find(|(name, _)| path.segments[0] == *name);
    let part = || NAMES.iter().find(|(name, _)| path.segments.iter().any(|segment| segment == name));
    whole.or_else(part).copied()
}

/// Adds what a file calls a hash map or set: `type Index = HashMap<…>`.
fn aliases(mut types: BTreeSet<String>, (_, tokens): &(&File, Tokens)) -> BTreeSet<String> {
    for at in 0..tokens.all.len() {
        let Some(name) = tokens.ident(at + 1) else { continue };
        if tokens.ident(at) != Some("type") {
            continue;
        }
        let equals = (at..tokens.all.len()).find(|at| tokens.punct(*at, '=') || tokens.punct(*at, ';'));
        if equals.is_some_and(|equals| type_is(tokens, equals + 1, &types)) {
            types.insert(name.to_owned());
        }
    }
    types
}

/// The names of fields, parameters, variables and functions that hold or give a hash map or set.
fn maps(tokens: &Tokens, types: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for at in 0..tokens.all.len() {
        let Some(name) = tokens.ident(at) else { continue };
        let single_colon = tokens.punct(at + 1, ':') && !tokens.punct(at + 2, ':');
        let declared = single_colon && type_is(tokens, at + 2, types);
        let made = tokens.punct(at + 1, '=') && type_is(tokens, at + 2, types);
        let collected = tokens.punct(at + 1, '=') && collects(tokens, at + 2, types);
        if declared || made || collected || returns(tokens, at, types) {
            names.insert(name.to_owned());
        }
    }
    names
}

/// Whether `fn NAME(…) -> TYPE` gives one.
fn returns(tokens: &Tokens, name: usize, types: &BTreeSet<String>) -> bool {
    if name == 0 || tokens.ident(name - 1) != Some("fn") || !tokens.is(name + 1, &Kind::Open('(')) {
        return false;
    }
    let arrow = tokens.after_group(name + 1);
    tokens.punct(arrow, '-') && tokens.punct(arrow + 1, '>') && type_is(tokens, arrow + 2, types)
}

/// Whether the expression here ends in `.collect::<HashMap<…>>()`.
fn collects(tokens: &Tokens, start: usize, types: &BTreeSet<String>) -> bool {
    let end = (start..tokens.all.len()).find(|at| tokens.punct(*at, ';')).unwrap_or(start);
    (start..end).any(|at| tokens.ident(at) == Some("collect") && type_is(tokens, at + 4, types))
}

/// Whether the type or path at `at` is one of `types`, below references and wrappers.
fn type_is(tokens: &Tokens, mut at: usize, types: &BTreeSet<String>) -> bool {
    loop {
        match tokens.all.get(at).map(|token| &token.kind) {
            Some(Kind::Punct('&' | '<' | ':' | '\'')) => at += 1,
            Some(Kind::Ident(name)) if types.contains(name) => return true,
            Some(Kind::Ident(name)) => {
                let goes_on = tokens.punct(at + 1, ':') && tokens.punct(at + 2, ':');
                let lifetime = at > 0 && tokens.punct(at - 1, '\'');
                if !(goes_on || lifetime || name == "mut" || WRAPPERS.contains(&name.as_str())) {
                    return false;
                }
                at += 1;
            }
            _ => return false,
        }
    }
}

/// Where one of `maps` is walked.
fn walks(tokens: &Tokens, maps: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in 0..tokens.all.len() {
        let Some(name) = tokens.ident(at) else { continue };
        if name == "for" {
            found.extend(looped(tokens, at).filter(|(_, name)| maps.contains(name)));
        } else if maps.contains(name) {
            let mut after = at + 1;
            while matches!(tokens.all.get(after).map(|token| &token.kind), Some(Kind::Open('(' | '['))) {
                after = tokens.after_group(after);
            }
            let walks = tokens.punct(after, '.')
                && tokens.ident(after + 1).is_some_and(|method| WALKS.contains(&method));
            if walks {
                found.push((tokens.all[at].line, name.to_owned()));
            }
        }
    }
    found
}

/// The name that `for … in &self.NAME {` walks as a whole.
fn looped(tokens: &Tokens, at: usize) -> impl Iterator<Item = (usize, String)> {
    let start = (at..tokens.all.len()).find(|at| tokens.ident(*at) == Some("in"));
    let last = start.and_then(|start| {
        let end = (start..tokens.all.len()).find(|at| tokens.is(*at, &Kind::Open('{')))?;
        let name = tokens.ident(end - 1)?.to_owned();
        Some((tokens.all[end - 1].line, name))
    });
    last.into_iter()
}
