//! The framing of records: `REC@<offset>+<length>=`, both lower-case hexadecimal without padding, then the payload.
//!
//! The offset is that of the `R` within its file, so that a wrong splice or seek is noticed at once. There is no
//! checksum and no trailer: the format is that of Go's maintner and must not change.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A header is never longer, however large the numbers in it.
const MAX_HEADER: usize = 40;
/// The longest payload. A little more than we take, for what others wrote.
const LONGEST: u64 = 16 * 1024 * 1024;
/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// What is wrong with a record. Says the file and the offset in it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk said no.
    #[error("cannot read `{}` at {offset}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// The file ends inside a record, and nothing but that record is lost.
    #[error("`{}` ends inside the record at {offset}", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
    /// There is no record where one must be.
    #[error("`{}` has no valid record at {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the record should begin.
        offset: u64,
        /// What is there instead.
        what: &'static str,
    },
}

/// Writes the header of a record of `len` bytes at `offset`.
pub fn write_header(out: &mut Vec<u8>, offset: u64, len: usize) {
    write!(out, "REC@{offset:x}+{len:x}=").expect("writing to memory cannot fail");
}

/// What the first bytes of a record say.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// The header's own length and the payload's.
    Whole(usize, u64),
    /// As far as it goes it is right, but it goes on.
    Partial,
    Wrong(&'static str),
}

fn parse_header(bytes: &[u8], offset: u64) -> Header {
    let head = &bytes[..bytes.len().min(MAX_HEADER)];
    let mut expected = Vec::with_capacity(MAX_HEADER);
    write!(expected, "REC@{offset:x}+").expect("writing to memory cannot fail");
    let common = head.len().min(expected.len());
    if head[..common] != expected[..common] {
        let prefix = head.len().min(4);
        return Header::Wrong(if head[..prefix] == b"REC@"[..prefix] {
            "the offset in the header is another"
        } else {
            "it does not begin with `REC@`"
        });
    }
    let digits = &head[common..];
    let Some(end) = memchr::memchr(b'=', digits) else {
        let plausible = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if plausible && head.len() < MAX_HEADER {
            return Header::Partial;
        }
        return Header::Wrong("the length in the header is no number");
    };
    match parse_length(&digits[..end]) {
        Some(len) => Header::Whole(common + end + 1, len),
        None => Header::Wrong("the length in the header is no number"),
    }
}

/// Lower-case hexadecimal without padding.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut number = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u64::from(value);
    }
    Some(number)
}

/// Reads records of one file in order. The file may grow meanwhile: only what lies before the limit is read.
pub struct RecordReader {
    file: Arc<File>,
    path: PathBuf,
    /// Where the next record begins.
    offset: u64,
    limit: u64,
    buffer: Vec<u8>,
    /// The part of the buffer that is not consumed: its start is at `offset`.
    filled: Range<usize>,
}

impl RecordReader {
    /// Reads from `offset`, where a record must begin, up to `limit`.
    pub fn new(file: Arc<File>, path: &Path, offset: u64, limit: u64) -> Self {
        Self { file, path: path.into(), offset, limit, buffer: Vec::new(), filled: 0..0 }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the buffer back. What is read next is read from the file again.
    pub fn release(&mut self) {
        self.buffer = Vec::new();
        self.filled = 0..0;
    }

    /// The length of the next record's payload, or nothing at the limit.
    pub fn peek(&mut self) -> Result<Option<usize>, RecordError> {
        Ok(self.head()?.map(|(_, len)| len))
    }

    /// The payload of the next record, or nothing at the limit.
    pub fn read(&mut self) -> Result<Option<&[u8]>, RecordError> {
        let Some((header, len)) = self.head()? else { return Ok(None) };
        let whole = header + len;
        self.fill(whole)?;
        let start = self.filled.start + header;
        self.filled.start += whole;
        self.offset += whole as u64;
        Ok(Some(&self.buffer[start..self.filled.start]))
    }

    /// The lengths of the next record's header and payload. All of the payload lies before the limit.
    fn head(&mut self) -> Result<Option<(usize, usize)>, RecordError> {
        if self.offset == self.limit {
            return Ok(None);
        }
        self.fill(MAX_HEADER)?;
        let (header, len) = match parse_header(&self.buffer[self.filled.clone()], self.offset) {
            Header::Whole(header, len) => (header, len),
            Header::Partial => return Err(self.torn()),
            Header::Wrong(_) if self.only_zeros_follow()? => return Err(self.torn()),
            Header::Wrong(what) => return Err(self.corrupt(what)),
        };
        let rest = self.limit - self.offset - header as u64;
        if len > rest {
            if self.record_follows()? {
                return Err(self.corrupt("its length reaches beyond the end, but more records follow"));
            }
            return Err(self.torn());
        }
        // Nobody could be sent it, and it would be held in memory by each who reads it.
        if len > LONGEST {
            return Err(self.corrupt("the record is larger than any mutation may be"));
        }
        Ok(Some((header, len as usize)))
    }

    /// Has at least `wanted` unconsumed bytes in the buffer, or all up to the limit.
    fn fill(&mut self, wanted: usize) -> Result<(), RecordError> {
        if self.filled.len() >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let start = self.offset + self.filled.end as u64;
        let readable = usize::try_from(self.limit - start).unwrap_or(usize::MAX);
        let target = wanted.max(CHUNK).min(self.filled.end.saturating_add(readable));
        if self.buffer.len() < target {
            self.buffer.resize(target, 0);
        }
        while self.filled.end < target {
            let at = self.offset + self.filled.end as u64;
            match self.file.read_at(&mut self.buffer[self.filled.end..target], at) {
                Ok(0) => return Err(self.corrupt("the file is shorter than it was")),
                Ok(read) => self.filled.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(RecordError::Io { path: self.path.clone(), offset: at, source });
                }
            }
        }
        Ok(())
    }

    /// Calls `see` with the rest of the file, in overlapping pieces, until it says yes.
    fn search(&self, mut see: impl FnMut(&[u8], u64) -> bool) -> Result<bool, RecordError> {
        let mut piece = vec![0; CHUNK];
        let mut at = self.offset;
        while at < self.limit {
            let len = usize::try_from(self.limit - at).unwrap_or(CHUNK).min(CHUNK);
            self.file.read_exact_at(&mut piece[..len], at).map_err(|source| RecordError::Io {
                path: self.path.clone(),
                offset: at,
                source,
            })?;
            if see(&piece[..len], at) {
                return Ok(true);
            }
            at += len.saturating_sub(MAX_HEADER).max(1).min(len) as u64;
            if len < CHUNK {
                break;
            }
        }
        Ok(false)
    }

    /// A record further on that states its own offset proves that this one was not cut short but damaged.
    fn record_follows(&self) -> Result<bool, RecordError> {
        let after = self.offset;
        self.search(|piece, base| {
            memchr::memmem::find_iter(piece, b"REC@").any(|at| {
                let offset = base + at as u64;
                offset > after && matches!(parse_header(&piece[at..], offset), Header::Whole(..))
            })
        })
    }

    /// Some file systems leave zeros where a write had no time to arrive.
    fn only_zeros_follow(&self) -> Result<bool, RecordError> {
        Ok(!self.search(|piece, _| piece.iter().any(|byte| *byte != 0))?)
    }

    fn torn(&self) -> RecordError {
        RecordError::Torn { path: self.path.clone(), offset: self.offset }
    }

    fn corrupt(&self, what: &'static str) -> RecordError {
        RecordError::Corrupt { path: self.path.clone(), offset: self.offset, what }
    }
}

/// Where the records of a file in memory are.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// Not a whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins.
    pub offset: usize,
    /// Whether the end is all that is missing, or zeros are in its place: a record that is being written looks so.
    pub is_cut: bool,
    what: &'static str,
}

impl Torn {
    /// The error that says so of a file.
    pub fn error(self, path: &Path) -> RecordError {
        let (path, offset) = (path.into(), self.offset as u64);
        if self.is_cut {
            RecordError::Torn { path, offset }
        } else {
            RecordError::Corrupt { path, offset, what: self.what }
        }
    }
}

impl<'a> Frames<'a> {
    /// Those of the file with this content.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Where the next record begins.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Where the payload of the next record is, or nothing at the end.
    ///
    /// # Errors
    ///
    /// There is something, but no record; the next call says the same.
    pub fn read(&mut self) -> Result<Option<Range<usize>>, Torn> {
        let rest = &self.bytes[self.offset..];
        if rest.is_empty() {
            return Ok(None);
        }
        let torn = |is_cut, what| Torn { offset: self.offset, is_cut, what };
        let (header, len) = match parse_header_in_place(rest, self.offset as u64) {
            Header::Whole(header, len) => (header, len),
            Header::Partial => return Err(torn(true, "it is cut short")),
            Header::Wrong(what) => return Err(torn(rest.iter().all(|byte| *byte == 0), what)),
        };
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len() - header);
        let len = len.ok_or_else(|| {
            torn(!self.record_follows(), "its length reaches beyond the end, but more records follow")
        })?;
        let start = self.offset + header;
        self.offset = start + len;
        Ok(Some(start..self.offset))
    }

    /// As [`RecordReader::record_follows`].
    fn record_follows(&self) -> bool {
        let rest = &self.bytes[self.offset + 1..];
        memchr::memmem::find_iter(rest, b"REC@").any(|at| {
            let offset = (self.offset + 1 + at) as u64;
            matches!(parse_header(&rest[at..], offset), Header::Whole(..))
        })
    }
}

/// As [`parse_header`], and the same answers, for the header that nearly all records have.
fn parse_header_in_place(bytes: &[u8], offset: u64) -> Header {
    let quick = || {
        let rest = bytes.get(..MAX_HEADER.min(bytes.len()))?.strip_prefix(b"REC@")?;
        let plus = memchr::memchr(b'+', rest)?;
        let equals = memchr::memchr(b'=', rest)?;
        let stated = parse_length(&rest[..plus])?;
        let len = parse_length(rest.get(plus + 1..equals)?)?;
        (stated == offset).then_some(Header::Whole(4 + equals + 1, len))
    };
    quick().unwrap_or_else(|| parse_header(bytes, offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            let offset = out.len() as u64;
            write_header(&mut out, offset, payload.len());
            out.extend_from_slice(payload);
        }
        out
    }

    /// The payloads that can be read, and what ended the reading.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<RecordError>) {
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(bytes).unwrap();
        let mut reader = RecordReader::new(file.into(), Path::new("a.mutlog"), 0, bytes.len() as u64);
        let mut payloads = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => return (payloads, None),
                Err(error) => return (payloads, Some(error)),
            }
        }
    }

    #[test]
    fn a_header_is_what_go_writes() {
        assert_eq!(frame(&[b"hello".to_vec(), vec![b'x'; 17]])[..19], *b"REC@0+5=helloREC@d+");
    }

    #[test]
    fn headers_that_go_never_writes_are_refused() {
        for bad in [
            "REC@0+05=hello",
            "REC@00+5=hello",
            "REC@0+5+=hello",
            "REC@0+A=0123456789",
            "rec@0+1=x",
            "REC@0=x",
        ] {
            let (payloads, error) = read(bad.as_bytes());
            assert!(payloads.is_empty(), "{bad}");
            assert!(matches!(error, Some(RecordError::Corrupt { offset: 0, .. })), "{bad}: {error:?}");
        }
        let endless = format!("REC@0+{}", "1".repeat(60));
        assert!(matches!(read(endless.as_bytes()).1, Some(RecordError::Corrupt { .. })));
    }

    #[test]
    fn a_record_larger_than_the_buffer_is_read() {
        let payloads = vec![vec![1; 3], vec![2; 3 * CHUNK], vec![3; 5]];
        assert_eq!(read(&frame(&payloads)).0, payloads);
    }

    #[test]
    fn a_tail_of_zeros_is_torn_and_zeros_inside_are_corrupt() {
        let mut bytes = frame(&[b"first".to_vec()]);
        let end = bytes.len() as u64;
        bytes.extend([0; 5000]);
        assert!(matches!(read(&bytes).1, Some(RecordError::Torn { offset, .. }) if offset == end));
        bytes.push(b'x');
        assert!(matches!(read(&bytes).1, Some(RecordError::Corrupt { offset, .. }) if offset == end));
    }

    #[test]
    fn a_damaged_length_in_the_middle_is_no_torn_tail() {
        let payloads: Vec<Vec<u8>> = (0..20).map(|n| vec![b'a' + n; 20]).collect();
        let mut bytes = frame(&payloads);
        let fifteenth = frame(&payloads[..15]).len();
        let length = fifteenth + bytes[fifteenth..].iter().position(|byte| *byte == b'+').unwrap() + 1;
        assert_eq!(bytes[length..length + 3], *b"14=");
        bytes[length] = b'f';
        assert!(
            matches!(read(&bytes).1, Some(RecordError::Corrupt { offset, .. }) if offset == fifteenth as u64)
        );
        // Without anything behind it nothing tells it from a record that was cut short.
        bytes.truncate(frame(&payloads[..16]).len());
        assert!(
            matches!(read(&bytes).1, Some(RecordError::Torn { offset, .. }) if offset == fifteenth as u64)
        );
    }

    /// As [`read`], in memory.
    fn frames(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Torn>) {
        let mut frames = Frames::new(bytes);
        let mut payloads = Vec::new();
        loop {
            match frames.read() {
                Ok(Some(payload)) => payloads.push(bytes[payload].to_vec()),
                Ok(None) => return (payloads, None),
                Err(torn) => return (payloads, Some(torn)),
            }
        }
    }

    proptest! {
        #[test]
        fn records_in_memory_are_those_of_the_file(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in any::<prop::sample::Index>(),
            flip in proptest::option::of((any::<prop::sample::Index>(), 0u8..8)),
        ) {
            let mut bytes = frame(&payloads);
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some((at, bit)) = flip.filter(|_| !bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let ((in_file, error), (in_memory, torn)) = (read(&bytes), frames(&bytes));
            prop_assert_eq!(in_file, in_memory);
            let cut = error.map(|error| matches!(error, RecordError::Torn { .. }));
            prop_assert_eq!(cut, torn.map(|torn| torn.is_cut));
        }

        #[test]
        fn a_cut_anywhere_loses_only_the_record_it_hits(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6)) {
            let bytes = frame(&payloads);
            let mut ends = vec![0];
            for count in 1..=payloads.len() {
                ends.push(frame(&payloads[..count]).len());
            }
            for cut in 0..=bytes.len() {
                let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
                let (read, error) = read(&bytes[..cut]);
                prop_assert_eq!(&read[..], &payloads[..whole]);
                if ends[whole] == cut {
                    prop_assert!(error.is_none());
                } else {
                    let torn = matches!(error, Some(RecordError::Torn { offset, .. }) if offset == ends[whole] as u64);
                    prop_assert!(torn);
                }
            }
        }

        #[test]
        fn a_flipped_bit_never_panics_and_never_changes_what_came_before(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut bytes = frame(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let before = (0..=payloads.len()).rfind(|count| frame(&payloads[..*count]).len() <= at).unwrap();
            let (read, _) = read(&bytes);
            prop_assert!(read.len() >= before);
            prop_assert_eq!(&read[..before], &payloads[..before]);
        }
    }
}
