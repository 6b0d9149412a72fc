//! Writing a generated log as a folder of segments.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use sha2::{Digest as _, Sha224};

use super::{Generator, Scale};
use crate::log::{Extent, record::write_header};

/// A segment is closed before it grows beyond this.
const SEGMENT: usize = 16 * 1024 * 1024;

/// How the files of the folder are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `NNNN.<sha224>.mutlog`, the last one growing: what we write, and what Go's follower caches.
    Segments,
    /// `maintner-2006-01-02.mutlog`: what Go's maintner writes to a disk.
    Days,
}

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The folder has something in it that would mix with the log.
    #[error("`{}` is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The disk said no.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Writes a whole log to a folder that is empty, or not there yet. Blocks on the disk.
pub fn write(dir: &Path, seed: u64, scale: Scale, layout: Layout) -> Result<Extent, GenerateError> {
    let io = |source| GenerateError::Io { path: dir.into(), source };
    fs::create_dir_all(dir).map_err(io)?;
    if fs::read_dir(dir).map_err(io)?.next().is_some() {
        return Err(GenerateError::NotEmpty(dir.into()));
    }
    let mut writer = Writer { dir, layout, number: 0, segment: Vec::with_capacity(SEGMENT), total: 0 };
    let mut position = 0;
    let mut payload = Vec::new();
    for mutation in Generator::new(seed, scale) {
        payload.clear();
        mutation.encode_raw(&mut payload);
        writer.append(&payload)?;
        position += 1;
    }
    writer.finish(true)?;
    Ok(Extent { position, bytes: writer.total })
}

struct Writer<'a> {
    dir: &'a Path,
    layout: Layout,
    number: u32,
    segment: Vec<u8>,
    total: u64,
}

impl Writer<'_> {
    fn append(&mut self, payload: &[u8]) -> Result<(), GenerateError> {
        if !self.segment.is_empty() && self.segment.len() + payload.len() + 40 > SEGMENT {
            self.finish(false)?;
        }
        let offset = self.segment.len() as u64;
        write_header(&mut self.segment, offset, payload.len());
        self.segment.extend_from_slice(payload);
        Ok(())
    }

    fn finish(&mut self, last: bool) -> Result<(), GenerateError> {
        let number = self.number;
        let name = match self.layout {
            Layout::Days => format!(
                "maintner-{}-{:02}-{:02}.mutlog",
                2015 + number / 336,
                number / 28 % 12 + 1,
                number % 28 + 1
            ),
            Layout::Segments if last => format!("{number:04}.growing.mutlog"),
            Layout::Segments => format!("{number:04}.{}.mutlog", hex::encode(Sha224::digest(&self.segment))),
        };
        let path = self.dir.join(name);
        let write = || File::create(&path)?.write_all(&self.segment);
        write().map_err(|source| GenerateError::Io { path: path.clone(), source })?;
        self.total += self.segment.len() as u64;
        self.segment.clear();
        self.number += 1;
        Ok(())
    }
}
