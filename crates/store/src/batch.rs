//! Statements that are done together or not at all.

use crate::Value;

/// Statements that are done together or not at all, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) args: Vec<Value>,
    /// How many rows it must change.
    pub(crate) changes: Option<u64>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement. Its arguments are `$1`, `$2` and so on.
    pub fn push(&mut self, sql: &'static str, args: impl Into<Vec<Value>>) -> &mut Self {
        self.statements.push(Statement { sql, args: args.into(), changes: None });
        self
    }

    /// Adds a statement that must change exactly one row: otherwise the whole batch fails with
    /// [`crate::WriteError::Conflict`]. This is how compare-and-set is written.
    pub fn push_guarded(&mut self, sql: &'static str, args: impl Into<Vec<Value>>) -> &mut Self {
        self.statements.push(Statement { sql, args: args.into(), changes: Some(1) });
        self
    }

    /// Adds the statements of another batch.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.statements.append(&mut other.statements);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Roughly how many bytes it carries.
    pub(crate) fn bytes(&self) -> usize {
        let size = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        self.statements.iter().flat_map(|statement| &statement.args).map(size).sum()
    }
}
