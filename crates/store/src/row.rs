//! A row that was read, and how it is taken apart.

use std::{fmt::Display, str::FromStr, sync::Arc};

use bytes::Bytes;
use types::Timestamp;

use crate::{ReadError, Value};

/// A row: values by column name.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Vec<Value>,
}

impl Row {
    /// The value of a column.
    pub fn value(&self, column: &str) -> Result<&Value, ReadError> {
        let index = self.columns.iter().position(|name| name == column);
        index.map(|index| &self.values[index]).ok_or_else(|| ReadError::UnknownColumn(column.to_owned()))
    }

    /// An integer.
    pub fn int(&self, column: &str) -> Result<i64, ReadError> {
        self.opt_int(column)?.ok_or_else(|| wrong(column, "an integer"))
    }

    /// An integer, or nothing.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, ReadError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(*value)),
            _ => Err(wrong(column, "an integer")),
        }
    }

    /// An integer of a narrower type, for example `row.number::<u64>("fence")`.
    pub fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, ReadError> {
        T::try_from(self.int(column)?).map_err(|_| wrong(column, "within its range"))
    }

    /// An integer of a narrower type, or nothing.
    pub fn opt_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, ReadError> {
        self.opt_int(column)?
            .map(|n| T::try_from(n).map_err(|_| wrong(column, "within its range")))
            .transpose()
    }

    /// Whether an integer is not zero.
    pub fn flag(&self, column: &str) -> Result<bool, ReadError> {
        Ok(self.int(column)? != 0)
    }

    /// A number; an integer is one too.
    pub fn real(&self, column: &str) -> Result<f64, ReadError> {
        self.opt_real(column)?.ok_or_else(|| wrong(column, "a number"))
    }

    /// A number, or nothing.
    pub fn opt_real(&self, column: &str) -> Result<Option<f64>, ReadError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(*value as f64)),
            Value::Real(value) => Ok(Some(*value)),
            _ => Err(wrong(column, "a number")),
        }
    }

    /// Text.
    pub fn text(&self, column: &str) -> Result<&str, ReadError> {
        self.opt_text(column)?.ok_or_else(|| wrong(column, "text"))
    }

    /// Text, or nothing.
    pub fn opt_text(&self, column: &str) -> Result<Option<&str>, ReadError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            _ => Err(wrong(column, "text")),
        }
    }

    /// Bytes.
    pub fn blob(&self, column: &str) -> Result<Bytes, ReadError> {
        self.opt_blob(column)?.ok_or_else(|| wrong(column, "bytes"))
    }

    /// Bytes, or nothing.
    pub fn opt_blob(&self, column: &str) -> Result<Option<Bytes>, ReadError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(value) => Ok(Some(value.clone())),
            _ => Err(wrong(column, "bytes")),
        }
    }

    /// An id, name or word that is text, for example `row.parse::<CommitHash>("revision")`.
    pub fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, ReadError> {
        parse(column, self.text(column)?)
    }

    /// An id, name or word that is text, or nothing.
    pub fn opt_parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, ReadError> {
        self.opt_text(column)?.map(|text| parse(column, text)).transpose()
    }

    /// A point in time.
    pub fn time(&self, column: &str) -> Result<Timestamp, ReadError> {
        self.int(column).map(Timestamp)
    }

    /// A point in time, or nothing.
    pub fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.opt_int(column)?.map(Timestamp))
    }
}

fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|error: T::Err| ReadError::BadColumn {
        column: column.to_owned(),
        problem: error.to_string(),
    })
}

fn wrong(column: &str, expected: &str) -> ReadError {
    ReadError::BadColumn { column: column.to_owned(), problem: format!("it is not {expected}") }
}
