//! Text in one piece of memory, equal ones stored once.

use std::hash::{DefaultHasher, Hasher as _};

use super::table::Table;

/// A text in [`Strings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Text(u32);

/// All texts of a corpus. The first is the empty one.
#[derive(Debug, Clone)]
pub(super) struct Strings {
    bytes: String,
    /// Where each text ends; it begins where the one before ends.
    ends: Vec<u64>,
    table: Table,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: String::new(), ends: vec![0], table: Table::default() }
    }
}

impl Strings {
    pub(super) fn text(&self, text: Text) -> &str {
        let at = text.0 as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[at] as usize]
    }

    /// Stores a text that is not likely to come again.
    pub(super) fn store(&mut self, text: &str) -> Text {
        if text.is_empty() {
            return Text::default();
        }
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u64);
        Text(self.ends.len() as u32 - 1)
    }

    /// Stores a text, or finds the one that is there.
    pub(super) fn intern(&mut self, text: &str) -> Text {
        if let Some(known) = self.find(text) {
            return known;
        }
        let new = self.store(text);
        let mut table = std::mem::take(&mut self.table);
        table.insert(hash(text), new.0, |other| hash(self.text(Text(other))));
        self.table = table;
        new
    }

    /// A text that was interned.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        if text.is_empty() {
            return Some(Text::default());
        }
        self.table.find(hash(text), |other| self.text(Text(other)) == text).map(Text)
    }
}

fn hash(text: &str) -> u64 {
    // With fixed keys, so that a corpus is the same everywhere.
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_stored_once() {
        let mut strings = Strings::default();
        let texts: Vec<String> = (0..200).map(|n| format!("person {n}")).collect();
        let first: Vec<Text> = texts.iter().map(|text| strings.intern(text)).collect();
        let bytes = strings.bytes.len();
        let second: Vec<Text> = texts.iter().map(|text| strings.intern(text)).collect();
        assert_eq!(first, second);
        assert_eq!(strings.bytes.len(), bytes);
        assert_eq!(strings.text(first[7]), "person 7");
        assert_eq!(strings.text(strings.find("").unwrap()), "");
        assert_eq!(strings.find("nobody"), None);
    }
}
