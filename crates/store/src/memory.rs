//! Blobs in memory: the fake that keeps the contract of [`Blobs`], for tests of those who use it.

use std::{
    collections::BTreeMap,
    io::Cursor,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::{BlobEntry, BlobError, BlobReader, BlobWriter, Blobs, check_key};

/// Blobs in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl MemoryBlobs {
    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Result<Bytes, BlobError> {
        check_key(key)?;
        self.map().get(key).cloned().ok_or_else(|| BlobError::NotFound(key.to_owned()))
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        check_key(key)?;
        self.map().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        check_key(key)?;
        Ok(Box::new(MemoryWriter { blobs: self.clone(), key: key.to_owned(), bytes: BytesMut::new() }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let bytes = self.find(key)?;
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        Ok(bytes.slice(start..end))
    }

    async fn open(&self, key: &str) -> Result<BlobReader, BlobError> {
        Ok(Box::new(Cursor::new(self.find(key)?)))
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        Ok(self.find(key)?.len() as u64)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        check_key(key)?;
        self.map().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobEntry>, BlobError> {
        let entry =
            |(key, bytes): (&String, &Bytes)| BlobEntry { key: key.clone(), bytes: bytes.len() as u64 };
        Ok(self.map().iter().filter(|(key, _)| key.starts_with(prefix)).map(entry).collect())
    }
}

struct MemoryWriter {
    blobs: MemoryBlobs,
    key: String,
    bytes: BytesMut,
}

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<u64, BlobError> {
        let bytes = self.bytes.freeze();
        let size = bytes.len() as u64;
        self.blobs.map().insert(self.key, bytes);
        Ok(size)
    }
}
