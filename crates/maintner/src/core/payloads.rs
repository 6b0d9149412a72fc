//! The bytes of the log that the corpus refers to, rather than keep copies: bodies, messages, diffs.
//!
//! Each byte has an address that never changes. Pieces of the log that are mapped, or read whole, are attached; what
//! comes one by one is kept in blocks of our own.

use std::borrow::Cow;

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A block of our own has room for this, or for one payload that is larger.
const BLOCK: usize = 256 * 1024;
/// The bits of a length.
const BITS: u32 = 24;

/// Where some bytes are: an address of 40 bits and a length of 24. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub(super) struct Span(pub(super) u64);

impl Span {
    /// What is longer than 16 MiB is cut: no log of ours holds such a payload.
    pub(super) fn new(at: u64, len: usize) -> Self {
        Self(at << BITS | (len as u64).min((1 << BITS) - 1))
    }

    fn at(self) -> u64 {
        self.0 >> BITS
    }

    pub(super) fn len(self) -> usize {
        (self.0 & ((1 << BITS) - 1)) as usize
    }
}

/// All that is referred to.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    start: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Attached(Bytes),
    Own(Vec<u8>),
}

impl Region {
    fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Attached(bytes) => bytes,
            Source::Own(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }
}

impl Payloads {
    /// Where the next piece will begin.
    pub(super) fn end(&self) -> u64 {
        self.regions.last().map_or(0, Region::end)
    }

    /// Makes a piece of the log addressable. Answers with the address of its first byte.
    pub(super) fn attach(&mut self, bytes: Bytes) -> u64 {
        let start = self.end();
        self.regions.push(Region { start, source: Source::Attached(bytes) });
        start
    }

    /// Keeps a copy of a payload. Answers with its address.
    pub(super) fn push(&mut self, payload: &[u8]) -> u64 {
        let at = self.end();
        if let Some(Region { source: Source::Own(block), .. }) = self.regions.last_mut()
            && block.len() + payload.len() <= BLOCK
        {
            block.extend_from_slice(payload);
            return at;
        }
        let mut block = Vec::with_capacity(BLOCK.max(payload.len()));
        block.extend_from_slice(payload);
        self.regions.push(Region { start: at, source: Source::Own(block) });
        at
    }

    /// The bytes; nothing if they are not here, as those of a damaged snapshot might be.
    pub(super) fn get(&self, span: Span) -> &[u8] {
        let at = span.at();
        let after = self.regions.partition_point(|region| region.start <= at);
        let Some(region) = after.checked_sub(1).and_then(|index| self.regions.get(index)) else { return &[] };
        let start = (at - region.start) as usize;
        region.bytes().get(start..start + span.len()).unwrap_or_default()
    }

    /// As [`Self::get`], for many that mostly lie in the order in which they are asked for. `near` is kept by the
    /// caller, and begins at zero.
    pub(super) fn get_near(&self, span: Span, near: &mut usize) -> &[u8] {
        let at = span.at();
        let is_in = |region: &Region| (region.start..region.end()).contains(&at);
        if !self.regions.get(*near).is_some_and(is_in) {
            *near = self.regions.partition_point(|region| region.start <= at).saturating_sub(1);
        }
        let Some(region) = self.regions.get(*near) else { return &[] };
        let start = at.checked_sub(region.start).and_then(|start| usize::try_from(start).ok());
        start.and_then(|start| region.bytes().get(start..start + span.len())).unwrap_or_default()
    }

    /// The bytes as text, bad ones replaced.
    pub(super) fn text(&self, span: Span) -> Cow<'_, str> {
        String::from_utf8_lossy(self.get(span))
    }

    /// The lengths of the pieces that were attached, if nothing else is here.
    pub(super) fn attached(&self) -> Option<Vec<u64>> {
        self.regions
            .iter()
            .map(|region| match &region.source {
                Source::Attached(bytes) => Some(bytes.len() as u64),
                Source::Own(_) => None,
            })
            .collect()
    }

    /// How many bytes are kept here, rather than mapped by somebody else.
    pub(super) fn own_bytes(&self) -> usize {
        let own = |region: &Region| match &region.source {
            Source::Attached(_) => 0,
            Source::Own(block) => block.capacity(),
        };
        self.regions.iter().map(own).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_right_whatever_comes_after() {
        let mut payloads = Payloads::default();
        let first = payloads.attach(Bytes::from_static(b"attached"));
        let second = payloads.push(b"kept");
        let large = payloads.push(&vec![7; BLOCK]);
        let third = payloads.attach(Bytes::from_static(b"more"));
        let last = payloads.push(b"last");
        assert_eq!(payloads.get(Span::new(first + 2, 6)), b"tached");
        assert_eq!(payloads.text(Span::new(second, 4)), "kept");
        assert_eq!(payloads.get(Span::new(large, BLOCK)).len(), BLOCK);
        assert_eq!(payloads.get(Span::new(third, 4)), b"more");
        assert_eq!(payloads.get(Span::new(last, 4)), b"last");
        assert_eq!(payloads.get(Span::new(last + 2, 4)), b"", "a span that is not here is empty");
        assert_eq!(payloads.get(Span::default()), b"");
        let mut near = 0;
        for (at, len) in [(first + 2, 6), (last, 4), (second, 4), (third, 4), (last + 2, 4), (large, 9)] {
            let span = Span::new(at, len);
            assert_eq!(payloads.get_near(span, &mut near), payloads.get(span));
        }
        assert_eq!(payloads.attached(), None);
    }
}
