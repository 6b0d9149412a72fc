//! The one writer: takes what waits, writes it in one call, syncs once, and only then shows it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    thread,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha224};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

use super::{
    AppendError, BatchBuilder, Extent, file,
    filter::{Mark, label},
    layout::SegmentName,
    manifest::Manifest,
    record,
    remote::Remote,
    state::{Recent, Shared},
};

/// Appends that wait for the writer; more wait to get in.
const QUEUE: usize = 1024;
/// So many bytes are written before the next sync, and one append more.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// The buffer is given back when it grew beyond this.
const KEEP_BUFFER: usize = 1024 * 1024;

/// How appends reach the writer.
pub(super) type Queue = mpsc::Sender<Request>;

/// What the writer is asked for.
pub(super) enum Request {
    Append(Append),
    /// To say that it lives, where another would take over from one that is dead.
    Beat,
    /// To end, when all before is done.
    Close,
}

/// Mutations to append, and whom to tell.
pub(super) struct Append {
    pub(super) encoded: Vec<Bytes>,
    pub(super) done: oneshot::Sender<Result<u64, AppendError>>,
}

/// The segment that grows.
pub(super) struct Growing {
    pub(super) file: Arc<File>,
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) hasher: Sha224,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    manifest: Manifest,
    growing: Growing,
    max_segment_bytes: u64,
    durable: watch::Sender<Extent>,
    /// Held until the last append is durable.
    lock: File,
    remote: Option<Remote>,
}

/// What goes into the next write.
struct Group {
    buffer: Vec<u8>,
    offsets: Vec<u64>,
    batches: Vec<Recent>,
    building: BatchBuilder,
    marks: Vec<Mark>,
}

impl Group {
    fn new(first: u64) -> Self {
        Self {
            buffer: Vec::new(),
            offsets: Vec::new(),
            batches: Vec::new(),
            building: BatchBuilder::new(first),
            marks: Vec::new(),
        }
    }

    fn position(&self) -> u64 {
        self.building.position()
    }

    fn push(&mut self, start: u64, payload: &[u8]) {
        let offset = start + self.buffer.len() as u64;
        record::write_header(&mut self.buffer, offset, payload.len());
        self.buffer.extend_from_slice(payload);
        self.offsets.push(offset);
        if self.building.is_full_for(payload.len()) {
            self.end_batch();
        }
        self.building.push(payload);
        // A batch is of 256 KiB, or of one mutation, which is below 16 MiB.
        self.marks.push(Mark { label: label(payload), end: self.building.len() as u32 });
    }

    fn end_batch(&mut self) {
        let next = BatchBuilder::new(self.position());
        let full = std::mem::replace(&mut self.building, next);
        if !full.is_empty() {
            self.batches.push(Recent { batch: full.build(), marks: std::mem::take(&mut self.marks) });
        }
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        manifest: Manifest,
        growing: Growing,
        durable: watch::Sender<Extent>,
        (lock, remote): (File, Option<Remote>),
        max_segment_bytes: u64,
    ) -> Self {
        Self { shared, manifest, growing, max_segment_bytes, durable, lock, remote }
    }

    /// Runs in a thread of its own, since it waits for the disk all the time.
    pub(super) fn start(self) -> io::Result<Queue> {
        let (queue, requests) = mpsc::channel(QUEUE);
        if let Some(remote) = &self.remote {
            let (queue, pause) = (queue.downgrade(), remote.pause());
            thread::Builder::new().name("mutation-log-lease".into()).spawn(move || {
                loop {
                    thread::sleep(pause);
                    let Some(queue) = queue.upgrade() else { break };
                    if queue.blocking_send(Request::Beat).is_err() {
                        break;
                    }
                }
            })?;
        }
        thread::Builder::new().name("mutation-log".into()).spawn(move || self.run(requests))?;
        Ok(queue)
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut buffer = Vec::new();
        let mut next = requests.blocking_recv();
        while let Some(request) = next.take() {
            let done = match request {
                Request::Close => break,
                Request::Beat => self.remote.as_mut().map_or(Ok(()), Remote::beat),
                Request::Append(first) => self.append(gather(first, &mut requests, &mut next), &mut buffer),
            };
            if let Err(failure) = done {
                error!("the mutation log takes no more: {}", with_causes(&failure));
                self.remote = None; // nothing is known about it any more
                break;
            }
            next = next.or_else(|| requests.blocking_recv());
        }
        if let Some(remote) = &mut self.remote {
            remote.release();
        }
        // The folder is free before anybody learns that this writer is gone.
        drop(self.lock);
    }

    /// Writes what waits, and answers all who wait for it.
    fn append(&mut self, group: Vec<Append>, buffer: &mut Vec<u8>) -> Result<(), AppendError> {
        let mut position = self.durable.borrow().position;
        let written = self.write(&group, buffer);
        for append in group {
            position += append.encoded.len() as u64;
            let _ = append.done.send(written.clone().map(|()| position)); // whoever asked may be gone
        }
        written
    }

    fn write(&mut self, appends: &[Append], buffer: &mut Vec<u8>) -> Result<(), AppendError> {
        let mut group = Group::new(self.durable.borrow().position);
        group.buffer = std::mem::take(buffer);
        for payload in appends.iter().flat_map(|append| &append.encoded) {
            // The longest header is 40 bytes; a segment may stay a little smaller than allowed.
            let reach = self.growing.bytes + (group.buffer.len() + payload.len()) as u64 + 40;
            let begun = self.growing.bytes > 0 || !group.buffer.is_empty();
            let scattered = self.remote.as_ref().is_some_and(Remote::has_many_parts);
            if (reach > self.max_segment_bytes || scattered) && begun {
                self.flush(&mut group)?;
                self.freeze()?;
            }
            group.push(self.growing.bytes, payload);
        }
        self.flush(&mut group)?;
        *buffer = group.buffer;
        buffer.shrink_to(KEEP_BUFFER);
        Ok(())
    }

    /// One write, one sync, and then readers may see it.
    fn flush(&mut self, group: &mut Group) -> Result<(), AppendError> {
        if group.buffer.is_empty() {
            return Ok(());
        }
        let path = file(&self.shared.dir, &SegmentName::Growing { number: self.growing.number }.file_name());
        let mut out = &*self.growing.file;
        out.write_all(&group.buffer).map_err(|source| failed("write to", &path, source))?;
        match &mut self.remote {
            Some(remote) => remote.append(&group.buffer)?,
            None => out.sync_data().map_err(|source| failed("sync", &path, source))?,
        }
        self.growing.hasher.update(&group.buffer);
        self.growing.bytes += group.buffer.len() as u64;
        group.end_batch();
        let added = group.buffer.len() as u64;
        group.buffer.clear();
        self.shared.grow(
            self.growing.bytes,
            &self.growing.hasher,
            &group.offsets,
            std::mem::take(&mut group.batches),
        );
        group.offsets.clear();
        self.durable.send_modify(|extent| {
            extent.position = group.position();
            extent.bytes += added;
        });
        Ok(())
    }

    /// Gives the growing segment its final name and begins another. If this is cut short anywhere, opening the log
    /// again completes it.
    fn freeze(&mut self) -> Result<(), AppendError> {
        let dir = &self.shared.dir;
        let digest = std::mem::take(&mut self.growing.hasher).finalize().into();
        let number = self.growing.number;
        let old = file(dir, &SegmentName::Growing { number }.file_name());
        let name = SegmentName::Frozen { number, digest };
        let frozen = file(dir, &name.file_name());
        if self.remote.is_some() {
            self.growing.file.sync_all().map_err(|source| failed("sync", &old, source))?;
        }
        fs::rename(&old, &frozen).map_err(|source| failed("rename", &old, source))?;
        let next = file(dir, &SegmentName::Growing { number: number + 1 }.file_name());
        let next_file = Arc::new(create(&next).map_err(|source| failed("create", &next, source))?);
        let mutations = self.shared.with_segments(|all| all.last().map_or(0, |segment| segment.mutations));
        self.manifest.push(&name, self.growing.bytes, mutations, &digest);
        if let Some(remote) = &mut self.remote {
            let content = fs::read(&frozen).map_err(|source| failed("read", &frozen, source))?;
            remote.freeze(&self.manifest, content.into())?;
        }
        self.manifest.write(dir).map_err(|source| failed("write the manifest of", dir, source))?;
        info!("froze segment {number} of the mutation log, {} bytes", self.growing.bytes);
        self.growing =
            Growing { file: Arc::clone(&next_file), number: number + 1, bytes: 0, hasher: Sha224::new() };
        self.shared.freeze(frozen, digest, next, next_file);
        Ok(())
    }
}

/// All that waits, up to a bound. What is no append ends it, and is what comes next.
fn gather(first: Append, requests: &mut mpsc::Receiver<Request>, next: &mut Option<Request>) -> Vec<Append> {
    let size = |append: &Append| append.encoded.iter().map(Bytes::len).sum::<usize>();
    let mut bytes = size(&first);
    let mut group = vec![first];
    while bytes < GROUP_BYTES
        && let Ok(request) = requests.try_recv()
    {
        match request {
            Request::Append(append) => {
                bytes += size(&append);
                group.push(append);
            }
            other => {
                *next = Some(other);
                break;
            }
        }
    }
    group
}

/// An error with its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Opens a segment for appending, and makes it if need be.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> AppendError {
    AppendError::Io { action, path: path.into(), source: source.into() }
}
