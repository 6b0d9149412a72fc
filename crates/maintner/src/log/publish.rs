//! The log as followers over HTTP see it: whole segments, with their sizes and hashes.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::Bytes;

use super::{Log, ReadError, state::Segment};

/// What is said about a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its place in the order, from 0.
    pub number: u32,
    /// Its durable bytes.
    pub bytes: u64,
    /// Their SHA-224, hexadecimal.
    pub sha224: String,
    /// Whether it will never change.
    pub frozen: bool,
}

impl Published {
    fn of(number: usize, of: usize, segment: &Segment) -> Self {
        Self {
            number: number as u32,
            bytes: segment.bytes,
            sha224: hex::encode(segment.digest.value()),
            frozen: number + 1 < of,
        }
    }

    /// The name that its content gives a frozen segment, whatever its file is called.
    pub fn name(&self) -> String {
        format!("{:04}.{}.mutlog", self.number, self.sha224)
    }
}

/// The bytes of a segment, as far as they were durable when it was asked for.
#[derive(Debug, Clone)]
pub struct Content {
    file: Arc<File>,
    /// What is in it.
    pub segment: Published,
}

impl Content {
    /// Reads so many bytes. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk says; also if the bytes reach beyond the end.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Log {
    /// All segments in order. The growing one is the last, and may be empty.
    pub fn published(&self) -> Vec<Published> {
        self.shared.with_segments(|all| {
            all.iter()
                .enumerate()
                .map(|(number, segment)| Published::of(number, all.len(), segment))
                .collect()
        })
    }

    /// The bytes of one segment, if there is one of this number. Blocks on the disk.
    pub fn content(&self, number: u32) -> Result<Option<Content>, ReadError> {
        let found = self.shared.with_segments(|all| {
            let segment = all.get(number as usize)?;
            let published = Published::of(number as usize, all.len(), segment);
            Some((published, segment.file.clone(), segment.path.clone()))
        });
        let Some((segment, file, path)) = found else { return Ok(None) };
        let file = match file {
            Some(file) => file,
            None => open(&path)?,
        };
        Ok(Some(Content { file, segment }))
    }
}

fn open(path: &Path) -> Result<Arc<File>, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Open { path: path.into(), source })?;
    Ok(Arc::new(file))
}
