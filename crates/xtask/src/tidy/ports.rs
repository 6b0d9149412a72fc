//! The table of ports: none of Go's is missing in it, and the page is what the table gives.

use super::{Problem, tree::Tree};
use crate::ports::table;

/// The crate that is ported.
const PORTED: &str = "buildlet";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    if !tree.crates.iter().any(|package| package.name == PORTED) {
        return Vec::new();
    }
    let problems = table::problems(&tree.root);
    problems.into_iter().map(|(file, message)| Problem::new(file, 0, message)).collect()
}
