//! The segments of a folder, seen from outside: for those who read a log that they do not hold.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    OpenError, file,
    layout::{self, SegmentName},
};

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name, which for a frozen segment says what is in it.
    pub name: String,
    /// How large it is now.
    pub bytes: u64,
    /// Whether it may still grow: then its last record may not be whole.
    pub grows: bool,
}

/// The segments in `dir`, in order. Nobody needs to hold the log, and whoever does may go on writing.
///
/// # Errors
///
/// The folder cannot be read, or a segment is missing between others.
pub fn segment_files(dir: &Path) -> Result<Vec<SegmentFile>, OpenError> {
    // A segment that is frozen meanwhile has another name when it is looked at.
    list_files(dir).or_else(|_| list_files(dir))
}

fn list_files(dir: &Path) -> Result<Vec<SegmentFile>, OpenError> {
    let names = layout::adopt(dir, &layout::list(dir)?)?;
    let last = names.len().saturating_sub(1);
    let segment = |(at, name): (usize, SegmentName)| {
        let (path, text) = (file(dir, &name.file_name()), name.file_name());
        let metadata = fs::metadata(&path);
        let bytes =
            metadata.map_err(|source| OpenError::Io { action: "look at", path: path.clone(), source })?.len();
        let grows = match name {
            SegmentName::Growing { .. } => true,
            SegmentName::Daily(_) => at == last,
            SegmentName::Frozen { .. } => false,
        };
        Ok(SegmentFile { path, name: text, bytes, grows })
    };
    names.into_iter().enumerate().map(segment).collect()
}

impl SegmentFile {
    /// What the segment holds. One that never changes is mapped, one that may grow is read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn load(&self) -> Result<Bytes, OpenError> {
        let io = |action| move |source| OpenError::Io { action, path: self.path.clone(), source };
        let mut opened = File::open(&self.path).map_err(io("open"))?;
        if self.grows {
            let mut bytes = Vec::with_capacity(usize::try_from(self.bytes).unwrap_or(0));
            opened.by_ref().take(self.bytes).read_to_end(&mut bytes).map_err(io("read"))?;
            return Ok(bytes.into());
        }
        let mapped = crate::map::frozen(&opened).map_err(io("map"))?;
        // Whoever replaced the file since it was listed broke the rule that it never changes.
        if mapped.len() as u64 != self.bytes {
            let what = format!("has {} bytes now, and had {}", mapped.len(), self.bytes);
            return Err(OpenError::Segment { path: self.path.clone(), what });
        }
        Ok(mapped)
    }
}
