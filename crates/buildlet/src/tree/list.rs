//! Listing a folder, with digests if asked: what a caller needs to send only what changed.

use std::{
    collections::HashSet,
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cap_std::fs::{Dir, Metadata};

use crate::platform;

/// How much of a file is read at a time.
const BLOCK: usize = 256 << 10;

/// What lies below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, i32),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With its BLAKE3 if asked for.
    File {
        size: u64,
        digest: Option<String>,
    },
    Folder,
    /// Where it leads.
    Link(PathBuf),
}

/// A part of the folder cannot be read, or nobody wants more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("cannot list `{path}`")]
    Read { path: String, source: io::Error },
    #[error("the list was not taken")]
    Untaken,
}

/// Lists all that lies below a folder, but for the excluded paths: each folder before what is in it, names in order.
/// Entries go to `taken`, which returns false when no more are wanted.
pub(crate) fn list(
    root: &Dir,
    exclude: &HashSet<PathBuf>,
    digests: bool,
    mut taken: impl FnMut(Entry) -> bool,
) -> Result<(), ListError> {
    let mut buffer = vec![0; if digests { BLOCK } else { 0 }];
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let failed = |source| ListError::Read { path: path.display().to_string(), source };
        let at_root = path.as_os_str().is_empty();
        let metadata = if at_root { root.dir_metadata() } else { root.symlink_metadata(&path) };
        let metadata = match metadata {
            // A build may remove what was just listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(failed)?,
        };
        if metadata.is_dir() {
            let opened = if at_root { root.try_clone() } else { root.open_dir(&path) };
            let names = opened.and_then(|dir| names(&dir)).map_err(failed)?;
            let below = names.into_iter().map(|name| path.join(name)).filter(|path| !exclude.contains(path));
            pending.extend(below);
        }
        if at_root {
            continue;
        }
        let Some(entry) = entry(root, &path, &metadata, digests.then_some(&mut buffer)).map_err(failed)?
        else {
            continue;
        };
        if !taken(entry) {
            return Err(ListError::Untaken);
        }
    }
    Ok(())
}

/// The names in a folder, the last one first.
fn names(dir: &Dir) -> io::Result<Vec<OsString>> {
    let mut names =
        dir.entries()?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

fn entry(
    root: &Dir,
    path: &Path,
    metadata: &Metadata,
    buffer: Option<&mut Vec<u8>>,
) -> io::Result<Option<Entry>> {
    let kind = if metadata.is_dir() {
        Kind::Folder
    } else if metadata.is_symlink() {
        Kind::Link(root.read_link_contents(path)?)
    } else if metadata.is_file() {
        let digest = buffer.map(|buffer| digest(root, path, buffer)).transpose()?;
        Kind::File { size: metadata.len(), digest }
    } else {
        return Ok(None);
    };
    let (mode, modified) = (platform::mode(metadata), platform::modified(metadata));
    Ok(Some(Entry { path: path.to_owned(), kind, mode, modified }))
}

fn digest(root: &Dir, path: &Path, buffer: &mut [u8]) -> io::Result<String> {
    let mut file = root.open(path)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Bytes on disk of all that lies below a folder, as far as it can be read. What is linked twice counts twice.
pub(crate) fn size(root: &Dir) -> u64 {
    let mut bytes = 0;
    let mut pending: Vec<Dir> = root.try_clone().into_iter().collect();
    while let Some(dir) = pending.pop() {
        for entry in dir.entries().into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += platform::bytes_on_disk(&metadata);
            if metadata.is_dir() {
                pending.extend(entry.open_dir());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_tree_is_listed_in_order_with_digests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("b/c")).unwrap();
        fs::create_dir_all(path.join("skip/x")).unwrap();
        fs::write(path.join("b/c/file"), "content").unwrap();
        fs::write(path.join("a"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", path.join("b/link")).unwrap();
        let dir = Dir::open_ambient_dir(path, ambient_authority()).unwrap();
        let mut found = Vec::new();
        let exclude = HashSet::from([PathBuf::from("skip")]);
        list(&dir, &exclude, true, |entry| {
            found.push(entry);
            true
        })
        .unwrap();
        let paths: Vec<_> = found.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["a", "b", "b/c", "b/c/file", "b/link"]);
        let digest = Some(blake3::hash(b"content").to_hex().to_string());
        assert_eq!(found[3].kind, Kind::File { size: 7, digest });
        assert_eq!(found[4].kind, Kind::Link("/nowhere".into()));
        assert!(matches!(list(&dir, &exclude, false, |_| false), Err(ListError::Untaken)));
        assert!(size(&dir) >= 4096);
    }
}
