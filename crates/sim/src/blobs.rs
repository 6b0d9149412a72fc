//! The store of bytes behind its port: what is begun may fail, and what is stored may vanish.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use store::{BlobEntry, BlobError, BlobReader, BlobWriter, Blobs};

use crate::{coordinator::Life, fault::Fault, world::World};

pub(crate) struct SimBlobs {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

struct Writer {
    world: Arc<World>,
    life: Arc<Life>,
    key: String,
    inner: Box<dyn BlobWriter>,
}

#[async_trait]
impl Blobs for SimBlobs {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.life.check().await;
        self.world.blobs.put(key, bytes).await
    }

    async fn writer(&self, key: &str) -> Result<Box<dyn BlobWriter>, BlobError> {
        self.life.check().await;
        let inner = self.world.blobs.writer(key).await?;
        let (world, life) = (Arc::clone(&self.world), Arc::clone(&self.life));
        Ok(Box::new(Writer { world, life, key: key.to_owned(), inner }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.life.check().await;
        self.world.blobs.read(key, range).await
    }

    async fn open(&self, key: &str) -> Result<BlobReader, BlobError> {
        self.life.check().await;
        self.world.blobs.open(key).await
    }

    async fn size(&self, key: &str) -> Result<u64, BlobError> {
        self.life.check().await;
        self.world.blobs.size(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.life.check().await;
        self.world.blobs.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobEntry>, BlobError> {
        self.life.check().await;
        self.world.blobs.list(prefix).await
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.life.check().await;
        self.inner.write(bytes).await
    }

    async fn commit(self: Box<Self>) -> Result<u64, BlobError> {
        let Self { world, life, key, inner } = *self;
        world.context.pause(0, 20).await;
        life.check().await;
        if world.context.strikes(Fault::StoreFailed, |weather| weather.store_failed) {
            let source = Arc::new(std::io::Error::other("the store is full"));
            return Err(BlobError::Io { action: "write", key, source });
        }
        inner.commit().await
    }
}
