//! Who may use whom: crates in layers, and which crate calls and serves which gRPC service. Every edge is in
//! `docs/graph.txt`, so that a new one is a line of the review.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::Context;
use cargo_metadata::DependencyKind;

use super::{
    Problem,
    tokens::{Kind, Tokens},
    tree::Tree,
};

const FILE: &str = "docs/graph.txt";

const HEAD: &str = "\
# Which crate depends on which, and which calls and serves which gRPC service.
# `cargo xtask tidy` fails on an edge that is not here; `cargo xtask tidy --write-graph` writes this file.
";

/// The layers, lowest first. A crate may depend on lower layers, and within its layer on those before it; services
/// never on each other: they talk through `api`.
const LAYERS: &[(&str, &[&str])] = &[
    ("vocabulary", &["types"]),
    ("contracts", &["api"]),
    ("floor", &["runtime", "rpc"]),
    ("libraries", &["store", "buildspec", "buildlet-client", "github", "maintner", "pages"]),
    (SERVICES, &["buildlet", "coordinator", "devapp", "gitmirror", "gopherbot", "maintnerd", "pubsubhelper"]),
    ("program", &["farmer"]),
    ("tests and tools", &["testkit", "sim", "farm-tests", "xtask"]),
];

const SERVICES: &str = "services";

/// What tests may use although it lies above.
const FOR_TESTS: &[&str] = &["testkit"];

/// An edge of one of the graphs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    section: &'static str,
    from: String,
    to: String,
}

const CRATES: &str = "crates";
const TESTS: &str = "crates, for tests only";
const CALLS: &str = "calls";
const SERVES: &str = "serves";

pub(super) fn write(tree: &Tree) -> anyhow::Result<()> {
    let mut lines = vec![HEAD.to_owned()];
    let edges = edges(tree);
    for section in [CRATES, TESTS, CALLS, SERVES] {
        lines.push(format!("\n[{section}]\n"));
        let of_section = edges.iter().filter(|edge| edge.section == section);
        lines.extend(of_section.map(|edge| format!("{} -> {}\n", edge.from, edge.to)));
    }
    let path = tree.root.join(FILE);
    fs::create_dir_all(tree.root.join("docs")).context("make `docs`")?;
    fs::write(&path, lines.concat()).with_context(|| format!("write `{}`", path.display()))
}

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let found = edges(tree);
    let mut problems = layers(tree, &found);
    let text = fs::read_to_string(tree.root.join(FILE)).with_context(|| format!("read `{FILE}`"))?;
    let reviewed = read(&text);
    for edge in found.iter().filter(|edge| !reviewed.contains_key(edge)) {
        let message = format!(
            "`{} -> {}` is not in [{}]: if it is meant, run `cargo xtask tidy --write-graph`",
            edge.from, edge.to, edge.section
        );
        problems.push(Problem::new(FILE, 0, message));
    }
    for (edge, line) in reviewed.iter().filter(|(edge, _)| !found.contains(edge)) {
        let message = format!("`{} -> {}` is gone: run `cargo xtask tidy --write-graph`", edge.from, edge.to);
        problems.push(Problem::new(FILE, *line, message));
    }
    Ok(problems)
}

fn read(text: &str) -> BTreeMap<Edge, usize> {
    let mut section = "";
    let mut edges = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = [CRATES, TESTS, CALLS, SERVES].into_iter().find(|known| *known == name).unwrap_or("");
        } else if let Some((from, to)) = line.split_once(" -> ") {
            edges.insert(Edge { section, from: from.to_owned(), to: to.to_owned() }, index + 1);
        }
    }
    edges
}

fn edges(tree: &Tree) -> BTreeSet<Edge> {
    let mut edges = crate_edges(tree);
    let services = services(tree);
    for (file, tokens) in tree.sources().filter(|(file, _)| !file.is_test()) {
        let Some(from) = &file.package else { continue };
        for name in modules(&tokens.without_tests()) {
            let Some(to) = services.get(&name) else { continue };
            let section = if name.ends_with("_client") { CALLS } else { SERVES };
            edges.insert(Edge { section, from: from.clone(), to: to.clone() });
        }
    }
    edges
}

fn crate_edges(tree: &Tree) -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    let members: BTreeSet<String> = tree.crates.iter().map(|package| package.name.clone()).collect();
    for package in tree.metadata.workspace_packages() {
        for dependency in &package.dependencies {
            if members.contains(&dependency.name) {
                let section = if dependency.kind == DependencyKind::Development { TESTS } else { CRATES };
                edges.insert(Edge { section, from: package.name.to_string(), to: dependency.name.clone() });
            }
        }
    }
    edges
}

/// By the generated module's name (`build_service_client`): the service's full name (`farmer.coordinator.v1.BuildService`).
fn services(tree: &Tree) -> BTreeMap<String, String> {
    let mut services = BTreeMap::new();
    for file in tree.files_of("api").filter(|file| file.is_generated()) {
        let package = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(tokens) = &file.tokens else { continue };
        for name in modules(tokens).into_iter().filter(|name| tokens.declares(name)) {
            let stem = name.trim_end_matches("_client").trim_end_matches("_server");
            services.insert(name.clone(), format!("{package}.{}", camel(stem)));
        }
    }
    services
}

/// The names of generated client and server modules that are mentioned.
fn modules(tokens: &Tokens) -> BTreeSet<String> {
    let words = tokens.all.iter().filter_map(|token| match &token.kind {
        Kind::Ident(word) => Some(word),
        _ => None,
    });
    words.filter(|word| word.ends_with("_client") || word.ends_with("_server")).cloned().collect()
}

fn camel(snake: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    snake.split('_').filter(|word| !word.is_empty()).map(capital).collect()
}

fn layers(tree: &Tree, edges: &BTreeSet<Edge>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in &tree.crates {
        if place(&package.name).is_none() {
            let message = format!(
                "crate `{}` is in no layer: give it a place in crates/xtask/src/tidy/graph.rs",
                package.name
            );
            problems.push(Problem::new(package.manifest_path(), 0, message));
        }
    }
    for edge in edges.iter().filter(|edge| edge.section == CRATES || edge.section == TESTS) {
        let for_tests = edge.section == TESTS && FOR_TESTS.contains(&edge.to.as_str());
        if let (Some(from), Some(to)) = (place(&edge.from), place(&edge.to))
            && !for_tests
        {
            let between_services = from.0 == to.0 && LAYERS[from.0].0 == SERVICES;
            if to > from || between_services {
                let message =
                    format!("`{}` must not depend on `{}`: {}", edge.from, edge.to, reason(from, to));
                problems.push(Problem::new(FILE, 0, message));
            }
        }
    }
    problems
}

fn reason(from: (usize, usize), to: (usize, usize)) -> String {
    let (from, to) = (LAYERS[from.0].0, LAYERS[to.0].0);
    match from == to {
        true if from == SERVICES => "services talk through `api`".to_owned(),
        true => format!("it comes after it in the layer of {from}"),
        false => format!("the layer of {to} lies above the layer of {from}"),
    }
}

/// A crate's layer, and its place in it.
fn place(name: &str) -> Option<(usize, usize)> {
    let layers = LAYERS.iter().enumerate();
    layers
        .flat_map(|(layer, (_, names))| names.iter().enumerate().map(move |(at, known)| (layer, at, known)))
        .find_map(|(layer, at, known)| (*known == name).then_some((layer, at)))
}
