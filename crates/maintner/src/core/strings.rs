//! Text in one piece of memory, equal ones stored once.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    rows::Rows,
    table::{Table, hash_bytes},
};

/// A text in [`Strings`]. The default is the empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub(super) struct Text(pub(super) u32);

/// A text that is to be looked up, with its hash, which can be made elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    hash: u64,
}

impl<'a> Name<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, hash: hash_bytes(bytes) }
    }
}

/// All texts of a corpus. The first is the empty one.
#[derive(Debug)]
pub(super) struct Strings {
    pub(super) bytes: String,
    /// Where each text ends; it begins where the one before ends.
    pub(super) ends: Rows<u64>,
    pub(super) table: Table,
}

impl Default for Strings {
    fn default() -> Self {
        let mut ends = Rows::default();
        ends.push(0);
        Self { bytes: String::new(), ends, table: Table::default() }
    }
}

impl Strings {
    /// Those that were stored elsewhere. Nothing if they are not in order.
    pub(super) fn from_parts(
        bytes: String,
        ends: Rows<u64>,
        table: impl FnOnce(usize) -> Option<Table>,
    ) -> Option<Self> {
        let whole = ends.get(0) == Some(&0) && ends.iter().next_back() == Some(&(bytes.len() as u64));
        let mut last = 0;
        let in_order = ends.iter().all(|end| {
            let right = last <= *end && bytes.is_char_boundary(*end as usize);
            last = *end;
            right
        });
        let table = table(ends.len().checked_sub(1)?)?;
        (whole && in_order).then_some(Self { bytes, ends, table })
    }

    /// The text; one that is not here is empty.
    pub(super) fn text(&self, text: Text) -> &str {
        let at = text.0 as usize;
        let (Some(start), Some(end)) =
            (at.checked_sub(1).and_then(|before| self.ends.get(before)), self.ends.get(at))
        else {
            return "";
        };
        &self.bytes[*start as usize..*end as usize]
    }

    /// Stores a text, or finds the one that is there. What is not UTF-8 has its bad bytes replaced.
    #[inline]
    pub(super) fn intern(&mut self, name: Name<'_>) -> Text {
        match self.lookup(name) {
            Some(known) => known,
            None => self.store(name),
        }
    }

    /// A text that was interned.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        self.lookup(Name::new(text.as_bytes()))
    }

    #[inline]
    fn lookup(&self, name: Name<'_>) -> Option<Text> {
        if name.bytes.is_empty() {
            return Some(Text::default());
        }
        self.table.find(name.hash, |other| self.text(Text(other)).as_bytes() == name.bytes).map(Text)
    }

    #[cold]
    fn store(&mut self, name: Name<'_>) -> Text {
        let Ok(text) = std::str::from_utf8(name.bytes) else {
            let lossy = String::from_utf8_lossy(name.bytes).into_owned();
            return self.intern(Name::new(lossy.as_bytes()));
        };
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u64);
        let new = self.ends.len() as u32 - 1;
        self.table.insert(name.hash, new);
        Text(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_stored_once() {
        let mut strings = Strings::default();
        let texts: Vec<String> = (0..200).map(|n| format!("person {n}")).collect();
        let intern = |strings: &mut Strings| -> Vec<Text> {
            texts.iter().map(|text| strings.intern(Name::new(text.as_bytes()))).collect()
        };
        let first = intern(&mut strings);
        let bytes = strings.bytes.len();
        assert_eq!(first, intern(&mut strings));
        assert_eq!(strings.bytes.len(), bytes);
        assert_eq!(strings.text(first[7]), "person 7");
        assert_eq!(strings.text(strings.find("").unwrap()), "");
        assert_eq!(strings.find("nobody"), None);
    }

    #[test]
    fn text_that_is_not_utf8_is_stored_once_too() {
        let mut strings = Strings::default();
        let bad = Name::new(b"R\xe9sum\xe9");
        assert_eq!(strings.intern(bad), strings.intern(bad));
        assert_eq!(strings.text(Text(1)), "R\u{fffd}sum\u{fffd}");
    }
}
