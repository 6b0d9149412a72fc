//! Blobs as files of a local folder.
//!
//! A blob is written to a file of its own under `.tmp`, flushed, and renamed to its place; then the folder is flushed.
//! So a crash leaves the whole blob or none. What a crash leaves under `.tmp` is removed when the folder is opened.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::{BlobEntry, BlobError, BlobReader, BlobWriter, Blobs, check_key};

/// Files that are being written; no key begins with a dot.
const TEMPORARY: &str = ".tmp";

/// Blobs as files of a local folder. One process uses the folder at a time. Clones are the same store.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Folders that are known to survive a crash: another thread may have made one and not flushed it yet.
    durable: Mutex<HashSet<PathBuf>>,
}

impl LocalBlobs {
    /// Opens a folder, making it if need be, and clears away what a crash left half-written.
    pub async fn open(folder: &Path) -> Result<Self, BlobError> {
        let durable = Mutex::new(HashSet::from([folder.to_owned()]));
        let blobs = Self { root: Arc::new(Root { path: folder.to_owned(), durable }) };
        let root = Arc::clone(&blobs.root);
        run("open", "", move || {
            let temporary = root.path.join(TEMPORARY);
            match fs::remove_dir_all(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(&temporary)?;
            File::open(&root.path)?.sync_all()
        })
        .await?;
        Ok(blobs)
    }

    fn path(&self, key: &str) -> Result<PathBuf, BlobError> {
        check_key(key)?;
        Ok(self.root.path.join(key))
    }

    /// Does something with a blob's path where it may block.
    async fn with<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BlobError> {
        let path = self.path(key)?;
        run(action, key, move || work(&path)).await
    }
}

#[async_trait]
impl Blobs for LocalBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        let root = Arc::clone(&self.root);
        self.with("write", key, move |path| {
            let mut file = root.temporary()?;
            file.write_all(&bytes)?;
            root.publish(file, path)
        })
        .await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        let path = self.path(key)?;
        let root = Arc::clone(&self.root);
        let file = run("write", key, move || root.temporary()).await?;
        let root = Arc::clone(&self.root);
        Ok(Box::new(LocalWriter { root, key: key.to_owned(), path, bytes: 0, file: Some(file) }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.with("read", key, move |path| {
            let mut file = File::open(path)?;
            let end = range.end.min(file.metadata()?.len());
            let wanted = end.saturating_sub(range.start);
            let mut bytes = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            file.seek(SeekFrom::Start(range.start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn open(&self, key: &str) -> Result<BlobReader, BlobError> {
        let file = self.with("read", key, |path| File::open(path)).await?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        self.with("read", key, |path| Ok(fs::metadata(path)?.len())).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.with("delete", key, |path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobEntry>, BlobError> {
        let root = Arc::clone(&self.root);
        let prefix_text = prefix.to_owned();
        run("list", prefix, move || {
            let mut found = Vec::new();
            // Only the folder that the prefix names needs to be walked.
            let start = prefix_text.rsplit_once('/').map_or("", |(folder, _)| folder);
            if start.is_empty() || check_key(start).is_ok() {
                walk(&root.path.join(start), start, &prefix_text, &mut found)?;
            }
            found.sort();
            Ok(found)
        })
        .await
    }
}

struct LocalWriter {
    root: Arc<Root>,
    key: String,
    path: PathBuf,
    bytes: u64,
    /// None while a write is under way, or after one failed.
    file: Option<NamedTempFile>,
}

impl LocalWriter {
    fn file(&mut self) -> Result<NamedTempFile, BlobError> {
        let broken = || io::Error::other("an earlier write of it failed");
        self.file.take().ok_or_else(|| failure("write", &self.key, broken()))
    }
}

#[async_trait]
impl BlobWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let mut file = self.file()?;
        let size = bytes.len() as u64;
        let work = move || file.write_all(&bytes).map(|()| file);
        self.file = Some(run("write", &self.key, work).await?);
        self.bytes += size;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<u64, BlobError> {
        let file = self.file()?;
        let Self { root, key, path, bytes, .. } = *self;
        run("write", &key, move || root.publish(file, &path)).await?;
        Ok(bytes)
    }
}

impl Root {
    fn temporary(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.path.join(TEMPORARY))
    }

    /// Makes a written file the blob, so that it survives a crash.
    fn publish(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.as_file().sync_all()?;
        let folder = path.parent().unwrap_or(&self.path);
        self.make_folder(folder)?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    /// Makes a folder and those above it, each durable in the one above it.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let durable = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable().contains(folder) {
            return Ok(());
        }
        let Some(above) = folder.parent() else { return Ok(()) };
        self.make_folder(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(above)?.sync_all()?;
        durable().insert(folder.to_owned());
        Ok(())
    }
}

fn walk(folder: &Path, key: &str, prefix: &str, found: &mut Vec<BlobEntry>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let key = if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
        let metadata = match entry.metadata() {
            // Deleted since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() {
            if key.starts_with(prefix) || prefix.starts_with(&key) {
                walk(&entry.path(), &key, prefix, found)?;
            }
        } else if key.starts_with(prefix) {
            found.push(BlobEntry { key, bytes: metadata.len() });
        }
    }
    Ok(())
}

/// Does work that may block on a thread for that.
async fn run<T: Send + 'static>(
    action: &'static str,
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|source| failure(action, key, source))
}

fn failure(action: &'static str, key: &str, source: io::Error) -> BlobError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory if action == "read" => {
            BlobError::NotFound(key.to_owned())
        }
        _ => BlobError::Io { action, key: key.to_owned(), source: Arc::new(source) },
    }
}
