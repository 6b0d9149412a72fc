//! The disk's side of unpacking: makes what an archive holds, in its order.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
};

use cap_std::fs::Dir;

use super::{Bounds, UnpackError};
use crate::{folder, platform};

/// How many folders are kept open: the last one and those above it.
const OPEN: usize = 32;

/// How much is written before the room on the disk is looked at again.
const CHECKED: u64 = 16 << 20;
/// What a file takes at least.
const SMALLEST: u64 = 4 << 10;

/// Something to make. All paths are relative and have only normal components, at least one.
#[derive(Debug)]
pub(super) enum Item {
    /// A file with the beginning of its content; if that is not all, [`Item::More`] follows at once.
    File { path: PathBuf, mode: u32, modified: i64, content: Vec<u8>, more: bool },
    /// More of the last file.
    More { path: PathBuf, content: Vec<u8>, more: bool },
    /// A folder.
    Folder { path: PathBuf, mode: u32 },
    /// A symbolic link.
    Symlink { path: PathBuf, target: OsString },
    /// A hard link to what was made before.
    Link { path: PathBuf, target: PathBuf },
}

/// What is being made.
pub(super) struct Placing<'a> {
    into: &'a Dir,
    bounds: Bounds,
    /// Bytes written, and those since room was looked for.
    written: u64,
    unchecked: u64,
    /// Open folders, each below the one before it.
    folders: Vec<(PathBuf, Dir)>,
    /// Folders that are not for writing, which can be made so only when all is in them.
    modes: Vec<(PathBuf, u32)>,
    /// A file that is not whole yet.
    file: Option<(std::fs::File, i64)>,
    entries: u64,
}

impl<'a> Placing<'a> {
    /// Nothing is made yet.
    pub(super) fn new(into: &'a Dir, bounds: Bounds) -> Self {
        // Whether there is any room is looked at before anything is written.
        let unchecked = CHECKED;
        let (folders, modes) = (Vec::new(), Vec::new());
        Self { into, bounds, written: 0, unchecked, folders, modes, file: None, entries: 0 }
    }

    /// Makes all that comes; returns how many files and folders that were.
    pub(super) fn run(mut self, batches: &Receiver<Vec<Item>>) -> Result<u64, UnpackError> {
        while let Ok(batch) = batches.recv() {
            for item in batch {
                self.item(item)?;
            }
        }
        for (path, mode) in std::mem::take(&mut self.modes).into_iter().rev() {
            platform::set_mode(self.into, &path, mode).map_err(|error| failed(&path, error))?;
        }
        Ok(self.entries)
    }

    fn item(&mut self, item: Item) -> Result<(), UnpackError> {
        if !matches!(item, Item::More { .. }) {
            self.entries += 1;
        }
        if let Item::File { path, content, .. } | Item::More { path, content, .. } = &item {
            self.make_room(path, content.len() as u64)?;
        }
        match item {
            Item::File { path, mode, modified, content, more } => {
                let file = self.create(&path, mode)?;
                self.write(&path, file, modified, &content, more)
            }
            Item::More { path, content, more } => match self.file.take() {
                Some((file, modified)) => self.write(&path, file, modified, &content, more),
                None => Ok(()),
            },
            Item::Folder { path, mode } => self.folder(&path, mode),
            Item::Symlink { path, target } => self.symlink(&path, &target),
            Item::Link { path, target } => self.link(&path, &target),
        }
    }

    /// Small archives can hold much: whatever one says, what others need of the disk stays free.
    fn make_room(&mut self, path: &Path, bytes: u64) -> Result<(), UnpackError> {
        self.written += bytes;
        self.unchecked += bytes.max(SMALLEST);
        let full = |why: &str| Err(failed(path, io::Error::new(io::ErrorKind::StorageFull, why)));
        if self.written > self.bounds.most_bytes {
            return full("the archive holds more than the work folder may");
        }
        if self.unchecked >= CHECKED {
            self.unchecked = 0;
            let free = platform::free_bytes(self.into).map_err(|error| failed(path, error))?;
            if free < self.bounds.floor_bytes {
                return full("the disk is nearly full");
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        path: &Path,
        mut file: std::fs::File,
        modified: i64,
        content: &[u8],
        more: bool,
    ) -> Result<(), UnpackError> {
        file.write_all(content).map_err(|error| failed(path, error))?;
        if more {
            self.file = Some((file, modified));
            return Ok(());
        }
        platform::set_modified(&file, modified.min(self.bounds.now)).map_err(|error| failed(path, error))
    }

    /// Makes a file that was not there. What lay in its place is removed, not followed.
    fn create(&mut self, path: &Path, mode: u32) -> Result<std::fs::File, UnpackError> {
        let (parent, name) = self.place(path)?;
        platform::new_file(parent, name, mode).map_err(|error| failed(path, error))
    }

    fn folder(&mut self, path: &Path, mode: u32) -> Result<(), UnpackError> {
        let (parent, name) = self.place(path)?;
        let mut replaces = false;
        let made = match parent.create_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match parent.symlink_metadata(name)
            {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => {
                    replaces = true;
                    parent.remove_file(name).and_then(|()| parent.create_dir(name))
                }
                Err(error) => Err(error),
            },
            made => made,
        };
        made.map_err(|error| failed(path, error))?;
        if replaces {
            // A link may have led to what is open now.
            self.folders.clear();
        }
        if mode & 0o700 != 0o700 {
            self.modes.push((path.to_owned(), mode));
        }
        Ok(())
    }

    fn symlink(&mut self, path: &Path, target: &OsStr) -> Result<(), UnpackError> {
        let (parent, name) = self.place(path)?;
        let made = match platform::symlink(parent, target, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.remove_file(name).and_then(|()| platform::symlink(parent, target, name))
            }
            made => made,
        };
        made.map_err(|error| failed(path, error))
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        let into = self.into;
        let (parent, name) = self.place(path)?;
        let made = match into.hard_link(target, parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                parent.remove_file(name).and_then(|()| into.hard_link(target, parent, name))
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

    /// The folder that an entry goes into, made if need be, and its name there. Archives list what lies together
    /// together, so the folder is mostly open already.
    fn place<'p>(&mut self, path: &'p Path) -> Result<(&Dir, &'p OsStr), UnpackError> {
        let name =
            path.file_name().expect("a path with only normal components, at least one, has a last one");
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.as_os_str().is_empty() {
            return Ok((self.into, name));
        }
        while self.folders.last().is_some_and(|(last, _)| !folder.starts_with(last)) {
            self.folders.pop();
        }
        if self.folders.last().is_none_or(|(last, _)| last != folder) {
            let opened = match self.into.open_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.into.create_dir_all(folder).and_then(|()| self.into.open_dir(folder))
                }
                opened => opened,
            };
            if self.folders.len() == OPEN {
                self.folders.remove(0);
            }
            self.folders.push((folder.to_owned(), opened.map_err(|error| failed(path, error))?));
        }
        let (_, dir) = self.folders.last().expect("it was opened just now if it was not open before");
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
