//! The history between some commits and others, as maintner wants it.

use api::maintpb::{GitCommit, GitDiffTree};
use tokio::sync::mpsc;
use types::CommitHash;

use crate::{
    cache::Kind,
    git::GitError,
    objects::ReadError,
    repository::{CommitError, Repository},
    tree,
};

/// Commits that are read at once.
const WINDOW: usize = 200;
/// Commits in one message.
pub(crate) const MESSAGE_COMMITS: usize = 500;
/// Bytes in one message, roughly: well below what a client takes.
const MESSAGE_BYTES: usize = 2 << 20;
/// How far history is followed without starting git.
const STEPS: usize = 16;

/// Which commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) include: Vec<CommitHash>,
    pub(crate) exclude: Vec<CommitHash>,
    /// The most that are wanted, from the newest; 0 for all.
    pub(crate) limit: u32,
}

/// Commits could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// One to start from is not there.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Git does not answer.
    #[error("cannot walk the history")]
    Walk(#[source] GitError),
    /// A commit could not be read.
    #[error("cannot read a commit")]
    Read(#[from] ReadError),
    /// What a commit changed could not be read.
    #[error("cannot compare a commit with its parent")]
    Compare(#[source] std::io::Error),
}

/// The names of the commits, parents before children.
pub(crate) async fn names(repository: &Repository, query: &Query) -> Result<Vec<CommitHash>, ListError> {
    repository.need_all(&query.include).await?;
    if let Some(names) = straight(repository, query).await? {
        return Ok(names);
    }
    let wanted = query.include.iter().map(|commit| format!("{commit}\n"));
    let unwanted = query.exclude.iter().map(|commit| format!("^{commit}\n"));
    let input: String = wanted.chain(unwanted).collect();
    let mut arguments = vec!["rev-list", "--reverse", "--topo-order", "--ignore-missing", "--stdin"];
    let limit = format!("--max-count={}", query.limit);
    if query.limit > 0 {
        arguments.push(&limit);
    }
    let printed =
        repository.objects.call(arguments).input(input.into_bytes()).run().await.map_err(ListError::Walk)?;
    let lines = printed.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| str::from_utf8(line).ok()?.parse().ok()).collect())
}

/// The answer to the common question, what one new commit or a few add to the branch they extend: a straight line from
/// one commit to one other. Nothing on such a line can be reached from its end, so it is the whole answer.
async fn straight(repository: &Repository, query: &Query) -> Result<Option<Vec<CommitHash>>, ReadError> {
    let ([start], [end]) = (&query.include[..], &query.exclude[..]) else { return Ok(None) };
    let mut names = Vec::new();
    let mut next = *start;
    while next != *end {
        if names.len() == STEPS {
            return Ok(None);
        }
        let Some(raw) = repository.objects.commit(next).await? else { return Ok(None) };
        names.push(next);
        match tree::commit(&raw)?.parents[..] {
            [parent] => next = parent,
            _ => return Ok(None),
        }
    }
    if query.limit > 0 {
        names.truncate(query.limit as usize);
    }
    names.reverse();
    Ok(Some(names))
}

/// Reads commits and sends them in messages, until done or nobody listens.
pub(crate) async fn send(
    repository: &Repository,
    names: &[CommitHash],
    to: &mpsc::Sender<Result<Vec<GitCommit>, ListError>>,
) {
    let mut message = Vec::new();
    let mut bytes = 0;
    for window in names.chunks(WINDOW) {
        let commits = match read(repository, window).await {
            Ok(commits) => commits,
            Err(error) => {
                let _ = to.send(Err(error)).await;
                return;
            }
        };
        for commit in commits {
            let size = size(&commit);
            if message.len() == MESSAGE_COMMITS || (bytes + size > MESSAGE_BYTES && !message.is_empty()) {
                bytes = 0;
                if to.send(Ok(std::mem::take(&mut message))).await.is_err() {
                    return;
                }
            }
            bytes += size;
            message.push(commit);
        }
    }
    if !message.is_empty() {
        let _ = to.send(Ok(message)).await;
    }
}

fn size(commit: &GitCommit) -> usize {
    let files = commit.diff_tree.iter().flat_map(|tree| &tree.file);
    commit.raw.len() + 48 + files.map(|file| file.file.len() + 16).sum::<usize>()
}

async fn read(repository: &Repository, names: &[CommitHash]) -> Result<Vec<GitCommit>, ListError> {
    let diffs = async { repository.diffs.of(names).await.map_err(ListError::Compare) };
    let objects = async { repository.objects.read_all(names).await.map_err(ListError::Read) };
    let (mut diffs, objects) = tokio::try_join!(diffs, objects)?;
    let commits = names.iter().zip(objects).map(|(name, object)| {
        let object = object.filter(|object| object.kind == Kind::Commit).ok_or(ReadError::Missing(*name))?;
        Ok(GitCommit {
            sha1: name.to_string(),
            raw: object.data,
            diff_tree: Some(GitDiffTree { file: diffs.remove(name).unwrap_or_default() }),
        })
    });
    commits.collect()
}
