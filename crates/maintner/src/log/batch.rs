//! Consecutive mutations, encoded once for every reader.

use std::ops::Range;

use api::maintpb::Mutation;
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{DecodeError, Message as _};

use super::filter::{Filter, Mark};

/// The most mutations that travel together.
pub const MAX_BATCH_MUTATIONS: u64 = 1000;
/// The most bytes that travel together, unless one mutation alone is larger. Small, since every reader that catches up
/// holds a few.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The tag of `MutationBatch.mutations`: field 1, length-delimited.
const MUTATIONS_TAG: u8 = 0x0a;

/// Some consecutive mutations, less those that a filter left out. The bytes are shared with every other reader of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    range: Range<u64>,
    count: u64,
    parts: Vec<Bytes>,
}

impl Batch {
    /// Nothing of the mutation with this number, and of those that will come after it.
    pub(super) fn empty(position: u64) -> Self {
        Self { range: position..position, count: 0, parts: Vec::new() }
    }

    /// The numbers of the mutations it was made of, from 0.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// How many of them are in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of it.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The parts that, one after the other, are an encoded `MutationBatch`.
    pub fn encoded(&self) -> &[Bytes] {
        &self.parts
    }

    /// The mutations themselves.
    pub fn decode(&self) -> Result<Vec<Mutation>, DecodeError> {
        let mut all = Vec::with_capacity(self.count as usize);
        for part in &self.parts {
            all.append(&mut api::maintner::MutationBatch::decode(part.clone())?.mutations);
        }
        Ok(all)
    }

    /// Without its first mutations, so that it begins at `position`.
    pub(super) fn starting_at(&self, position: u64) -> Self {
        let mut batch = self.clone();
        while batch.range.start < position && batch.count > 0 {
            let part = &mut batch.parts[0];
            skip_one(part);
            batch.range.start += 1;
            batch.count -= 1;
            if part.is_empty() {
                batch.parts.remove(0);
            }
        }
        batch
    }

    /// Joins the batch that comes right after, if both together are small enough.
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let fits =
            self.count + next.count <= MAX_BATCH_MUTATIONS && self.len() + next.len() <= MAX_BATCH_BYTES;
        if fits && next.range.start == self.range.end {
            self.range.end = next.range.end;
            self.count += next.count;
            self.parts.extend_from_slice(&next.parts);
            return true;
        }
        false
    }

    /// Adds those of the batch that comes right after which pass the filter, or tells where the first of them is that
    /// finds no more room. The batch must begin where this one ends; its marks say where each mutation is.
    pub(super) fn join_filtered(&mut self, next: &Self, marks: &[Mark], filter: &Filter) -> bool {
        let [part] = &next.parts[..] else { return next.count == 0 };
        let skipped = (self.range.end - next.range.start) as usize;
        let mut start = if skipped == 0 { 0 } else { marks[skipped - 1].end };
        for mark in &marks[skipped..] {
            let run = start as usize..mark.end as usize;
            if filter.passes_label(mark.label, payload(&part[run.clone()])) {
                let full = self.count == MAX_BATCH_MUTATIONS || self.len() + run.len() > MAX_BATCH_BYTES;
                if full && self.count > 0 {
                    return false;
                }
                self.parts.push(part.slice(run));
                self.count += 1;
            }
            self.range.end += 1;
            start = mark.end;
        }
        true
    }
}

/// The mutation in one entry of what [`BatchBuilder`] wrote.
fn payload(entry: &[u8]) -> &[u8] {
    let mut rest = &entry[1..];
    let _ = prost::decode_length_delimiter(&mut rest).expect("a batch holds what its builder wrote");
    rest
}

/// Drops the first mutation of what [`BatchBuilder`] wrote.
fn skip_one(part: &mut Bytes) {
    let mut rest = &part[1..];
    let len = prost::decode_length_delimiter(&mut rest).expect("a batch holds what its builder wrote");
    let header = part.len() - rest.len();
    let _ = part.split_to(header + len);
}

/// Collects mutations into a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    range: Range<u64>,
    count: u64,
    body: BytesMut,
}

impl BatchBuilder {
    /// A batch whose first mutation has this number.
    pub fn new(first: u64) -> Self {
        Self { range: first..first, count: 0, body: BytesMut::new() }
    }

    /// The number that the next mutation has.
    pub fn position(&self) -> u64 {
        self.range.end
    }

    /// How many bytes are in it.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether another mutation of `len` bytes may not join.
    pub fn is_full_for(&self, len: usize) -> bool {
        self.count > 0 && (self.count == MAX_BATCH_MUTATIONS || self.body.len() + len + 6 > MAX_BATCH_BYTES)
    }

    /// Adds an encoded mutation.
    pub fn push(&mut self, mutation: &[u8]) {
        self.body.put_u8(MUTATIONS_TAG);
        prost::encode_length_delimiter(mutation.len(), &mut self.body).expect("the buffer grows");
        self.body.put_slice(mutation);
        self.range.end += 1;
        self.count += 1;
    }

    /// Leaves a mutation out.
    pub(super) fn skip(&mut self) {
        self.range.end += 1;
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch.
    pub fn build(self) -> Batch {
        let parts = if self.count == 0 { Vec::new() } else { vec![self.body.freeze()] };
        Batch { range: self.range, count: self.count, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, titles: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new(first);
        for title in titles {
            builder.push(&super::super::encode(&mutation(title)));
        }
        builder.build()
    }

    fn mutation(title: &str) -> Mutation {
        let issue = api::maintpb::GithubIssueMutation { title: title.into(), ..Default::default() };
        Mutation { github_issue: Some(issue), ..Default::default() }
    }

    #[test]
    fn a_batch_decodes_to_what_went_in_and_can_begin_later() {
        let mut all = batch(5, &["a", "b"]);
        assert!(all.join(&batch(7, &["c", "d"])));
        assert!(!all.join(&batch(7, &["c"])), "a batch that overlaps is no continuation");
        assert_eq!(all.range(), 5..9);
        let expected: Vec<Mutation> = ["a", "b", "c", "d"].map(mutation).into();
        assert_eq!(all.decode().unwrap(), expected);
        for skip in 0..=4 {
            let rest = all.starting_at(5 + skip);
            assert_eq!(rest.range(), 5 + skip..9);
            assert_eq!(rest.decode().unwrap(), expected[skip as usize..]);
        }
    }
}
