//! Archives on their way to and from a session's machine.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use api::coordinator::{
    ReadFilesRequest, WriteFilesHeader, WriteFilesRequest, read_files_response, write_files_request::Part,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Client;
use crate::output;

/// How much of an archive is sent at once.
const CHUNK: usize = 256 << 10;
/// How many chunks may wait; then whoever makes them waits.
const AHEAD: usize = 8;
/// As the machines pack.
const LEVEL: i32 = 3;

/// A file or link that goes into an archive.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// Where it is here.
    pub(super) file: PathBuf,
    /// What it is called there.
    pub(super) name: String,
}

/// Hands what is written to it on in chunks.
struct Chunks {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        let gone = |_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the call has ended");
        self.sender.blocking_send(chunk).map_err(gone)
    }
}

/// Sends files to a folder of a machine; returns how many files and folders were made.
pub(super) async fn send_files(
    client: &Client,
    session: &str,
    folder: &str,
    files: Vec<Packed>,
) -> anyhow::Result<u64> {
    let pack = move |chunks: Chunks| -> anyhow::Result<()> {
        let mut archive = tar::Builder::new(zstd::Encoder::new(chunks, LEVEL)?);
        archive.follow_symlinks(false);
        for packed in &files {
            add(&mut archive, packed).with_context(|| format!("pack `{}`", packed.file.display()))?;
        }
        archive.into_inner()?.finish()?.flush()?;
        Ok(())
    };
    send(client, (session, folder, "tar.zst"), pack).await
}

/// A mode is what git keeps of it, so that the same tree is the same on every machine.
fn add(archive: &mut tar::Builder<impl Write>, packed: &Packed) -> anyhow::Result<()> {
    let metadata = packed.file.symlink_metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(&metadata, tar::HeaderMode::Deterministic);
    header.set_mtime(0);
    if metadata.is_symlink() {
        header.set_size(0);
        archive.append_link(&mut header, &packed.name, std::fs::read_link(&packed.file)?)?;
    } else {
        let file = File::open(&packed.file)?;
        // What it is when it is packed, whatever it becomes.
        let size = metadata.len();
        header.set_size(size);
        archive.append_data(&mut header, &packed.name, file.take(size))?;
    }
    Ok(())
}

/// Sends an archive as it is.
pub(super) async fn send_archive(
    client: &Client,
    (session, folder, format): (&str, &str, &str),
    mut archive: impl Read + Send + 'static,
) -> anyhow::Result<u64> {
    let copy = move |mut chunks: Chunks| -> anyhow::Result<()> {
        std::io::copy(&mut archive, &mut chunks).context("read the archive")?;
        Ok(chunks.flush()?)
    };
    send(client, (session, folder, format), copy).await
}

async fn send(
    client: &Client,
    (session, folder, format): (&str, &str, &str),
    make: impl FnOnce(Chunks) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<u64> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let made =
        tokio::task::spawn_blocking(move || make(Chunks { sender, buffer: Vec::with_capacity(CHUNK) }));
    let header = WriteFilesHeader {
        session: session.to_owned(),
        folder: folder.to_owned(),
        format: format.to_owned(),
    };
    let part = |part| WriteFilesRequest { part: Some(part) };
    let parts = tokio_stream::once(part(Part::Header(header)))
        .chain(ReceiverStream::new(receiver).map(move |chunk| part(Part::Chunk(chunk))));
    let answer = client.clone().write_files(parts).await;
    // What the machine says of a broken archive matters less than why it is broken.
    let made = made.await.context("make the archive")?;
    match answer {
        Ok(answer) => {
            made?;
            Ok(answer.into_inner().entries)
        }
        Err(status) => {
            let refused = output::refused(&status);
            match made {
                Err(error)
                    if error
                        .downcast_ref::<std::io::Error>()
                        .is_none_or(|io| io.kind() != std::io::ErrorKind::BrokenPipe) =>
                {
                    Err(error)
                }
                _ => Err(refused),
            }
        }
    }
}

/// Writes a folder of a machine, as tar.zst, to `out`; nothing is said to be whole before its digest is right.
pub(super) async fn receive(
    client: &Client,
    request: ReadFilesRequest,
    mut out: impl Write,
) -> anyhow::Result<()> {
    let answer = client.clone().read_files(request).await.map_err(|status| output::refused(&status))?;
    let mut parts = answer.into_inner();
    let mut hasher = blake3::Hasher::new();
    while let Some(answer) = parts.message().await.map_err(|status| output::refused(&status))? {
        match answer.part {
            Some(read_files_response::Part::Chunk(chunk)) => {
                hasher.update(&chunk);
                out.write_all(&chunk).context("write the archive")?;
            }
            Some(read_files_response::Part::Digest(digest)) => {
                let ours = hasher.finalize().to_hex();
                if ours.as_str() != digest {
                    return Err(output::infrastructure("the archive has changed on its way: try again"));
                }
                return out.flush().context("write the archive");
            }
            None => {}
        }
    }
    Err(output::infrastructure("the archive was broken off: try again"))
}

/// Unpacks a tar.zst beneath a folder; nothing gets out of it.
pub(super) fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("read `{}`", archive.display()))?;
    let decoder = zstd::Decoder::new(file).context("read the archive")?;
    std::fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
    tar::Archive::new(decoder).unpack(folder).with_context(|| format!("unpack into `{}`", folder.display()))
}
