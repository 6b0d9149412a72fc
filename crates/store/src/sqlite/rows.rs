//! Values on their way into statements of SQLite and out of its rows.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{
    Statement, ToSql,
    types::{ToSqlOutput, ValueRef},
};

use crate::{ReadError, Row, Value};

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// Binds `$1`, `$2` and so on: by what they are called, since SQLite numbers parameters by where they first stand.
pub(super) fn bind(statement: &mut Statement<'_>, args: &[Value]) -> rusqlite::Result<()> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).unwrap_or_default();
        let number = name.get(1..).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(index);
        let value = args.get(number.wrapping_sub(1));
        let value = value.ok_or_else(|| rusqlite::Error::InvalidParameterName(name.to_owned()))?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

/// All rows of a statement whose parameters are bound.
pub(super) fn fetch(statement: &mut Statement<'_>) -> Result<Vec<Row>, ReadError> {
    let columns: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            values.push(value(column, row.get_ref(index)?)?);
        }
        found.push(Row { columns: Arc::clone(&columns), values });
    }
    Ok(found)
}

fn value(column: &str, value: ValueRef<'_>) -> Result<Value, ReadError> {
    // What the value is counts, not what its column was declared as.
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(error) => {
                return Err(ReadError::BadColumn { column: column.to_owned(), problem: error.to_string() });
            }
        },
        ValueRef::Blob(bytes) => Value::Blob(Bytes::copy_from_slice(bytes)),
    })
}
