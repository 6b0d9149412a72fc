//! S3 and GCS, and a store in memory for tests, through the crate `object_store`.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, PutResult, UpdateVersion,
    path::Path,
};
// `object_store` leaves it to others to ask for a client that knows TLS, and is not compiled without.
use reqwest as _;
use tokio::runtime::Handle;

use super::{Bucket, BucketError, Object, Put, Version};

/// A bucket that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenBucketError {
    /// What was given is no URL.
    #[error(
        "`{0}` is not the URL of a bucket, as in `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`"
    )]
    Url(String),
    /// The settings in the environment do not fit.
    #[error("cannot use the bucket `{url}`")]
    Store {
        /// Which.
        url: String,
        /// Why.
        source: Error,
    },
}

/// Objects in a store of a cloud, below a prefix.
pub struct ObjectBucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
}

impl ObjectBucket {
    /// The bucket at `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`. Credentials, region and endpoint are those of the
    /// environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT` and so on), or of the machine. Called
    /// in a runtime, which its calls then use.
    ///
    /// # Errors
    /// [`OpenBucketError`].
    pub fn open(url: &str) -> Result<Self, OpenBucketError> {
        let parsed = url
            .parse::<url::Url>()
            .ok()
            .filter(|url| matches!(url.scheme(), "s3" | "gs"))
            .ok_or_else(|| OpenBucketError::Url(url.into()))?;
        let environment = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&parsed, environment)
            .map_err(|source| OpenBucketError::Store { url: url.into(), source })?;
        Ok(Self { name: url.into(), store: store.into(), prefix, runtime: Handle::current() })
    }

    /// A bucket in memory, for tests. Called in a runtime.
    pub fn in_memory() -> Self {
        Self {
            name: "memory".into(),
            store: Arc::new(object_store::memory::InMemory::new()),
            prefix: Path::default(),
            runtime: Handle::current(),
        }
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), Path::join)
    }

    fn put(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<PutResult, Error> {
        let options = PutOptions::from(mode);
        self.runtime.block_on(self.store.put_opts(&self.path(key), PutPayload::from(bytes), options))
    }
}

impl fmt::Display for ObjectBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Both marks of a version, so that any store finds the one it knows.
fn version(e_tag: Option<String>, version: Option<String>) -> Version {
    Version(format!("{}\n{}", e_tag.unwrap_or_default(), version.unwrap_or_default()))
}

fn expected(version: &Version) -> UpdateVersion {
    let (e_tag, version) = version.0.split_once('\n').unwrap_or((&version.0, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    UpdateVersion { e_tag: some(e_tag), version: some(version) }
}

fn outcome(put: Result<PutResult, Error>) -> Result<Put, Error> {
    match put {
        Ok(put) => Ok(Put::Done(version(put.e_tag, put.version))),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Lost),
        Err(error) => Err(error),
    }
}

impl Bucket for ObjectBucket {
    fn read(&self, key: &str) -> Result<Option<Object>, BucketError> {
        let path = self.path(key);
        let read = async {
            let found = match self.store.get(&path).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let version = version(found.meta.e_tag.clone(), found.meta.version.clone());
            Ok(Some(Object { bytes: found.bytes().await?, version }))
        };
        self.runtime.block_on(read).map_err(|error| BucketError::new("read", key, &error))
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Put, BucketError> {
        let put = self.put(key, bytes, PutMode::Create);
        outcome(put).map_err(|error| BucketError::new("create", key, &error))
    }

    fn replace(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, BucketError> {
        let put = match self.put(key, bytes, PutMode::Update(expected(version))) {
            Err(Error::NotFound { .. }) => return Ok(Put::Lost),
            put => put,
        };
        outcome(put).map_err(|error| BucketError::new("replace", key, &error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        // A store lists folders, not beginnings of names.
        let (folder, _) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let path = if folder.is_empty() { self.prefix.clone() } else { self.path(folder) };
        let listed = async { self.store.list(Some(&path)).try_collect::<Vec<_>>().await };
        let listed =
            self.runtime.block_on(listed).map_err(|error| BucketError::new("list", prefix, &error))?;
        let keys = listed.into_iter().filter_map(|meta| {
            let parts = meta.location.prefix_match(&self.prefix)?;
            Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        });
        let mut keys: Vec<String> = keys.filter(|key| key.starts_with(prefix)).collect();
        keys.sort();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), BucketError> {
        match self.runtime.block_on(self.store.delete(&self.path(key))) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BucketError::new("delete", key, &error)),
        }
    }
}
