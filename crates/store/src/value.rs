//! Values that go into statements and come out of rows, the same for every engine.

use bytes::Bytes;
use types::{
    AttemptId, BuildNumber, BuilderName, CommitHash, ExecId, Fence, HostType, LeaseId, MachineName, Outcome,
    Phase, RepositoryName, SessionId, SessionName, ShardId, Timestamp,
};

/// A value of a column. Ids, names and words are text, as people write them; points in time are microseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// An integer.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Bytes),
}

/// Makes a list of values out of anything that is one: `values![build, "queued", None::<i64>]`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        ::std::vec![$($crate::Value::from($value)),*]
    };
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Numbers beyond `i64` are stored as `i64::MAX`: none of the farm's counters gets there.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::from(value.to_owned())
    }
}

/// PostgreSQL knows no text with a NUL in it: each becomes U+FFFD, whatever the engine.
impl From<String> for Value {
    fn from(value: String) -> Self {
        if value.contains('\0') { Self::Text(value.replace('\0', "\u{fffd}")) } else { Self::Text(value) }
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::from(value.clone())
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Blob(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value.into())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.0)
    }
}

impl From<BuildNumber> for Value {
    fn from(value: BuildNumber) -> Self {
        Self::from(value.0)
    }
}

impl From<Fence> for Value {
    fn from(value: Fence) -> Self {
        Self::from(value.0)
    }
}

impl From<Outcome> for Value {
    fn from(value: Outcome) -> Self {
        Self::from(value.as_str())
    }
}

impl From<Phase> for Value {
    fn from(value: Phase) -> Self {
        Self::from(value.as_str())
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::Int(value.into())
            }
        })*
    };
}

integers!(i64, i32, i16, u32, u16, u8);

macro_rules! texts {
    ($($type:ty),*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::Text(value.to_string())
            }
        }

        impl From<&$type> for Value {
            fn from(value: &$type) -> Self {
                Self::Text(value.to_string())
            }
        })*
    };
}

texts!(
    AttemptId,
    BuilderName,
    CommitHash,
    ExecId,
    HostType,
    LeaseId,
    MachineName,
    RepositoryName,
    SessionId,
    SessionName,
    ShardId,
    uuid::Uuid
);
