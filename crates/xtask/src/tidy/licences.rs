//! What we link: licences that we may use, no second TLS stack, and no cloud SDK in `farmer`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Package, PackageId};

use super::{Problem, tree::Tree};

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Nowhere in the tree: TLS is rustls with ring.
const BANNED: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys"];

/// Not in what a new user builds first: minutes of compile time, for clouds that a farm on one machine has not.
const NOT_IN_FARMER: &[&str] = &["aws-sdk-ec2", "google-cloud-compute-v1", "k8s-openapi", "kube"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let problem = |message: String| Problem::new("Cargo.lock", 0, message);
    let mut problems = Vec::new();
    for package in &tree.metadata.packages {
        let name = package.name.as_str();
        if BANNED.contains(&name) {
            problems.push(problem(format!("package `{name}` is banned: TLS is rustls with ring")));
        }
        if package.source.as_ref().is_some_and(|source| source.repr != REGISTRY) {
            problems.push(problem(format!("package `{name}` is not from crates.io")));
        }
        match &package.license {
            Some(licence) if allowed(licence) => {}
            Some(licence) => problems.push(problem(format!(
                "package `{name}` has licence `{licence}`, which is not on the list of `cargo xtask tidy`"
            ))),
            None => problems.push(problem(format!("package `{name}` states no licence"))),
        }
    }
    for package in reachable(tree, "farmer") {
        if NOT_IN_FARMER.contains(&package.name.as_str()) {
            problems.push(problem(format!(
                "`farmer` builds `{}`: a cloud SDK belongs in a service of its own",
                package.name
            )));
        }
    }
    problems
}

/// What is built for a package of the workspace.
fn reachable<'t>(tree: &'t Tree, name: &str) -> Vec<&'t Package> {
    let Some(resolve) = &tree.metadata.resolve else { return Vec::new() };
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let members = tree.metadata.workspace_packages();
    let mut left: Vec<&PackageId> = members.iter().filter(|p| p.name == name).map(|p| &p.id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        let built = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let built =
            built.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
        left.extend(built.map(|dep| &dep.pkg));
    }
    seen.into_iter().map(|id| &tree.metadata[id]).collect()
}

/// Whether an SPDX expression can be satisfied by allowed licences. The old `A/B` means `A OR B`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any(&words, &mut at);
    result && at == words.len()
}

fn any(words: &[&str], at: &mut usize) -> bool {
    let mut result = all(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all(words, at);
    }
    result
}

fn all(words: &[&str], at: &mut usize) -> bool {
    let mut result = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at);
    }
    result
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let result = any(words, at);
        *at += 1;
        return result;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        let exception = words.get(*at - 1).unwrap_or(&"");
        return ALLOWED.contains(&format!("{word} WITH {exception}").as_str());
    }
    ALLOWED.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-3.0) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC) AND GPL-3.0",
            "MIT WITH Some-exception",
            "",
            "MIT MIT",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
