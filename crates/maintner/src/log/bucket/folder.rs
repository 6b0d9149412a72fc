//! A folder as a bucket: for one that several machines mount, and for tests with several processes.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha224};

use super::{super::manifest::sync_dir, Bucket, BucketError, Object, Put, Version};

/// A folder. An object is a file, written whole and synced.
#[derive(Debug, Clone)]
pub struct FolderBucket {
    root: PathBuf,
}

impl FolderBucket {
    /// The bucket in a folder, which is made when something is written.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Writes the content beside its place and syncs it, then `place` brings it there. Locked against other processes.
    fn write<T>(
        &self,
        key: &str,
        bytes: &[u8],
        place: impl FnOnce(&Path, &Path) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&dir)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(self.root.join(".lock"))?;
        lock.lock()?;
        let temporary = dir.join(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let placed = place(&temporary, &path)?;
        sync_dir(&dir)?;
        sync_dir(&self.root)?;
        Ok(placed)
    }
}

fn version(bytes: &[u8]) -> Version {
    Version(hex::encode(Sha224::digest(bytes)))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl fmt::Display for FolderBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.display().fmt(f)
    }
}

impl Bucket for FolderBucket {
    fn read(&self, key: &str) -> Result<Option<Object>, BucketError> {
        let found = read(&self.path(key)).map_err(|error| BucketError::new("read", key, &error))?;
        Ok(found.map(|bytes| Object { version: version(&bytes), bytes: bytes.into() }))
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Put, BucketError> {
        self.write(key, &bytes, |new, path| {
            if path.try_exists()? {
                return Ok(Put::Lost);
            }
            fs::rename(new, path)?;
            Ok(Put::Done(version(&bytes)))
        })
        .map_err(|error| BucketError::new("create", key, &error))
    }

    fn replace(&self, key: &str, bytes: Bytes, expected: &Version) -> Result<Put, BucketError> {
        self.write(key, &bytes, |new, path| {
            if read(path)?.is_none_or(|old| version(&old) != *expected) {
                return Ok(Put::Lost);
            }
            fs::rename(new, path)?;
            Ok(Put::Done(version(&bytes)))
        })
        .map_err(|error| BucketError::new("replace", key, &error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        // Keys end in the name of a file: the folder is all before the last slash.
        let (dir, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let list = || -> io::Result<Vec<String>> {
            let mut keys = Vec::new();
            let entries = match fs::read_dir(self.path(dir)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keys),
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let key = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                if entry.file_type()?.is_file() && key.starts_with(prefix) && !key.contains("/.") {
                    keys.push(key);
                }
            }
            keys.sort();
            Ok(keys)
        };
        list().map_err(|error| BucketError::new("list", prefix, &error))
    }

    fn delete(&self, key: &str) -> Result<(), BucketError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BucketError::new("delete", key, &error))
            }
            _ => Ok(()),
        }
    }
}
