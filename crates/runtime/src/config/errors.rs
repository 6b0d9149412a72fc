//! What is wrong with a configuration, and where.

use std::{cell::RefCell, fmt};

/// One error, at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Counts from one; zero if the file could not be read.
    pub line: usize,
    /// Counts characters from one; zero if the file could not be read.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Everything that is wrong with one file, in the order of its lines. Prints a line for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// The errors: at least one.
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let message = format!("cannot be read: {error}");
        Self(vec![Problem { file: file.to_owned(), line: 0, column: 0, message }])
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Where errors are recorded while a text is read.
pub(super) struct Sink<'t> {
    name: &'t str,
    text: &'t str,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'t> Sink<'t> {
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        Self { name, text, found: RefCell::default() }
    }

    pub(super) fn record(&self, offset: usize, message: String) {
        self.found.borrow_mut().push((offset, message));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn into_errors(self) -> Errors {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset, _)| *offset);
        found.dedup();
        let problem = |(offset, message)| {
            let (line, column) = place(self.text, offset);
            Problem { file: self.name.to_owned(), line, column, message }
        };
        Errors(found.into_iter().map(problem).collect())
    }
}

/// Line and column of a byte, both from one; columns count characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.split(|byte| *byte == b'\n').count();
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}
