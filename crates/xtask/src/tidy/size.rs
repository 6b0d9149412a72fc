//! Sizes: a stranger can read any file in one sitting.

use super::{Problem, tree::Tree};

/// No file is longer.
const FILE: usize = 800;
/// `main.rs` and `lib.rs` wire things up, no more.
const ENTRY: usize = 80;
/// `types` is vocabulary: it must not become the place for everything.
const TYPES: usize = 2000;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_generated()) {
        let lines = file.lines;
        if lines > FILE {
            problems.push(Problem::new(
                &file.path,
                0,
                format!("{lines} lines, the limit is {FILE}: split it"),
            ));
        }
        let entry = file.path.ends_with("/src/main.rs") || file.path.ends_with("/src/lib.rs");
        if entry && lines > ENTRY {
            problems.push(Problem::new(
                &file.path,
                0,
                format!("{lines} lines, the limit for an entry point is {ENTRY}"),
            ));
        }
    }
    let types: usize = tree.files_of("types").map(|file| file.lines).sum();
    if types > TYPES {
        problems.push(Problem::new(
            "crates/types",
            0,
            format!("{types} lines, the limit is {TYPES}: it is vocabulary only"),
        ));
    }
    problems
}
