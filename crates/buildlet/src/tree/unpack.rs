//! Unpacking archives, which may be made to do harm.
//!
//! Every name is resolved beneath the folder by the operating system; a file is always made anew, never written
//! through what lies in its place; links may point anywhere, since nothing of ours follows them out.
//!
//! Two threads share the work, of which each takes about as long: this one reads the archive, [`super::place`] writes
//! what it holds. Between them are a few batches, so memory is bounded whatever the archive says.

use std::{
    ffi::OsString,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::mpsc::{SyncSender, sync_channel},
};

use cap_std::fs::Dir;
use tar::{Archive, Entry, EntryType};

use super::place::{Item, Placing};
use crate::platform;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Tar,
    TarGz,
    TarZst,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tar" => Ok(Self::Tar),
            "tar.gz" => Ok(Self::TarGz),
            "tar.zst" => Ok(Self::TarZst),
            _ => Err(format!("`{text}` is not `tar`, `tar.gz` or `tar.zst`")),
        }
    }
}

impl Format {
    /// As a file name ends.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        [(".tar", Self::Tar), (".tar.gz", Self::TarGz), (".tar.zst", Self::TarZst)]
            .into_iter()
            .find(|(ending, _)| path.ends_with(ending))
            .map(|(_, format)| format)
    }
}

/// Why an archive was not unpacked, or not wholly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is not an archive, or one that does harm.
    #[error("the archive cannot be unpacked: {0}")]
    Archive(String),
    /// Its bytes did not all come.
    #[error("the archive was broken off")]
    BrokenOff,
    /// The disk.
    #[error("cannot write `{path}`")]
    Write { path: String, source: io::Error },
}

/// How much is decompressed at a time. Little of it at once would cost as much as the decompression itself.
const BLOCK: usize = 256 << 10;
/// A batch for the writing thread is sent when it holds so many bytes, or so many items.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_ITEMS: usize = 128;
/// How many batches wait for the writing thread.
const DEPTH: usize = 8;

/// What an archive may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Later times, in seconds since 1970, become this.
    pub(crate) now: i64,
    /// How many bytes of the disk stay free.
    pub(crate) floor_bytes: u64,
    /// How many bytes its files may have.
    pub(crate) most_bytes: u64,
}

/// Unpacks an archive into a folder; returns how many files and folders were made.
pub(crate) fn unpack(
    bytes: impl Read + Send,
    format: Format,
    into: &Dir,
    bounds: Bounds,
) -> Result<u64, UnpackError> {
    let (sender, receiver) = sync_channel(DEPTH);
    std::thread::scope(|scope| {
        let placing = scope.spawn(move || Placing::new(into, bounds).run(&receiver));
        let read = read(bytes, format, Batches { sender, items: Vec::new(), bytes: 0 });
        let placed = placing.join().unwrap_or_else(|_| Err(UnpackError::Archive("it broke us".to_owned())));
        // What cannot be written comes first: it is why the reading stopped, if it did.
        let placed = placed?;
        read.map(|()| placed)
    })
}

fn read(bytes: impl Read, format: Format, batches: Batches) -> Result<(), UnpackError> {
    match format {
        Format::Tar => read_tar(BufReader::with_capacity(BLOCK, bytes), batches),
        Format::TarGz => {
            let packed = BufReader::with_capacity(BLOCK, bytes);
            read_tar(BufReader::with_capacity(BLOCK, flate2::bufread::MultiGzDecoder::new(packed)), batches)
        }
        Format::TarZst => {
            let decoder = zstd::Decoder::new(bytes).map_err(|error| bad(&error))?;
            read_tar(BufReader::with_capacity(BLOCK, decoder), batches)
        }
    }
}

fn bad(error: &io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => UnpackError::BrokenOff,
        _ => UnpackError::Archive(error.to_string()),
    }
}

fn read_tar(reader: impl Read, mut batches: Batches) -> Result<(), UnpackError> {
    let mut archive = Archive::new(reader);
    for entry in archive.entries().map_err(|error| bad(&error))? {
        if !read_entry(entry.map_err(|error| bad(&error))?, &mut batches)? {
            return Ok(());
        }
    }
    batches.send();
    // Bytes after the end of the archive still count for its digest, and a sender must not block on them.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| bad(&error))?;
    Ok(())
}

/// Reads one entry; false when the writing thread has given up, and says why.
fn read_entry(mut entry: Entry<'_, impl Read>, batches: &mut Batches) -> Result<bool, UnpackError> {
    let kind = entry.header().entry_type();
    // git archive begins with one of these, whose name is no path.
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(true);
    }
    let name = entry.path_bytes().into_owned();
    let path = relative(&name, "the name")?;
    if path.as_os_str().is_empty() {
        return Ok(true);
    }
    let mode = entry.header().mode().map_err(|error| bad(&error))? & 0o777;
    Ok(match kind {
        // As the oldest archives write folders.
        EntryType::Regular if name.ends_with(b"/") => batches.push(Item::Folder { path, mode }, 0),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            return read_file(&path, mode, &mut entry, batches);
        }
        EntryType::Directory => batches.push(Item::Folder { path, mode }, 0),
        EntryType::Symlink => {
            let target = symlink_target(&path, &entry)?;
            batches.push(Item::Symlink { path, target }, 0)
        }
        EntryType::Link => {
            let target = relative(&entry.link_name_bytes().unwrap_or_default(), "the link")?;
            batches.push(Item::Link { path, target }, 0)
        }
        _ => {
            let name = path.display();
            return Err(UnpackError::Archive(format!("`{name}` is no file, folder or link")));
        }
    })
}

fn read_file(
    name: &Path,
    mode: u32,
    entry: &mut Entry<'_, impl Read>,
    batches: &mut Batches,
) -> Result<bool, UnpackError> {
    let modified = entry.header().mtime().map_err(|error| bad(&error))?;
    let modified = i64::try_from(modified).unwrap_or(i64::MAX);
    let mut left = entry.size();
    let content = read_piece(name, &mut left, entry)?;
    let length = content.len();
    let path = name.to_owned();
    let mut wanted = batches.push(Item::File { path, mode, modified, content, more: left > 0 }, length);
    while wanted && left > 0 {
        let content = read_piece(name, &mut left, entry)?;
        let length = content.len();
        wanted = batches.push(Item::More { path: name.to_owned(), content, more: left > 0 }, length);
    }
    Ok(wanted)
}

/// The next piece of a file, no longer than a batch: what the header says of its length is not trusted with memory.
fn read_piece(path: &Path, left: &mut u64, entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(BATCH_BYTES);
    let mut content = Vec::with_capacity(length);
    let read = entry.by_ref().take(length as u64).read_to_end(&mut content).map_err(|error| bad(&error))?;
    if read < length {
        return Err(UnpackError::Archive(format!("`{}` is cut short", path.display())));
    }
    *left -= read as u64;
    Ok(content)
}

fn symlink_target(path: &Path, entry: &Entry<'_, impl Read>) -> Result<OsString, UnpackError> {
    let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
    let target =
        target.ok_or_else(|| UnpackError::Archive(format!("the link `{}` is empty", path.display())))?;
    platform::link_target(target.into_owned())
        .ok_or_else(|| UnpackError::Archive(format!("the link `{}` leads to no name", path.display())))
}

/// Items on their way to the writing thread.
struct Batches {
    sender: SyncSender<Vec<Item>>,
    items: Vec<Item>,
    bytes: usize,
}

impl Batches {
    /// Adds an item; false when nobody wants it.
    fn push(&mut self, item: Item, bytes: usize) -> bool {
        self.items.push(item);
        self.bytes += bytes;
        if self.bytes < BATCH_BYTES && self.items.len() < BATCH_ITEMS {
            return true;
        }
        self.send()
    }

    fn send(&mut self) -> bool {
        self.bytes = 0;
        self.sender.send(std::mem::take(&mut self.items)).is_ok()
    }
}

/// A name in an archive as a path below its folder.
fn relative(bytes: &[u8], what: &str) -> Result<PathBuf, UnpackError> {
    let bad = |why: &str| UnpackError::Archive(format!("{what} `{}` {why}", String::from_utf8_lossy(bytes)));
    let leads_out = "leads out of its folder";
    if bytes.contains(&0) || bytes.first() == Some(&b'/') {
        return Err(bad(leads_out));
    }
    let mut path = PathBuf::new();
    for name in bytes.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(bad(leads_out)),
            name => {
                let name = platform::file_name(name);
                path.push(name.map_err(|why| bad(&format!("cannot be one: {why}")))?);
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
