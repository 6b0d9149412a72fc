//! Trees: archives on their way to and from a machine.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use api::buildlet::{ReadTreeResponse, read_tree_response::Part};
use bytes::Bytes;
use futures_util::Stream;

use crate::Error;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFormat {
    /// Plain tar.
    Tar,
    /// tar.gz.
    TarGz,
    /// tar.zst.
    TarZst,
}

impl ArchiveFormat {
    /// The file name's ending, as the contract names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
        }
    }
}

/// What was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes fetched.
    pub bytes: u64,
    /// Files and folders made.
    pub entries: u64,
}

/// A folder as tar.zst, in chunks. Ends only when all bytes have come and their digest is right, else with an error.
pub struct TreeChunks {
    inner: tonic::Streaming<ReadTreeResponse>,
    hasher: blake3::Hasher,
    digest: Option<String>,
}

impl TreeChunks {
    pub(crate) fn new(inner: tonic::Streaming<ReadTreeResponse>) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), digest: None }
    }

    /// The next chunk; none once the tree is whole.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        futures_util::StreamExt::next(self).await
    }

    /// The BLAKE3 of all chunks, lower-case hexadecimal; none before the stream has ended well.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    fn finish(&mut self, digest: String) -> Result<(), Error> {
        let ours = self.hasher.finalize().to_hex();
        if ours.as_str() != digest {
            return Err(Error::WrongDigest(format!("the tree's digest is `{ours}`, not `{digest}`")));
        }
        self.digest = Some(digest);
        Ok(())
    }
}

impl Stream for TreeChunks {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.digest.is_some() {
            return Poll::Ready(None);
        }
        let item = match ready!(Pin::new(&mut self.inner).poll_next(context)) {
            None => Some(Err(Error::Unavailable("the tree was broken off before its digest".to_owned()))),
            Some(Err(status)) => Some(Err(Error::from(status))),
            Some(Ok(ReadTreeResponse { part: Some(Part::Chunk(chunk)) })) => {
                self.hasher.update(&chunk);
                Some(Ok(chunk))
            }
            Some(Ok(ReadTreeResponse { part: Some(Part::Digest(digest)) })) => {
                self.finish(digest).err().map(Err)
            }
            Some(Ok(ReadTreeResponse { part: None })) => {
                Some(Err(Error::Malformed("an empty part of a tree".to_owned())))
            }
        };
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for TreeChunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeChunks").field("digest", &self.digest).finish_non_exhaustive()
    }
}
