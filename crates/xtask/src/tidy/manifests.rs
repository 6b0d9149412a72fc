//! Manifests: the shared lints apply, and every dependency is used.

use std::{collections::BTreeSet, fs};

use anyhow::Context;

use super::{
    Problem,
    tokens::Kind,
    tree::{Crate, Tree},
};

/// Holds generated code only.
const WITHOUT_LINTS: &[&str] = &["api"];

const SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut declared = BTreeSet::new();
    for package in &tree.crates {
        let manifest = package.manifest_path();
        if !inherits_lints(package) && !WITHOUT_LINTS.contains(&package.name.as_str()) {
            problems.push(Problem::new(&manifest, 0, "lacks `[lints] workspace = true`"));
        }
        let words = words(tree, &package.name);
        for name in dependencies(package) {
            if !words.contains(&name.replace('-', "_")) {
                problems.push(Problem::new(&manifest, 0, format!("dependency `{name}` is not used")));
            }
            declared.insert(name);
        }
    }
    for name in offered(tree)? {
        if !declared.contains(&name) && !tree.crates.iter().any(|package| package.name == name) {
            problems.push(Problem::new(
                "Cargo.toml",
                0,
                format!("no crate uses workspace dependency `{name}`"),
            ));
        }
    }
    Ok(problems)
}

fn inherits_lints(package: &Crate) -> bool {
    let workspace = package.manifest.get("lints").and_then(|lints| lints.get("workspace"));
    workspace.and_then(toml::Value::as_bool) == Some(true)
}

fn dependencies(package: &Crate) -> BTreeSet<String> {
    let targets = package.manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
    let tables = std::iter::once(&package.manifest).chain(targets);
    let sections =
        tables.flat_map(|table| SECTIONS.iter().filter_map(|section| table.get(*section)?.as_table()));
    sections.flat_map(|section| section.keys().cloned()).collect()
}

/// What `[workspace.dependencies]` offers.
fn offered(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(tree.root.join("Cargo.toml")).context("read `Cargo.toml`")?;
    let manifest: toml::Table = text.parse().context("parse `Cargo.toml`")?;
    let table = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies")?.as_table());
    Ok(table.map(|table| table.keys().cloned().collect()).unwrap_or_default())
}

/// Every word in the code of a package; those in strings too, since attributes name paths in them.
fn words(tree: &Tree, package: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for token in tree.files_of(package).filter_map(|file| file.tokens.as_ref()).flat_map(|tokens| &tokens.all)
    {
        match &token.kind {
            Kind::Ident(word) => drop(words.insert(word.clone())),
            Kind::Literal(text) => {
                let parts = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
                words.extend(parts.map(ToOwned::to_owned));
            }
            _ => {}
        }
    }
    words
}
