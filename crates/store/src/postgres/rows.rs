//! Values on their way into statements of PostgreSQL and out of its rows.

use std::{error::Error, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio_postgres::{
    Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use crate::{ReadError, Row, Value, error::Engine};

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => match *ty {
                Type::INT8 => value.to_sql(ty, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::FLOAT8 => (*value as f64).to_sql(ty, out),
                _ => Err(format!("an integer is no `{ty}`").into()),
            },
            Self::Real(value) => match *ty {
                Type::FLOAT8 => value.to_sql(ty, out),
                _ => Err(format!("a number is no `{ty}`").into()),
            },
            Self::Text(value) if <&str as ToSql>::accepts(ty) => value.as_str().to_sql(ty, out),
            Self::Text(_) => Err(format!("text is no `{ty}`").into()),
            Self::Blob(value) => match *ty {
                Type::BYTEA => value.as_ref().to_sql(ty, out),
                _ => Err(format!("bytes are no `{ty}`").into()),
            },
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A value as a parameter of a query.
pub(super) fn parameter(value: &Value) -> &(dyn ToSql + Sync) {
    value
}

/// Rows as every engine gives them.
pub(super) fn convert(statement: &Statement, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, ReadError> {
    let columns: Arc<[String]> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let convert = |row: &tokio_postgres::Row| {
        let values = (0..columns.len()).map(|index| value(row, index)).collect::<Result<_, _>>()?;
        Ok(Row { columns: Arc::clone(&columns), values })
    };
    rows.iter().map(convert).collect()
}

fn value(row: &tokio_postgres::Row, index: usize) -> Result<Value, ReadError> {
    let column = &row.columns()[index];
    let value = match *column.type_() {
        Type::INT8 => row.try_get::<_, Option<i64>>(index).map(Value::from),
        Type::INT4 => row.try_get::<_, Option<i32>>(index).map(Value::from),
        Type::BOOL => row.try_get::<_, Option<bool>>(index).map(Value::from),
        Type::FLOAT8 => row.try_get::<_, Option<f64>>(index).map(Value::from),
        Type::TEXT | Type::VARCHAR | Type::NAME => row.try_get::<_, Option<String>>(index).map(Value::from),
        Type::BYTEA => row
            .try_get::<_, Option<&[u8]>>(index)
            .map(|bytes| bytes.map_or(Value::Null, |bytes| Value::Blob(Bytes::copy_from_slice(bytes)))),
        ref other => {
            return Err(ReadError::BadColumn {
                column: column.name().to_owned(),
                problem: format!("`{other}` is no type that every engine has"),
            });
        }
    };
    value.map_err(|error| Engine::from(error).into())
}
