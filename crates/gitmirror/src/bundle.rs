//! Takes commits that are on no host: `farmer try` sends the working tree as a git bundle.

use std::path::{Path, PathBuf};

use tokio::{fs::File, io::AsyncReadExt, io::AsyncWriteExt};
use types::{CommitHash, Timestamp};
use uuid::Uuid;

use crate::{
    git::GitError,
    mirror::TRY_REFS,
    repository::{CommitError, Repository},
};

/// The largest bundle.
const LARGEST: u64 = 512 << 20;
/// The largest head of a bundle: one line for each ref and prerequisite.
const LARGEST_HEAD: u64 = 1 << 20;

/// A bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// It is no bundle, or not of the commit.
    #[error("this is not a bundle of commit `{commit}`: {why}")]
    Bad {
        /// The commit that it should bring.
        commit: CommitHash,
        /// What is wrong.
        why: String,
    },
    /// It builds on commits that nobody here has.
    #[error(
        "the bundle builds on commit `{missing}`, which neither the mirror of `{repository}` nor its origin has: \
         push that commit, or make the bundle from one that the origin has"
    )]
    Prerequisite {
        /// The repository.
        repository: String,
        /// The first that is missing.
        missing: CommitHash,
    },
    /// Too many bytes.
    #[error("the bundle is larger than {} MiB: make it from a newer commit that the origin has", LARGEST >> 20)]
    TooLarge,
    /// The id belongs to something else.
    #[error("request `{id}` brought commit `{kept}` before: use a new id for another commit")]
    Reused {
        /// The id.
        id: Uuid,
        /// What it brought.
        kept: CommitHash,
    },
    /// The disk does not take it.
    #[error("cannot store the bundle")]
    File(#[from] std::io::Error),
    /// A commit could not be looked up.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Git failed for a reason of ours.
    #[error("cannot keep the bundle's commit")]
    Git(#[source] GitError),
}

/// A bundle on its way in. Dropped, its file is gone.
pub(crate) struct Incoming {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Incoming {
    /// Begins a file in a folder.
    pub(crate) async fn new(folder: &Path) -> Result<Self, UploadError> {
        tokio::fs::create_dir_all(folder).await?;
        let path = folder.join(format!("{}.bundle", runtime::id::new_id()));
        Ok(Self { file: File::create(&path).await?, path, size: 0 })
    }

    /// Appends a piece.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), UploadError> {
        self.size += chunk.len() as u64;
        if self.size > LARGEST {
            return Err(UploadError::TooLarge);
        }
        Ok(self.file.write_all(chunk).await?)
    }

    /// Puts the commit into the mirror. Gives the ref that keeps it.
    pub(crate) async fn store(
        mut self,
        repository: &Repository,
        id: Uuid,
        commit: CommitHash,
        now: Timestamp,
    ) -> Result<String, UploadError> {
        self.file.flush().await?;
        let mut head = Vec::new();
        File::open(&self.path).await?.take(LARGEST_HEAD).read_to_end(&mut head).await?;
        let bad = |why: &str| UploadError::Bad { commit, why: why.to_owned() };
        let head = Head::parse(&head).map_err(bad)?;
        if !head.tips.contains(&commit) {
            return Err(bad("no ref of the bundle is at that commit"));
        }
        for needed in head.prerequisites {
            match repository.need(needed).await {
                Err(CommitError::Unknown { .. }) => {
                    let repository = repository.name.to_string();
                    return Err(UploadError::Prerequisite { repository, missing: needed });
                }
                other => other?,
            };
        }
        let name = ref_of(id);
        repository.kept.note(&name, now)?;
        let arguments =
            ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--"];
        let arguments = arguments
            .into_iter()
            .map(Into::into)
            .chain([self.path.clone().into_os_string(), format!("+{commit}:{name}").into()]);
        repository.objects.call(arguments).run().await.map_err(|error| match error {
            GitError::Failed { message, .. } => bad(&message),
            error => UploadError::Git(error),
        })?;
        if repository.objects.commit(commit).await.map_err(CommitError::Read)?.is_none() {
            repository.mirror.delete_ref(&name).await.map_err(UploadError::Git)?;
            return Err(bad("that object is not a commit"));
        }
        Ok(name)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The ref that keeps what a request brought.
fn ref_of(id: Uuid) -> String {
    format!("{TRY_REFS}{id}")
}

/// The ref of an earlier upload with the same id, if there was one.
pub(crate) async fn earlier(
    repository: &Repository,
    id: Uuid,
    commit: CommitHash,
) -> Result<Option<String>, UploadError> {
    let name = ref_of(id);
    let kept = repository.mirror.refs(std::slice::from_ref(&name)).await.map_err(UploadError::Git)?;
    match kept.first() {
        None => Ok(None),
        Some(kept) if kept.target == commit => Ok(Some(name)),
        Some(kept) => Err(UploadError::Reused { id, kept: kept.target }),
    }
}

/// What stands at the beginning of a bundle.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    prerequisites: Vec<CommitHash>,
    tips: Vec<CommitHash>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        if !matches!(lines.next(), Some(b"# v2 git bundle" | b"# v3 git bundle")) {
            return Err("it does not begin as a git bundle");
        }
        let mut head = Self { prerequisites: Vec::new(), tips: Vec::new() };
        for line in lines {
            let hash = |text: &[u8]| text.get(..40).and_then(|hash| str::from_utf8(hash).ok()?.parse().ok());
            match line {
                [] if head.tips.is_empty() => return Err("it brings no commit"),
                [] => return Ok(head),
                [b'@', capability @ ..] if capability == b"object-format=sha1" => {}
                [b'@', ..] => return Err("it needs a capability that is not supported: use a plain bundle"),
                [b'-', rest @ ..] => head.prerequisites.push(hash(rest).ok_or("its head is malformed")?),
                line => head.tips.push(hash(line).ok_or("its head is malformed")?),
            }
        }
        Err("its head has no end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_bundle_names_what_it_brings_and_needs() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!("# v2 git bundle\n-{a} the subject\n{b} refs/heads/x\n\nPACK");
        let expected = Head { prerequisites: vec![a.parse().unwrap()], tips: vec![b.parse().unwrap()] };
        assert_eq!(Head::parse(text.as_bytes()), Ok(expected));
        let text = format!("# v3 git bundle\n@object-format=sha1\n{b} HEAD\n\n");
        assert_eq!(Head::parse(text.as_bytes()).unwrap().tips.len(), 1);
    }

    #[test]
    fn what_is_no_bundle_is_refused_with_words() {
        for text in [
            "",
            "PK",
            "# v9 git bundle\n\n",
            "# v2 git bundle\nxyz\n\n",
            "# v2 git bundle\n",
            "# v3 git bundle\n@filter=x\n\n",
        ] {
            assert!(Head::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
