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

/// A text that is to be looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    /// Which of the texts of its batch it is ([`Texts`]), or [`NOWHERE`].
    place: u32,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> Name<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, place: NOWHERE }
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Name<'_> {}

/// The texts of a batch, equal ones once. The same few people and labels are named again and again: whoever takes
/// mutations apart finds equal texts while they are near, and the fold looks each up once for a batch. Each with its hash.
#[derive(Debug, Default)]
pub(super) struct Texts<'a> {
    texts: Vec<(u64, &'a [u8])>,
    /// Open addressing: the lower half is an index plus one, zero is free; the upper half is a part of the hash.
    slots: Vec<u64>,
}

impl<'a> Texts<'a> {
    /// The name with this text.
    pub(super) fn name(&mut self, bytes: &'a [u8]) -> Name<'a> {
        if bytes.is_empty() {
            return Name::new(bytes);
        }
        if self.texts.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash_bytes(bytes);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            let (slot, place) = (self.slots[at], self.slots[at] as u32 - 1);
            if slot >> 32 == hash >> 32 && self.texts[place as usize].1 == bytes {
                return Name { bytes, place };
            }
            at = (at + 1) & mask;
        }
        let place = self.texts.len() as u32;
        self.texts.push((hash, bytes));
        self.slots[at] = hash >> 32 << 32 | u64::from(place + 1);
        Name { bytes, place }
    }

    #[cold]
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(16);
        self.slots.clear();
        self.slots.resize(len, 0);
        for (place, (hash, _)) in (1..).zip(&self.texts) {
            let mut at = *hash as usize & (len - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = *hash >> 32 << 32 | place;
        }
    }

    /// Forgets all, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.slots.fill(0);
    }
}

/// All texts of a corpus. The first is the empty one.
#[derive(Debug)]
pub(super) struct Strings {
    pub(super) bytes: String,
    /// Where each text ends; it begins where the one before ends.
    pub(super) ends: Rows<u64>,
    pub(super) table: Table,
    /// Which of these the texts of the batch are that is being applied, as far as they were looked up; 0 if not yet.
    batch: Vec<u32>,
}

impl Default for Strings {
    fn default() -> Self {
        let mut ends = Rows::default();
        ends.push(0);
        Self { bytes: String::new(), ends, table: Table::default(), batch: Vec::new() }
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
        (whole && in_order).then_some(Self { bytes, ends, table, batch: Vec::new() })
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

    /// From now on names are of a batch with these texts, or of none. Looks up all of them that are known at once, so that
    /// their memory is waited for at once; what is new is stored when it is met.
    pub(super) fn begin(&mut self, texts: &Texts<'_>) {
        let mut found = std::mem::take(&mut self.batch);
        found.clear();
        found.extend(texts.texts.iter().map(|(hash, _)| self.table.first(*hash).unwrap_or(0)));
        let end = |at: &u32| self.ends.get(*at as usize).copied().unwrap_or(0) as usize;
        let ends = found.iter().map(end);
        let touched =
            ends.fold(0, |touched, end| touched ^ self.bytes.as_bytes().get(end).copied().unwrap_or(0));
        std::hint::black_box(touched);
        for (known, (hash, bytes)) in found.iter_mut().zip(&texts.texts) {
            *known = self.look_up(*hash, bytes).map_or(0, |text| text.0);
        }
        self.batch = found;
    }

    /// Stores a text, or finds the one that is there. What is not UTF-8 has its bad bytes replaced.
    #[inline]
    pub(super) fn intern(&mut self, name: Name<'_>) -> Text {
        if name.bytes.is_empty() {
            return Text::default();
        }
        match self.batch.get(name.place as usize) {
            Some(known) if *known != 0 => Text(*known),
            _ => self.look_up_or_store(name),
        }
    }

    #[inline(never)]
    fn look_up_or_store(&mut self, name: Name<'_>) -> Text {
        let hash = hash_bytes(name.bytes);
        let text = match self.look_up(hash, name.bytes) {
            Some(known) => known,
            None => self.store(hash, name.bytes),
        };
        if let Some(known) = self.batch.get_mut(name.place as usize) {
            *known = text.0;
        }
        text
    }

    /// As [`Self::intern`], if it is there.
    pub(super) fn peek(&self, name: Name<'_>) -> Option<Text> {
        match self.batch.get(name.place as usize) {
            Some(known) if *known != 0 => Some(Text(*known)),
            _ => self.look_up(hash_bytes(name.bytes), name.bytes),
        }
    }

    /// A text that was interned.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        self.look_up(hash_bytes(text.as_bytes()), text.as_bytes())
    }

    fn look_up(&self, hash: u64, bytes: &[u8]) -> Option<Text> {
        if bytes.is_empty() {
            return Some(Text::default());
        }
        self.table.find(hash, |other| self.text(Text(other)).as_bytes() == bytes).map(Text)
    }

    #[cold]
    fn store(&mut self, hash: u64, bytes: &[u8]) -> Text {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let lossy = String::from_utf8_lossy(bytes).into_owned();
            return self.intern(Name::new(lossy.as_bytes()));
        };
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u64);
        let new = self.ends.len() as u32 - 1;
        self.table.insert(hash, new);
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

    #[test]
    fn texts_of_a_batch_are_looked_up_once_and_stored_in_the_same_order() {
        let words: Vec<String> = (0..300).map(|n| format!("w{}", n * 7 % 90)).collect();
        let (mut by_batch, mut one_by_one) = (Strings::default(), Strings::default());
        let mut texts = Texts::default();
        for round in words.chunks(100) {
            texts.clear();
            let names: Vec<Name<'_>> = round.iter().map(|word| texts.name(word.as_bytes())).collect();
            assert!(texts.texts.len() <= 90);
            by_batch.begin(&texts);
            for (name, word) in names.iter().zip(round) {
                assert_eq!(by_batch.intern(*name), one_by_one.intern(Name::new(word.as_bytes())));
                assert_eq!(by_batch.peek(*name), by_batch.find(word));
            }
        }
        assert_eq!(by_batch.bytes, one_by_one.bytes);
        assert_eq!(by_batch.peek(texts.name(b"never said")), None);
    }
}
