//! Where mutations lie in a segment: every so many-th offset, and a scan that finds them.

use std::{fs::File, path::Path, sync::Arc};

use sha2::{Digest as _, Sha224};

use super::record::{RecordError, RecordReader, write_header};

/// One offset is kept for so many records: what a reader skips at the most.
const STRIDE: u64 = 128;

/// The offsets of every [`STRIDE`]th record of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseIndex {
    offsets: Vec<u64>,
}

impl SparseIndex {
    /// Notes where the record with this number, from 0 in the segment, begins. Called for each in order.
    pub(super) fn note(&mut self, number: u64, offset: u64) {
        if number.is_multiple_of(STRIDE) {
            self.offsets.push(offset);
        }
    }

    /// The nearest noted record at or before this one: its number and offset.
    pub(super) fn floor(&self, number: u64) -> (u64, u64) {
        let at = (number / STRIDE).min((self.offsets.len() as u64).saturating_sub(1));
        self.offsets.get(at as usize).map_or((0, 0), |offset| (at * STRIDE, *offset))
    }
}

/// What a segment holds.
pub(super) struct Scan {
    /// How many whole records.
    pub(super) mutations: u64,
    /// Where the last of them ends.
    pub(super) bytes: u64,
    pub(super) index: SparseIndex,
    /// The digest of these records, to be continued.
    pub(super) hasher: Sha224,
    /// What is wrong with what follows them.
    pub(super) error: Option<RecordError>,
}

/// Reads a segment to its end, or to the first thing that is wrong, and shows each payload with its offset.
pub(super) fn scan(file: Arc<File>, path: &Path, bytes: u64, mut see: impl FnMut(u64, &[u8])) -> Scan {
    let mut records = RecordReader::new(file, path, 0, bytes);
    let mut scan =
        Scan { mutations: 0, bytes: 0, index: SparseIndex::default(), hasher: Sha224::new(), error: None };
    let mut header = Vec::new();
    loop {
        let offset = records.offset();
        match records.read() {
            Ok(Some(payload)) => {
                header.clear();
                write_header(&mut header, offset, payload.len());
                scan.hasher.update(&header);
                scan.hasher.update(payload);
                see(offset, payload);
            }
            Ok(None) => return scan,
            Err(error) => {
                scan.error = Some(error);
                return scan;
            }
        }
        scan.index.note(scan.mutations, offset);
        scan.mutations += 1;
        scan.bytes = records.offset();
    }
}

/// Finds the offsets of a segment that is known to be right, without looking at the payloads.
pub(super) fn build(file: Arc<File>, path: &Path, bytes: u64) -> Result<SparseIndex, RecordError> {
    let mut records = RecordReader::new(file, path, 0, bytes);
    let mut index = SparseIndex::default();
    for number in 0.. {
        let offset = records.offset();
        if records.read()?.is_none() {
            break;
        }
        index.note(number, offset);
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_record_before_is_found() {
        let mut index = SparseIndex::default();
        assert_eq!(index.floor(0), (0, 0));
        for number in 0..300 {
            index.note(number, number * 10);
        }
        assert_eq!(index.floor(0), (0, 0));
        assert_eq!(index.floor(127), (0, 0));
        assert_eq!(index.floor(128), (128, 1280));
        assert_eq!(index.floor(299), (256, 2560));
        assert_eq!(index.floor(9999), (256, 2560));
    }
}
