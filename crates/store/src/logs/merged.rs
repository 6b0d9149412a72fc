//! Several logs read as one: the log of a build is those of its execs, one after the other.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use types::ExecId;

use super::{LogError, LogStore};

/// Some of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The log.
    pub exec: ExecId,
    /// Which bytes of it.
    pub bytes: Range<u64>,
}

/// A list of parts, read as if it were one log. No copy is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    parts: Vec<Part>,
    /// Where each part begins in the whole.
    starts: Vec<u64>,
    len: u64,
}

impl Merged {
    /// The parts in their order; empty ones are left out.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut merged = Self::default();
        for part in parts.into_iter().filter(|part| !part.bytes.is_empty()) {
            merged.starts.push(merged.len);
            merged.len += part.bytes.end - part.bytes.start;
            merged.parts.push(part);
        }
        merged
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts that a range of the whole is in.
    pub fn locate(&self, range: Range<u64>) -> Vec<Part> {
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let in_range = |(part, start): (&Part, &u64)| {
            let size = part.bytes.end - part.bytes.start;
            let from = range.start.saturating_sub(*start).min(size);
            let to = range.end.saturating_sub(*start).min(size);
            Part { exec: part.exec, bytes: part.bytes.start + from..part.bytes.start + to.max(from) }
        };
        let parts = self.parts.iter().zip(&self.starts).skip(first);
        let parts = parts.take_while(|(_, start)| **start < range.end).map(in_range);
        parts.filter(|part| !part.bytes.is_empty()).collect()
    }

    /// The bytes of a range of the whole. What lies beyond the end is left out.
    pub async fn read(&self, logs: &LogStore, range: Range<u64>) -> Result<Bytes, LogError> {
        let parts = self.locate(range);
        if let [part] = parts.as_slice() {
            return logs.read(part.exec, part.bytes.clone()).await;
        }
        let mut read = BytesMut::new();
        for part in parts {
            read.extend_from_slice(&logs.read(part.exec, part.bytes).await?);
        }
        Ok(read.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exec(number: u128) -> ExecId {
        ExecId(uuid::Uuid::from_u128(number))
    }

    proptest! {
        #[test]
        fn a_range_of_the_whole_is_the_same_bytes_of_the_parts(
            sizes in prop::collection::vec(0..9_u64, 0..8),
            start in 0..50_u64,
            size in 0..50_u64,
        ) {
            let part = |(number, size): (usize, &u64)| Part { exec: exec(number as u128), bytes: 3..3 + size };
            let parts: Vec<Part> = sizes.iter().enumerate().map(part).collect();
            let whole = |parts: &[Part]| -> Vec<(ExecId, u64)> {
                parts.iter().flat_map(|part| part.bytes.clone().map(|byte| (part.exec, byte))).collect()
            };
            let all = whole(&parts);
            let merged = Merged::new(parts);
            prop_assert_eq!(merged.len(), all.len() as u64);
            let end = (start + size).min(all.len() as u64);
            let expected = all.get(start as usize..end as usize).unwrap_or_default();
            prop_assert_eq!(whole(&merged.locate(start..start + size)), expected);
        }
    }
}
