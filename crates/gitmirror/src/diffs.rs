//! What commits changed, by `git diff-tree --numstat` in a process that stays, because most questions are about one
//! commit that has just appeared.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api::maintpb::GitDiffTreeFile;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    time::{Instant, timeout},
};
use types::CommitHash;

use crate::objects::Objects;

/// Commits that are asked for at once; their names fit into a pipe.
const WINDOW: usize = 200;
/// Git repeats a line that is no commit, and flushes: so we know where answers end.
const MARK: &str = "end of answer";
/// A process that answered for so many commits is ended: git keeps every commit that it read in memory.
const COMMITS_OF_A_LIFE: usize = 20_000;
/// How long git may take for one line; a commit may change very much.
const PATIENCE: Duration = Duration::from_mins(5);

/// The diffs of one mirror.
pub(crate) struct Diffs {
    objects: Objects,
    idle: Mutex<Option<(Process, Instant)>>,
}

/// Files by commit, in git's order; commits without any are left out.
pub(crate) type FilesByCommit = HashMap<CommitHash, Vec<GitDiffTreeFile>>;

impl Diffs {
    /// Of the mirror that holds the objects.
    pub(crate) fn new(objects: Objects) -> Self {
        Self { objects, idle: Mutex::default() }
    }

    /// The files that commits changed against their parent; none for merges and roots, as in Go's maintner. Paths are
    /// quoted as git quotes them.
    pub(crate) async fn of(&self, commits: &[CommitHash]) -> std::io::Result<FilesByCommit> {
        match self.of_once(commits).await {
            // The process may have died or know a mirror that was made anew.
            Err(_) => self.of_once(commits).await,
            files => files,
        }
    }

    async fn of_once(&self, commits: &[CommitHash]) -> std::io::Result<FilesByCommit> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut process = match idle {
            Some((process, _)) => process,
            None => Process::start(&self.objects)?,
        };
        let mut files = HashMap::new();
        for window in commits.chunks(WINDOW) {
            timeout(PATIENCE * 2, process.ask(window, &mut files)).await.map_err(std::io::Error::from)??;
        }
        if process.answered < COMMITS_OF_A_LIFE {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((process, Instant::now()));
        }
        Ok(files)
    }

    /// Ends the process if nobody used it for so long.
    pub(crate) fn end_idle(&self, after: Duration) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.as_ref().is_some_and(|(_, since)| since.elapsed() >= after) {
            *idle = None;
        }
    }
}

struct Process {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    answered: usize,
}

impl Process {
    fn start(objects: &Objects) -> std::io::Result<Self> {
        let arguments = objects.call(["diff-tree", "--stdin", "--numstat", "--no-renames"]).into_arguments();
        let mut child = arguments.command().stderr(Stdio::null()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("git has no pipes"));
        };
        Ok(Self { _child: child, stdin, stdout: BufReader::new(stdout), answered: 0 })
    }

    async fn ask(&mut self, commits: &[CommitHash], files: &mut FilesByCommit) -> std::io::Result<()> {
        let mut text: String = commits.iter().flat_map(|commit| [commit.to_string(), "\n".into()]).collect();
        text.push_str(MARK);
        text.push('\n');
        self.stdin.write_all(text.as_bytes()).await?;
        self.answered += commits.len();
        let mut current = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            timeout(PATIENCE, self.stdout.read_until(b'\n', &mut line)).await??;
            let text = line.strip_suffix(b"\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let text = String::from_utf8_lossy(text);
            if text == MARK {
                return Ok(());
            }
            if let Ok(commit) = text.parse::<CommitHash>() {
                current = Some(commit);
            } else if let (Some(commit), Some(file)) = (current, parse(&text)) {
                files.entry(commit).or_default().push(file);
            } else {
                return Err(std::io::Error::other(format!("git said `{text}`")));
            }
        }
    }
}

/// `ADDED<tab>DELETED<tab>PATH`, with dashes for a binary file.
fn parse(line: &str) -> Option<GitDiffTreeFile> {
    let mut columns = line.splitn(3, '\t');
    let (added, deleted, file) = (columns.next()?, columns.next()?, columns.next()?);
    if (added, deleted) == ("-", "-") {
        return Some(GitDiffTreeFile { file: file.to_owned(), binary: true, ..Default::default() });
    }
    Some(GitDiffTreeFile {
        file: file.to_owned(),
        added: added.parse().ok()?,
        deleted: deleted.parse().ok()?,
        binary: false,
    })
}
