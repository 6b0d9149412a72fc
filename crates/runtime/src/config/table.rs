//! A table that is being read.

use std::{net::SocketAddr, str::FromStr};

use toml::de::{DeTable, DeValue};

use super::{FromToml, FromValue, Value, errors::Sink, nearest::nearest};

/// A place in the file, to report an error there once more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark(usize);

/// A table that is being read. Every key that is asked for is known; when the table is dropped, the other keys that it
/// holds are errors.
pub struct Table<'a> {
    /// None if the table is not in the file: then every key is missing.
    entries: Option<&'a DeTable<'a>>,
    offset: usize,
    path: String,
    known: Vec<String>,
    sink: &'a Sink<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        entries: impl Into<Option<&'a DeTable<'a>>>,
        offset: usize,
        path: String,
        sink: &'a Sink<'a>,
    ) -> Self {
        Self { entries: entries.into(), offset, path, known: Vec::new(), sink }
    }

    /// The value of a key that must be there. After an error: a placeholder.
    pub fn required<V: FromValue>(&mut self, key: &str) -> V {
        let value = self.value(key);
        if value.is_none() {
            self.missing(key);
        }
        value.and_then(|value| V::from_value(&value)).unwrap_or_else(V::placeholder)
    }

    /// The value of a key that may be left out. None also after an error.
    pub fn optional<V: FromValue>(&mut self, key: &str) -> Option<V> {
        self.value(key).and_then(|value| V::from_value(&value))
    }

    /// The value of a key, or what applies if it is left out.
    pub fn default<V: FromValue>(&mut self, key: &str, default: V) -> V {
        self.optional(key).unwrap_or(default)
    }

    /// A string that is parsed: for types of crates that know nothing of configuration. None if left out, or after an
    /// error.
    pub fn parsed<V: FromStr>(&mut self, key: &str) -> Option<V>
    where
        V::Err: std::fmt::Display,
    {
        let value = self.value(key)?;
        let text = value.string()?;
        text.parse().map_err(|error: V::Err| value.error(error.to_string())).ok()
    }

    /// One of several words.
    pub fn choice<V: Copy>(&mut self, key: &str, choices: &[(&str, V)]) -> Option<V> {
        let value = self.value(key)?;
        let text = value.string()?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            value.error(format!("`{text}` is none of {}", names.join(", ")));
        }
        found
    }

    /// A table below this one. If it is left out it reads as an empty table, so that defaults apply and what it must
    /// have is asked for.
    pub fn table<T: FromToml>(&mut self, key: &str) -> T {
        self.table_with(key, T::from_toml)
    }

    /// As [`Table::table`], with a function.
    pub fn table_with<T>(&mut self, key: &str, read: impl FnOnce(&mut Table<'a>) -> T) -> T {
        let path = self.path_of(key);
        let value = self.value(key);
        let mut table = match &value {
            Some(value) => value.table().unwrap_or_else(|| Table::ignored(self.sink)),
            None => Table::new(None, self.offset, path, self.sink),
        };
        read(&mut table)
    }

    /// A table below this one that may be left out.
    pub fn optional_table<T: FromToml>(&mut self, key: &str) -> Option<T> {
        self.value(key)?.table().map(|mut table| T::from_toml(&mut table))
    }

    /// An array of tables (`[[key]]`), in the order of the file. Empty if left out.
    pub fn tables<T: FromToml>(&mut self, key: &str) -> Vec<T> {
        self.tables_with(key, T::from_toml)
    }

    /// As [`Table::tables`], with a function.
    pub fn tables_with<T>(&mut self, key: &str, mut read: impl FnMut(&mut Table<'a>) -> T) -> Vec<T> {
        let items = self.value(key).and_then(|value| value.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.table().map(|mut table| read(&mut table))).collect()
    }

    /// Tables by name (`[key.NAME]`), in the order of the file. Empty if left out.
    pub fn named_tables<T: FromToml>(&mut self, key: &str) -> Vec<(String, T)> {
        let Some(mut table) = self.value(key).and_then(|value| value.table()) else { return Vec::new() };
        let names = table.keys();
        names.into_iter().filter_map(|name| Some((name.clone(), table.optional_table(&name)?))).collect()
    }

    /// The keys and values of a table below this one, in the order of the file: for keys that people make up.
    pub fn pairs<V: FromValue>(&mut self, key: &str) -> Vec<(String, V)> {
        let Some(mut table) = self.value(key).and_then(|value| value.table()) else { return Vec::new() };
        let names = table.keys();
        names.into_iter().filter_map(|name| Some((name.clone(), table.optional(&name)?))).collect()
    }

    /// The keys that the file has here, in its order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.entries.iter().flat_map(|entries| entries.keys()).collect();
        keys.sort_by_key(|key| key.span().start);
        keys.into_iter().map(|key| key.get_ref().to_string()).collect()
    }

    /// Whether the file has this key. The key is known from now on.
    pub fn has(&mut self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The raw value of a key, to read by hand. The key is known from now on.
    pub fn value(&mut self, key: &str) -> Option<Value<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        let value = self.entries?.get(key)?;
        Some(Value::new(value, self.path_of(key), self.sink))
    }

    /// Records what is wrong with the value of a key: at the value, or at the table if the key is not there.
    pub fn error_at(&mut self, key: &str, message: impl Into<String>) {
        let mark = self.mark(key);
        self.error_at_mark(mark, message);
    }

    /// Records what is wrong with an element of an array.
    pub fn error_at_index(&mut self, key: &str, index: usize, message: impl Into<String>) {
        let item = self.value(key).and_then(|value| match value.raw() {
            DeValue::Array(items) => items.get(index).map(|item| Mark(item.span().start)),
            _ => None,
        });
        let mark = item.unwrap_or_else(|| self.mark(key));
        self.error_at_mark(mark, message);
    }

    /// Records what is wrong with the table as a whole.
    pub fn error(&mut self, message: impl Into<String>) {
        self.sink.record(self.offset, message.into());
    }

    /// Where the value of a key is, or the table if the key is not there: to report an error later.
    pub fn mark(&mut self, key: &str) -> Mark {
        self.value(key).map_or(Mark(self.offset), |value| Mark(value.offset()))
    }

    /// Records an error at a place that was marked, in any table of the same file.
    pub fn error_at_mark(&mut self, mark: Mark, message: impl Into<String>) {
        self.sink.record(mark.0, message.into());
    }

    /// Reads as empty and complains about nothing: stands in for what was not a table.
    fn ignored(sink: &'a Sink<'a>) -> Self {
        Self::new(None, usize::MAX, String::new(), sink)
    }

    fn missing(&mut self, key: &str) {
        if self.offset != usize::MAX {
            let path = self.path_of(key);
            self.sink.record(self.offset, format!("missing key `{path}`"));
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for key in self.entries.iter().flat_map(|entries| entries.keys()) {
            let name: &str = key.get_ref();
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            let hint = match nearest(name, &self.known) {
                Some(near) => format!(": did you mean `{near}`?"),
                None => String::new(),
            };
            self.sink.record(key.span().start, format!("unknown key `{}`{hint}", self.path_of(name)));
        }
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: &Value<'_>) -> Option<Self> {
        let text = value.string()?;
        let address = text.parse();
        if address.is_err() {
            value.error(format!("`{text}` is not an address and port, as in `127.0.0.1:8080`"));
        }
        address.ok()
    }

    fn placeholder() -> Self {
        Self::from(([127, 0, 0, 1], 0))
    }
}
