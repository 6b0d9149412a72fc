//! Trees that come, go and are removed, each under a lease.

use std::{collections::HashSet, ffi::OsStr, net::Ipv4Addr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use cap_std::fs::Dir;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{CallError, Held, Machine};
use crate::{
    Isolation,
    fetch::Archive,
    folder::RelativePath,
    lease::Lease,
    tree::{self, Bounds, ChunkWriter, Feeder, Format, UnpackError},
};

/// A tree on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    feeder: Option<Feeder>,
    unpacking: JoinHandle<Result<u64, UnpackError>>,
    ending: CancellationToken,
}

/// A tree on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    chunks: mpsc::Receiver<Bytes>,
    packing: Option<JoinHandle<Result<String, CallError>>>,
    ending: CancellationToken,
}

/// How many entries of a list wait to be sent.
const LISTED: usize = 512;

/// A list on its way out.
#[derive(Debug)]
pub(crate) struct Listing {
    entries: mpsc::Receiver<tree::Entry>,
    task: Option<JoinHandle<Result<(), CallError>>>,
    ending: CancellationToken,
}

impl Listing {
    /// Some more entries, at least one; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<tree::Entry>, CallError>> {
        let mut some = Vec::new();
        if self.entries.recv_many(&mut some, LISTED).await > 0 {
            return Some(Ok(some));
        }
        let listed = self.task.take()?.await;
        if self.ending.is_cancelled() {
            return Some(Err(CallError::Ended));
        }
        listed.unwrap_or(Err(CallError::ShuttingDown)).err().map(Err)
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreePart {
    /// Bytes of the archive.
    Chunk(Bytes),
    /// The digest of all. Nothing follows.
    Digest(String),
}

impl Machine {
    /// Begins to unpack an archive into a folder.
    pub(crate) async fn write_tree(
        self: &Arc<Self>,
        lease: Lease,
        folder: &RelativePath,
        format: Format,
    ) -> Result<Incoming, CallError> {
        let held = self.enter(lease).await?;
        let into = self.parts.folder.make_dir(folder)?;
        let bounds = Bounds {
            now: self.parts.clock.now().seconds(),
            floor_bytes: self.parts.disk_floor_bytes,
            most_bytes: self.parts.limits.work_bytes.unwrap_or(u64::MAX),
        };
        Ok(Incoming::begin(held, into, format, bounds))
    }

    /// Fetches an archive and unpacks it into a folder; returns how many bytes it had and how many files and folders
    /// were made.
    pub(crate) async fn fetch_tree(
        self: &Arc<Self>,
        lease: Lease,
        archive: &Archive,
        folder: &RelativePath,
        digest: &str,
    ) -> Result<(u64, u64), CallError> {
        let mut incoming = self.write_tree(lease, folder, archive.format).await?;
        let feeder = incoming.feeder.take().ok_or(CallError::BrokenOff)?;
        let ending = incoming.ending.clone();
        let fetched = tokio::select! {
            fetched = self.parts.fetcher.fetch(archive, digest, feeder) => fetched.map_err(CallError::from),
            () = ending.cancelled() => Err(CallError::Ended),
        };
        // The thread ends in any case: its feeder has finished or is gone.
        let entries = incoming.result().await;
        match (fetched, entries) {
            (Ok(bytes), Ok(entries)) => Ok((bytes, entries)),
            (Err(error), Ok(_) | Err(CallError::BrokenOff)) | (_, Err(error)) => Err(error),
        }
    }

    /// Begins to pack a folder.
    pub(crate) async fn read_tree(
        self: &Arc<Self>,
        lease: Lease,
        folder: &RelativePath,
        exclude: Vec<RelativePath>,
    ) -> Result<Outgoing, CallError> {
        let held = self.enter(lease).await?;
        let dir = self.parts.folder.open_dir(folder)?;
        let exclude: HashSet<PathBuf> = exclude.iter().map(|path| path.as_path().to_owned()).collect();
        let (writer, chunks) = ChunkWriter::new(held.ending.clone());
        let ending = held.ending.clone();
        let packing = tokio::task::spawn_blocking(move || {
            let _held = held;
            let writer = tree::pack(&dir, &exclude, writer)?;
            writer.finish().map_err(CallError::disk("pack the folder"))
        });
        Ok(Outgoing { chunks, packing: Some(packing), ending })
    }

    /// Begins to list a folder.
    pub(crate) async fn list_tree(
        self: &Arc<Self>,
        lease: Lease,
        folder: &RelativePath,
        exclude: Vec<RelativePath>,
        digests: bool,
    ) -> Result<Listing, CallError> {
        let held = self.enter(lease).await?;
        let dir = self.parts.folder.open_dir(folder)?;
        let exclude: HashSet<PathBuf> = exclude.iter().map(|path| path.as_path().to_owned()).collect();
        let (sender, entries) = mpsc::channel(LISTED);
        let ending = held.ending.clone();
        let listing = tokio::task::spawn_blocking(move || {
            let ending = held.ending.clone();
            let wanted = |entry| !ending.is_cancelled() && sender.blocking_send(entry).is_ok();
            Ok(tree::list(&dir, &exclude, digests, wanted)?)
        });
        Ok(Listing { entries, task: Some(listing), ending })
    }

    /// Connects to a port of this machine's for a lease. Also says when that ends.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        lease: Lease,
        port: u16,
    ) -> Result<(TcpStream, CancellationToken), CallError> {
        let ending = self.enter(lease).await?.ending.clone();
        if self.parts.isolation == Isolation::Namespaces {
            return Err(CallError::NoNetwork);
        }
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let stream = connected.map_err(|source| CallError::PortClosed { port, source })?;
        let _ = stream.set_nodelay(true);
        Ok((stream, ending))
    }

    /// Removes files and folders; what is not there is fine.
    pub(crate) async fn remove_paths(
        self: &Arc<Self>,
        lease: Lease,
        paths: Vec<RelativePath>,
    ) -> Result<(), CallError> {
        let held = self.enter(lease).await?;
        let folder = self.parts.folder.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let _held = held;
            for path in &paths {
                remove(&folder.dir(), path)?;
            }
            folder.prepare().map_err(CallError::disk("prepare the work folder"))
        });
        removed.await.unwrap_or(Err(CallError::ShuttingDown))
    }
}

fn remove(work: &Dir, path: &RelativePath) -> Result<(), CallError> {
    let what = format!("remove `{}`", path.as_path().display());
    if path.is_root() {
        return tree::empty(work, &[]).map_err(CallError::disk(what));
    }
    let (parent, name) = (path.as_path().parent(), path.as_path().file_name().unwrap_or(OsStr::new("")));
    let parent = match parent.filter(|parent| !parent.as_os_str().is_empty()) {
        None => work.try_clone(),
        Some(parent) => work.open_dir(parent),
    };
    match parent {
        Ok(parent) => tree::remove(&parent, name).map_err(CallError::disk(what)),
        Err(error) => match path.error(error).into() {
            CallError::NoFolder(_) => Ok(()),
            error => Err(error),
        },
    }
}

impl Incoming {
    fn begin(held: Held, into: Dir, format: Format, bounds: Bounds) -> Self {
        let ending = held.ending.clone();
        let (feeder, piped) = tree::pipe(ending.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            let _held = held;
            tree::unpack(piped, format, &into, bounds)
        });
        Self { feeder: Some(feeder), unpacking, ending }
    }

    /// Hands bytes over; false when no more are wanted, and [`Incoming::finish`] says why.
    pub(crate) async fn feed(&self, chunk: Bytes) -> bool {
        let Some(feeder) = &self.feeder else { return false };
        tokio::select! {
            taken = feeder.feed(chunk) => taken,
            () = self.ending.cancelled() => false,
        }
    }

    /// Waits until the lease is about to end: then no more is wanted.
    pub(crate) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// All has come; returns how many files and folders were made.
    pub(crate) async fn finish(mut self) -> Result<u64, CallError> {
        if let Some(feeder) = self.feeder.take()
            && !self.ending.is_cancelled()
        {
            feeder.finish().await;
        }
        self.result().await
    }

    async fn result(self) -> Result<u64, CallError> {
        match self.unpacking.await {
            Ok(Err(UnpackError::BrokenOff)) if self.ending.is_cancelled() => Err(CallError::Ended),
            Ok(result) => result.map_err(CallError::from),
            Err(_) => Err(CallError::ShuttingDown),
        }
    }
}

impl Outgoing {
    /// The next part; none after the digest.
    pub(crate) async fn next(&mut self) -> Option<Result<TreePart, CallError>> {
        if let Some(chunk) = self.chunks.recv().await {
            return Some(Ok(TreePart::Chunk(chunk)));
        }
        let packed = self.packing.take()?.await;
        if self.ending.is_cancelled() {
            return Some(Err(CallError::Ended));
        }
        Some(packed.unwrap_or(Err(CallError::ShuttingDown)).map(TreePart::Digest))
    }
}
