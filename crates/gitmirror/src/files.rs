//! A few files of a commit.

use api::gitmirror::File;
use bytes::Bytes;
use types::CommitHash;

use crate::{
    objects::{Objects, ReadError},
    tree::{self, EntryKind},
};

/// Where a content is cut.
const LARGEST: usize = 1 << 20;
/// The most that one answer may hold, well below what a client takes.
const MOST: usize = 12 << 20;

/// Files could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// A path that cannot be one of a file.
    #[error("`{0}` is not a path from the root of the tree")]
    Path(String),
    /// More than fits into an answer.
    #[error("the files are more than {} MiB together: ask for fewer at once", MOST >> 20)]
    TooMuch,
    /// Git does not answer.
    #[error("cannot read a file")]
    Read(#[from] ReadError),
}

/// The files of a commit that are there, and its tree. A folder or link is no file.
pub(crate) async fn read(
    objects: &Objects,
    commit: &[u8],
    paths: Vec<String>,
) -> Result<(CommitHash, Vec<File>), FilesError> {
    let root = tree::commit(commit).map_err(ReadError::from)?.tree;
    if let Some(path) = paths.iter().find(|path| !is_path(path)) {
        return Err(FilesError::Path(path.chars().take(200).collect()));
    }
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        let Some(blob) = find(objects, root, &path).await? else { continue };
        let content = content(objects, blob).await?;
        total += content.len() + path.len();
        if total > MOST {
            return Err(FilesError::TooMuch);
        }
        files.push(File { path, content });
    }
    Ok((root, files))
}

fn is_path(path: &str) -> bool {
    path.len() <= 4096 && path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

async fn find(objects: &Objects, root: CommitHash, path: &str) -> Result<Option<CommitHash>, ReadError> {
    let mut at = root;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let entries = objects.tree(at).await?;
        let Some(entry) = entries.into_iter().find(|entry| entry.name == part.as_bytes()) else {
            return Ok(None);
        };
        at = match (entry.kind, parts.peek()) {
            (EntryKind::Folder, Some(_)) | (EntryKind::File | EntryKind::Executable, None) => entry.object,
            _ => return Ok(None),
        };
    }
    Ok(Some(at))
}

/// The first part of a blob, whatever its size.
async fn content(objects: &Objects, blob: CommitHash) -> Result<Bytes, ReadError> {
    if let Some(object) = objects.cached(blob) {
        return Ok(object.data);
    }
    let mut process = objects.process()?;
    process.ask(&[blob.to_string()]).await.map_err(ReadError::Git)?;
    let header = process.header().await.map_err(ReadError::Git)?.ok_or(ReadError::Missing(blob))?;
    let mut data = Vec::with_capacity(LARGEST.min(header.size as usize));
    let mut left = header.size;
    while left > 0 {
        let part = process.part(left).await.map_err(ReadError::Git)?;
        let count = part.len();
        let wanted = count.min(LARGEST - data.len());
        data.extend_from_slice(&part[..wanted]);
        process.used(count);
        left -= count as u64;
    }
    process.end_of_content().await.map_err(ReadError::Git)?;
    objects.put_back(process);
    Ok(data.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_none() {
        for path in ["farmer.toml", "a/b", "-rf", "a b/ü", "..."] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
