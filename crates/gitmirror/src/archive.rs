//! The files of a commit as a tar archive, made from git's objects while it is sent. One path for a tree of any size;
//! no `git archive` is started, which for a small tree would be most of the cost.
//!
//! The same commit gives the same bytes: times are the commit's, owners are root, modes are 644 and 755. What is in the
//! archive is what is in the tree; attributes (`export-ignore`, line ends) are not applied, and submodules are left out.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};
use types::CommitHash;

use crate::{
    cache::{self, Kind, Object},
    objects::{ObjectHeader, Objects, Process, ReadError, WINDOW},
    tar,
    tree::{Commit, Entry, EntryKind},
};

/// Bytes that are sent at once.
const CHUNK: usize = 128 << 10;
/// A reader that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Trees and entries that an archive may have: a small bundle can describe an endless one.
const MOST_ENTRIES: usize = 5_000_000;
/// The longest path and link.
const LONGEST: usize = 4096;

/// An archive ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// An object could not be read.
    #[error("cannot read what the archive holds")]
    Read(#[from] ReadError),
    /// The tree is not one that anybody checks out.
    #[error("the tree has too many entries, or a path or link over {LONGEST} bytes")]
    TooLarge,
    /// Nobody reads it any more.
    #[error("the reader of the archive is gone")]
    ReaderGone,
}

/// Where an archive goes: pieces of it in order, then an error or the end.
pub(crate) struct Output {
    buffer: Vec<u8>,
    to: mpsc::Sender<std::io::Result<Bytes>>,
}

impl Output {
    /// To the other end of a channel.
    pub(crate) fn new(to: mpsc::Sender<std::io::Result<Bytes>>) -> Self {
        Self { buffer: Vec::new(), to }
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.buffer.extend_from_slice(bytes);
        self.send_if(CHUNK).await
    }

    async fn pad(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.buffer.resize(self.buffer.len() + tar::padding(size), 0);
        self.send_if(CHUNK).await
    }

    /// Sends what is there if it is enough.
    async fn send_if(&mut self, enough: usize) -> Result<(), ArchiveError> {
        if self.buffer.len() < enough {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        match timeout(PATIENCE, self.to.send(Ok(piece))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ArchiveError::ReaderGone),
        }
    }
}

/// Writes the whole archive.
pub(crate) async fn write(objects: &Objects, commit: &Commit, out: &mut Output) -> Result<(), ArchiveError> {
    let trees = read_trees(objects, commit.tree).await?;
    let mut walk = Walk::new(&trees, commit.tree);
    let mut process = None;
    loop {
        let window = walk.next_window()?;
        if window.is_empty() {
            break;
        }
        write_window(objects, &mut process, &window, commit.time, out).await?;
    }
    if let Some(process) = process {
        objects.put_back(process);
    }
    out.append(&tar::END).await?;
    out.send_if(1).await
}

type Trees = HashMap<CommitHash, Vec<Entry>>;

/// Reads all trees below one, level by level, each once.
async fn read_trees(objects: &Objects, root: CommitHash) -> Result<Trees, ArchiveError> {
    let mut trees = Trees::new();
    let mut level = vec![root];
    let mut count = 0;
    while !level.is_empty() {
        let found = objects.read_all(&level).await?;
        let mut next = Vec::new();
        for (name, object) in level.into_iter().zip(found) {
            let tree = object.filter(|object| object.kind == Kind::Tree).ok_or(ReadError::Missing(name))?;
            let entries = crate::tree::entries(&tree.data).map_err(ReadError::from)?;
            count += entries.len() + 1;
            next.extend(
                entries.iter().filter(|entry| entry.kind == EntryKind::Folder).map(|entry| entry.object),
            );
            trees.insert(name, entries);
        }
        next.sort_unstable();
        next.dedup();
        next.retain(|name| !trees.contains_key(name));
        if count > MOST_ENTRIES {
            return Err(ArchiveError::TooLarge);
        }
        level = next;
    }
    Ok(trees)
}

/// One entry of the archive.
struct Item {
    path: Vec<u8>,
    kind: tar::Kind,
    object: CommitHash,
}

/// Walks trees depth first, in git's order.
struct Walk<'a> {
    trees: &'a Trees,
    /// For each open folder: the length of its path, its entries, and which is next.
    open: Vec<(usize, &'a [Entry], usize)>,
    path: Vec<u8>,
    count: usize,
}

impl<'a> Walk<'a> {
    fn new(trees: &'a Trees, root: CommitHash) -> Self {
        let entries = trees.get(&root).map_or(&[][..], Vec::as_slice);
        Self { trees, open: vec![(0, entries, 0)], path: Vec::new(), count: 0 }
    }

    /// The next entries: as many as git can be asked for at once.
    fn next_window(&mut self) -> Result<Vec<Item>, ArchiveError> {
        let mut window = Vec::new();
        while window.len() < WINDOW
            && let Some(item) = self.next()?
        {
            window.push(item);
        }
        Ok(window)
    }

    fn next(&mut self) -> Result<Option<Item>, ArchiveError> {
        while let Some((length, entries, at)) = self.open.last_mut() {
            self.path.truncate(*length);
            let Some(entry) = entries.get(*at) else {
                self.open.pop();
                continue;
            };
            *at += 1;
            self.count += 1;
            self.path.extend_from_slice(&entry.name);
            if self.path.len() > LONGEST || self.count > MOST_ENTRIES {
                return Err(ArchiveError::TooLarge);
            }
            let kind = match entry.kind {
                EntryKind::Submodule => continue,
                EntryKind::File => tar::Kind::File,
                EntryKind::Executable => tar::Kind::Executable,
                EntryKind::Link => tar::Kind::Link,
                EntryKind::Folder => tar::Kind::Folder,
            };
            if kind == tar::Kind::Folder {
                self.path.push(b'/');
                let entries = self.trees.get(&entry.object).map_or(&[][..], Vec::as_slice);
                self.open.push((self.path.len(), entries, 0));
            }
            return Ok(Some(Item { path: self.path.clone(), kind, object: entry.object }));
        }
        Ok(None)
    }
}

async fn write_window(
    objects: &Objects,
    process: &mut Option<Process>,
    window: &[Item],
    time: i64,
    out: &mut Output,
) -> Result<(), ArchiveError> {
    let with_content = |item: &&Item| item.kind != tar::Kind::Folder;
    let known: Vec<_> = window.iter().map(|item| objects.cached(item.object)).collect();
    let unknown = window.iter().zip(&known).filter(|(item, object)| with_content(item) && object.is_none());
    let questions: Vec<_> = unknown.map(|(item, _)| item.object.to_string()).collect();
    if !questions.is_empty() {
        if process.is_none() {
            *process = Some(objects.process()?);
        }
        if let Some(process) = process {
            process.ask(&questions).await.map_err(ReadError::Git)?;
        }
    }
    for (item, object) in window.iter().zip(known) {
        match (object, process.as_mut()) {
            _ if item.kind == tar::Kind::Folder => header(out, item, 0, time, b""),
            (Some(object), _) => write_known(item, &object.data, time, out).await?,
            (None, Some(process)) => write_unknown(objects, process, item, time, out).await?,
            (None, None) => return Err(ReadError::Missing(item.object).into()),
        }
    }
    Ok(())
}

fn header(out: &mut Output, item: &Item, size: u64, time: i64, target: &[u8]) {
    tar::append(&mut out.buffer, &tar::Header { path: &item.path, kind: item.kind, size, time, target });
}

async fn write_known(item: &Item, data: &[u8], time: i64, out: &mut Output) -> Result<(), ArchiveError> {
    if item.kind == tar::Kind::Link {
        if data.len() > LONGEST {
            return Err(ArchiveError::TooLarge);
        }
        header(out, item, 0, time, data);
        return out.send_if(CHUNK).await;
    }
    header(out, item, data.len() as u64, time, b"");
    out.append(data).await?;
    out.pad(data.len() as u64).await
}

/// Writes an object that git is about to send; a large one is passed on while it comes.
async fn write_unknown(
    objects: &Objects,
    process: &mut Process,
    item: &Item,
    time: i64,
    out: &mut Output,
) -> Result<(), ArchiveError> {
    let found = process.header().await.map_err(ReadError::Git)?;
    let found: ObjectHeader = found.ok_or(ReadError::Missing(item.object))?;
    if found.size <= cache::LARGEST as u64 || item.kind == tar::Kind::Link {
        if found.size > (cache::LARGEST as u64) {
            return Err(ArchiveError::TooLarge);
        }
        let data = process.content(found.size).await.map_err(ReadError::Git)?;
        let object = Object { kind: found.kind, data };
        objects.keep(item.object, &object);
        return write_known(item, &object.data, time, out).await;
    }
    header(out, item, found.size, time, b"");
    let mut left = found.size;
    while left > 0 {
        let part = process.part(left).await.map_err(ReadError::Git)?;
        let count = part.len();
        out.append(part).await?;
        process.used(count);
        left -= count as u64;
    }
    process.end_of_content().await.map_err(ReadError::Git)?;
    out.pad(found.size).await
}
