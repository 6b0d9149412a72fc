//! Packing a folder as tar.zst: always the same bytes for the same tree.

use std::{
    collections::HashSet,
    ffi::OsString,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use cap_std::fs::{Dir, Metadata};
use tar::{Builder, EntryType, Header};

use crate::platform;

/// As `zstd` does by itself.
const LEVEL: i32 = 3;

/// A tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// Part of it cannot be read.
    #[error("cannot pack `{path}`")]
    Read { path: String, source: io::Error },
    /// Nobody takes the archive.
    #[error("the archive was not taken")]
    Write(#[source] io::Error),
}

/// Packs a folder, without the excluded paths below it, as tar.zst. Returns the writer.
///
/// Sockets, pipes and devices are left out: they mean nothing elsewhere.
pub(crate) fn pack<W: Write>(dir: &Dir, exclude: &HashSet<PathBuf>, writer: W) -> Result<W, PackError> {
    let mut encoder = zstd::Encoder::new(writer, LEVEL).map_err(PackError::Write)?;
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    encoder.multithread(workers as u32).map_err(PackError::Write)?;
    let mut builder = Builder::new(encoder);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut below = pack_folder(dir, &folder, exclude, &mut builder)?;
        below.reverse();
        folders.append(&mut below);
    }
    let encoder = builder.into_inner().map_err(PackError::Write)?;
    encoder.finish().map_err(PackError::Write)
}

/// Packs what lies directly in a folder; returns the folders in it.
fn pack_folder(
    root: &Dir,
    folder: &Path,
    exclude: &HashSet<PathBuf>,
    builder: &mut Builder<impl Write>,
) -> Result<Vec<PathBuf>, PackError> {
    let unreadable = |path: &Path, source| PackError::Read { path: path.display().to_string(), source };
    let opened = if folder.as_os_str().is_empty() { root.try_clone() } else { root.open_dir(folder) };
    let dir = opened.map_err(|error| unreadable(folder, error))?;
    let mut folders = Vec::new();
    for name in names(&dir).map_err(|error| unreadable(folder, error))? {
        let path = folder.join(&name);
        if exclude.contains(&path) {
            continue;
        }
        let metadata = dir.symlink_metadata(&name).map_err(|error| unreadable(&path, error))?;
        let mut header = header(&metadata);
        let packed = if metadata.is_dir() {
            folders.push(path.clone());
            builder.append_data(&mut header, &path, io::empty()).map_err(PackError::Write)
        } else if metadata.is_symlink() {
            let target = dir.read_link_contents(&name).map_err(|error| unreadable(&path, error))?;
            builder.append_link(&mut header, &path, target).map_err(PackError::Write)
        } else if metadata.is_file() {
            let file = dir.open(&name).map_err(|error| unreadable(&path, error))?;
            let exact = Exact { inner: file, left: metadata.len() };
            builder.append_data(&mut header, &path, exact).map_err(PackError::Write)
        } else {
            Ok(())
        };
        packed?;
    }
    Ok(folders)
}

fn names(dir: &Dir) -> io::Result<Vec<OsString>> {
    let mut names =
        dir.entries()?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(platform::mode(metadata));
    header.set_mtime(u64::try_from(platform::modified(metadata).0).unwrap_or(0));
    header.set_size(0);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
    } else if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
    } else {
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
    }
    header
}

/// Exactly so many bytes, though the file grows or shrinks meanwhile: the header has said how many there are.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..want])?;
        if read == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file shrank while it was packed"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use cap_std::ambient_authority;

    use super::*;
    use crate::tree::Bounds;
    use crate::tree::{Format, unpack};

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, ambient_authority()).unwrap()
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path();
        fs::create_dir_all(path.join("a/empty")).unwrap();
        fs::create_dir_all(path.join("skip/below")).unwrap();
        fs::write(path.join("a/file"), "content").unwrap();
        fs::write(path.join("a").join("n".repeat(200)), "long name").unwrap();
        fs::write(path.join("skip/below/x"), "x").unwrap();
        fs::write(path.join("big"), vec![7; 3 << 20]).unwrap();
        symlink("/etc/passwd", path.join("a/link")).unwrap();
        tree
    }

    #[test]
    fn a_tree_comes_back_as_it_was_without_what_was_excluded() {
        let (from, to) = (tree(), tempfile::tempdir().unwrap());
        let exclude = HashSet::from([PathBuf::from("skip/below")]);
        let bytes = pack(&open(from.path()), &exclude, Vec::new()).unwrap();
        let bounds = Bounds { now: i64::MAX, floor_bytes: 0, most_bytes: u64::MAX };
        assert_eq!(unpack(bytes.as_slice(), Format::TarZst, &open(to.path()), bounds).unwrap(), 7);
        assert_eq!(fs::read_to_string(to.path().join("a/file")).unwrap(), "content");
        assert_eq!(fs::read_to_string(to.path().join("a").join("n".repeat(200))).unwrap(), "long name");
        assert_eq!(fs::read(to.path().join("big")).unwrap().len(), 3 << 20);
        assert_eq!(fs::read_link(to.path().join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(to.path().join("a/empty").is_dir() && to.path().join("skip").is_dir());
        assert!(!to.path().join("skip/below").exists());
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let tree = tree();
        let once = || pack(&open(tree.path()), &HashSet::new(), Vec::new()).unwrap();
        assert!(once() == once());
    }
}
