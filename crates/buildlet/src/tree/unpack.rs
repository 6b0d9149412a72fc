//! Unpacking archives, which may be made to do harm.
//!
//! Every name is resolved beneath the folder by the operating system; a file is always made anew, never written
//! through what lies in its place; links may point anywhere, since nothing of ours follows them out.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use rustix::fs::{Timespec, Timestamps, futimens};
use tar::{Archive, Entry, EntryType};

use crate::folder;

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

/// Unpacks an archive into a folder; returns how many files and folders were made. Times later than `now`, in seconds
/// since 1970, become `now`.
pub(crate) fn unpack(bytes: impl Read, format: Format, into: &Dir, now: i64) -> Result<u64, UnpackError> {
    let unpacking =
        Unpacking { into, now, parent: None, modes: Vec::new(), buffer: vec![0; 128 << 10], entries: 0 };
    match format {
        Format::Tar => unpacking.run(io::BufReader::with_capacity(128 << 10, bytes)),
        Format::TarGz => unpacking.run(flate2::read::MultiGzDecoder::new(bytes)),
        Format::TarZst => unpacking.run(zstd::Decoder::new(bytes).map_err(|error| bad(&error))?),
    }
}

fn bad(error: &io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => UnpackError::BrokenOff,
        _ => UnpackError::Archive(error.to_string()),
    }
}

struct Unpacking<'a> {
    into: &'a Dir,
    now: i64,
    /// The folder of the last entry: mostly that of the next, too.
    parent: Option<(PathBuf, Dir)>,
    /// Folders that are not for writing, which can be made so only when all is in them.
    modes: Vec<(PathBuf, u32)>,
    buffer: Vec<u8>,
    entries: u64,
}

impl Unpacking<'_> {
    fn run(mut self, reader: impl Read) -> Result<u64, UnpackError> {
        let mut archive = Archive::new(reader);
        for entry in archive.entries().map_err(|error| bad(&error))? {
            self.entry(entry.map_err(|error| bad(&error))?)?;
        }
        // Bytes after the end of the archive still count for its digest, and a sender must not block on them.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| bad(&error))?;
        for (path, mode) in std::mem::take(&mut self.modes).into_iter().rev() {
            let permissions = Permissions::from_mode(mode);
            self.into.set_permissions(&path, permissions).map_err(|error| failed(&path, error))?;
        }
        Ok(self.entries)
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        // git archive begins with one of these, whose name is no path.
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let path = relative(&name, "the name")?;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match kind {
            // As the oldest archives write folders.
            EntryType::Regular if name.ends_with(b"/") => self.folder(&path, &entry)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&path, &mut entry)?;
            }
            EntryType::Directory => self.folder(&path, &entry)?,
            EntryType::Symlink => self.symlink(&path, &entry)?,
            EntryType::Link => self.link(&path, &entry)?,
            _ => {
                let name = path.display();
                return Err(UnpackError::Archive(format!("`{name}` is no file, folder or link")));
            }
        }
        self.entries += 1;
        Ok(())
    }

    fn file(&mut self, path: &Path, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let mode = entry.header().mode().map_err(|error| bad(&error))? & 0o777;
        let size = entry.size();
        let modified = entry.header().mtime().map_err(|error| bad(&error))?;
        let mut file = self.create(path, mode)?;
        let mut left = size;
        while left > 0 {
            let read = entry.read(&mut self.buffer).map_err(|error| bad(&error))?;
            if read == 0 {
                return Err(UnpackError::Archive(format!("`{}` is cut short", path.display())));
            }
            file.write_all(&self.buffer[..read]).map_err(|error| failed(path, error))?;
            left = left.saturating_sub(read as u64);
        }
        let seconds = i64::try_from(modified).unwrap_or(i64::MAX).min(self.now);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .map_err(|error| failed(path, error.into()))
    }

    /// Makes a file that was not there. What lay in its place is removed, not followed.
    fn create(&mut self, path: &Path, mode: u32) -> Result<File, UnpackError> {
        let (parent, name) = self.place(path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let made = match parent.open_with(name, &options) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.remove_file(name).and_then(|()| parent.open_with(name, &options))
            }
            made => made,
        };
        made.map_err(|error| failed(path, error))
    }

    fn folder(&mut self, path: &Path, entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let mode = entry.header().mode().map_err(|error| bad(&error))? & 0o777;
        let (parent, name) = self.place(path)?;
        let made = match parent.create_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match parent.symlink_metadata(name)
            {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => parent.remove_file(name).and_then(|()| parent.create_dir(name)),
                Err(error) => Err(error),
            },
            made => made,
        };
        made.map_err(|error| failed(path, error))?;
        if mode & 0o700 != 0o700 {
            self.modes.push((path.to_owned(), mode));
        }
        Ok(())
    }

    fn symlink(&mut self, path: &Path, entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
        let target =
            target.ok_or_else(|| UnpackError::Archive(format!("the link `{}` is empty", path.display())))?;
        let target = OsStr::from_bytes(&target);
        let (parent, name) = self.place(path)?;
        let made = match parent.symlink_contents(target, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.remove_file(name).and_then(|()| parent.symlink_contents(target, name))
            }
            made => made,
        };
        made.map_err(|error| failed(path, error))
    }

    fn link(&mut self, path: &Path, entry: &Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let target = entry.link_name_bytes().unwrap_or_default();
        let target = relative(&target, "the link")?;
        let into = self.into;
        let (parent, name) = self.place(path)?;
        let made = match into.hard_link(&target, parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.remove_file(name).and_then(|()| into.hard_link(&target, parent, name))
            }
            made => made,
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(UnpackError::Archive(format!("`{}` links to what is not there", path.display())))
            }
            made => made.map_err(|error| failed(path, error)),
        }
    }

    /// The folder that an entry goes into, made if need be, and its name there.
    fn place<'p>(&mut self, path: &'p Path) -> Result<(&Dir, &'p OsStr), UnpackError> {
        let name =
            path.file_name().expect("a path with only normal components, at least one, has a last one");
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.as_os_str().is_empty() {
            return Ok((self.into, name));
        }
        if self.parent.as_ref().is_none_or(|(last, _)| last != folder) {
            let opened = match self.into.open_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.into.create_dir_all(folder).and_then(|()| self.into.open_dir(folder))
                }
                opened => opened,
            };
            self.parent = Some((folder.to_owned(), opened.map_err(|error| failed(path, error))?));
        }
        let (_, dir) = self.parent.as_ref().expect("it was set just now if it was not before");
        Ok((dir, name))
    }
}

fn failed(path: &Path, source: io::Error) -> UnpackError {
    let path = path.display().to_string();
    if folder::is_escape(&source) {
        return UnpackError::Archive(format!("`{path}` leads out of its folder"));
    }
    match source.kind() {
        // The archive contradicts itself, or what lies there: a file where a folder is needed, or the other way.
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidFilename => {
            UnpackError::Archive(format!("`{path}` cannot be made: {source}"))
        }
        _ => UnpackError::Write { path, source },
    }
}

/// A name in an archive as a path below its folder.
fn relative(bytes: &[u8], what: &str) -> Result<PathBuf, UnpackError> {
    let bad = || {
        UnpackError::Archive(format!("{what} `{}` leads out of its folder", String::from_utf8_lossy(bytes)))
    };
    if bytes.contains(&0) {
        return Err(bad());
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return Err(bad()),
        }
    }
    Ok(path)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
