//! Single values: what a key or an element of an array holds.

use std::{path::PathBuf, time::Duration};

use toml::{Spanned, de::DeValue};
use types::{BuilderName, CommitHash, HostType, MachineName, RepositoryName};

use super::{Table, errors::Sink};

/// A value at its place in the file.
#[derive(Clone)]
pub struct Value<'a> {
    inner: &'a Spanned<DeValue<'a>>,
    path: String,
    sink: &'a Sink<'a>,
}

/// A type that one value gives.
pub trait FromValue: Sized {
    /// The value, or None after recording what is wrong with it.
    fn from_value(value: &Value<'_>) -> Option<Self>;

    /// What stands in for a value after an error was recorded. Never seen by those who use the configuration.
    fn placeholder() -> Self;
}

impl<'a> Value<'a> {
    pub(super) fn new(inner: &'a Spanned<DeValue<'a>>, path: String, sink: &'a Sink<'a>) -> Self {
        Self { inner, path, sink }
    }

    /// Records what is wrong with this value.
    pub fn error(&self, message: impl Into<String>) {
        self.sink.record(self.offset(), message.into());
    }

    /// The string that this must be.
    pub fn string(&self) -> Option<&'a str> {
        let text = self.raw().as_str();
        self.or_wrong_type(text, "a string")
    }

    /// The integer that this must be.
    pub fn integer(&self) -> Option<i64> {
        let integer = self.raw().as_integer();
        let integer = self.or_wrong_type(integer, "an integer")?;
        let parsed = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if parsed.is_none() {
            self.error(format!("`{}` is too large", self.path));
        }
        parsed
    }

    /// The number that this must be.
    pub fn number(&self) -> Option<f64> {
        match self.raw() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_) => self.integer().map(|integer| integer as f64),
            _ => self.or_wrong_type(None, "a number"),
        }
    }

    /// The boolean that this must be.
    pub fn boolean(&self) -> Option<bool> {
        self.or_wrong_type(self.raw().as_bool(), "true or false")
    }

    /// The elements of the array that this must be.
    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        let items = self.or_wrong_type(self.raw().as_array(), "an array")?;
        let item = |(index, inner)| Value { inner, path: format!("{}[{index}]", self.path), sink: self.sink };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The table that this must be.
    pub fn table(&self) -> Option<Table<'a>> {
        let entries = self.or_wrong_type(self.raw().as_table(), "a table")?;
        Some(Table::new(entries, self.offset(), self.path.clone(), self.sink))
    }

    pub(super) fn offset(&self) -> usize {
        self.inner.span().start
    }

    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.inner.get_ref()
    }

    fn or_wrong_type<T>(&self, value: Option<T>, wanted: &str) -> Option<T> {
        if value.is_none() {
            let kind = self.raw().type_str();
            let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
            self.error(format!("`{}` must be {wanted}, not {article} {kind}", self.path));
        }
        value
    }
}

impl FromValue for String {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        value.string().map(ToOwned::to_owned)
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        value.string().map(Self::from)
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

impl FromValue for bool {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        value.boolean()
    }

    fn placeholder() -> Self {
        false
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        value.number()
    }

    fn placeholder() -> Self {
        0.0
    }
}

impl<V: FromValue> FromValue for Vec<V> {
    /// The elements that are right; each that is not is an error of its own.
    fn from_value(value: &Value<'_>) -> Option<Self> {
        Some(value.items()?.iter().filter_map(V::from_value).collect())
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

/// As in `90s`, `15m` or `1h 30m`.
impl FromValue for Duration {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        let text = value.string()?;
        let duration = humantime::parse_duration(text);
        if duration.is_err() {
            value.error(format!("`{text}` is not a duration, as in `90s`, `15m` or `1h 30m`"));
        }
        duration.ok()
    }

    fn placeholder() -> Self {
        Self::ZERO
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl FromValue for $integer {
            fn from_value(value: &Value<'_>) -> Option<Self> {
                let integer = value.integer()?;
                let fits = Self::try_from(integer);
                if fits.is_err() {
                    value.error(format!("`{integer}` is not from {} to {}", Self::MIN, Self::MAX));
                }
                fits.ok()
            }

            fn placeholder() -> Self {
                0
            }
        }
    )*};
}

integers!(u16, u32, u64, usize, i64);

macro_rules! parsed {
    ($($parsed:ty: $placeholder:literal),*) => {$(
        impl FromValue for $parsed {
            fn from_value(value: &Value<'_>) -> Option<Self> {
                value.string()?.parse().map_err(|error| value.error(format!("{error}"))).ok()
            }

            fn placeholder() -> Self {
                $placeholder.parse().expect("the placeholder is written right")
            }
        }
    )*};
}

parsed!(
    BuilderName: "unknown",
    HostType: "unknown",
    MachineName: "unknown",
    RepositoryName: "unknown",
    CommitHash: "0000000000000000000000000000000000000000"
);
