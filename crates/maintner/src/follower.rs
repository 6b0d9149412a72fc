//! The corpus of a log elsewhere, kept up to date: what a bot is written against.
//!
//! A follower keeps a copy of the log in a folder of its own. So it starts where it ended, also when the server cannot
//! be reached, and reads only what is new. The copy is a log like any other: its length is the position to go on
//! from, so that nothing is lost or doubled however the process ends.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use api::maintpb::Mutation;
use rpc::Channel;
use tokio::{
    sync::Mutex,
    task::{self, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Corpus, FollowError, Log, Options, ReplayError, ResumeToken, Start, Update, client,
    log::{AppendError, HistoryId, OpenError, encode, is_log_file, segment_files},
    snapshot,
};

/// Names the history that the copy is of.
const ORIGIN: &str = "origin";
/// Is there while a copy is being removed: whoever opens it next goes on with that.
const FORGET: &str = "forget";
/// When the corpus holds more bytes of mutations than this, it is read again from the copy, and refers to that instead.
const MOST_COPIED: usize = 256 * 1024 * 1024;

/// What a follower tells of.
#[derive(Debug)]
pub enum News<'a> {
    /// This mutation is in the log, and the corpus has it. One that was in the copy already is not told of.
    Applied(&'a Mutation),
    /// The corpus is as the log is. Comes again while nothing happens.
    CaughtUp,
    /// The log is another one now: the corpus is empty, and all of the other log follows.
    Restarted,
}

/// Following cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError {
    /// The copy cannot be opened. Removing its folder makes a new one.
    #[error("cannot open the copy of the log")]
    Open(#[from] OpenError),
    /// The copy cannot be read. Removing its folder makes a new one.
    #[error("cannot read the copy of the log")]
    Replay(#[from] ReplayError),
    /// What the folder holds is nobody's copy: a follower needs a folder of its own.
    #[error("`{}` holds a log that is no copy of another", .0.display())]
    NotACopy(PathBuf),
    /// The copy takes no more.
    #[error("cannot append to the copy of the log")]
    Append(#[from] AppendError),
    /// The disk said no.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The snapshot cannot be written. The copy is as it should be.
    #[error("cannot write a snapshot of the copy")]
    Snapshot(#[from] snapshot::SnapshotError),
    /// The server refuses, and would again.
    #[error("the server refuses to stream mutations")]
    Refused(#[source] tonic::Status),
}

/// A corpus with the copy of the log it was made from.
pub struct Follower {
    dir: PathBuf,
    log: Log,
    corpus: Box<Corpus>,
    origin: Option<HistoryId>,
    /// How many bytes of the copy the last snapshot was to cover, and the one that is being written.
    covered: u64,
    writing: Option<JoinHandle<Result<usize, snapshot::SnapshotError>>>,
    limits: Limits,
}

/// Bounds that tests shorten.
#[derive(Debug, Clone, Copy)]
struct Limits {
    most_copied: usize,
    /// A snapshot is written when so many bytes of the copy are in none.
    snapshot_bytes: u64,
    log: Options,
}

impl Default for Limits {
    fn default() -> Self {
        Self { most_copied: MOST_COPIED, snapshot_bytes: snapshot::WORTH_IT, log: Options::default() }
    }
}

impl Follower {
    /// Opens the copy in `dir`, or begins one, and makes the corpus that it holds. Needs no server.
    pub async fn open(dir: &Path) -> Result<Self, FollowerError> {
        Self::open_with(dir, Limits::default()).await
    }

    async fn open_with(dir: &Path, limits: Limits) -> Result<Self, FollowerError> {
        let dir = dir.to_owned();
        blocking(move || Self::open_now(&dir, limits)).await
    }

    fn open_now(dir: &Path, limits: Limits) -> Result<Self, FollowerError> {
        let io = |source| FollowerError::Io { path: dir.into(), source };
        fs::create_dir_all(dir).map_err(io)?;
        if fs::exists(dir.join(FORGET)).map_err(io)? {
            forget(dir).map_err(io)?;
        }
        let origin = read_origin(dir)?;
        // Without its origin nobody knows what a copy is a copy of, and all of it would come again.
        if origin.is_none() && segment_files(dir)?.iter().any(|segment| segment.bytes > 0) {
            return Err(FollowerError::NotACopy(dir.into()));
        }
        let log = Log::open(dir, limits.log)?;
        let (corpus, _) = snapshot::open(dir)?;
        let covered = snapshot::covered(dir);
        Ok(Self { dir: dir.into(), log, corpus: Box::new(corpus), origin, covered, writing: None, limits })
    }

    /// What is known now.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// How many mutations of the log are known.
    pub fn position(&self) -> u64 {
        self.log.extent().position
    }

    fn start(&self) -> Start {
        match self.origin {
            Some(history) if self.position() > 0 => {
                Start::After(ResumeToken { history, position: self.position() }.to_string())
            }
            _ => Start::Beginning,
        }
    }

    /// Follows the log at this address until cancelled, through restarts of either side. Each mutation is in the copy,
    /// durably, and in the corpus, before `see` is told of it. Answers with the follower, to be asked further.
    pub async fn follow(
        self,
        channel: Channel,
        cancel: CancellationToken,
        see: impl FnMut(&Corpus, News<'_>) + Send,
    ) -> Result<Self, FollowerError> {
        let start = self.start();
        let shared = Arc::new(Mutex::new((Some(self), see)));
        let handle = |update: Update| {
            let shared = Arc::clone(&shared);
            async move {
                let (follower, see) = &mut *shared.lock().await;
                let known = follower.take().ok_or(FollowerError::Append(AppendError::Closed))?;
                // Put back whole, or not at all: after an error nothing is known of it.
                *follower = Some(known.take_update(update, see).await?);
                Ok(())
            }
        };
        let followed = client::follow(channel, start, cancel, handle).await;
        match followed {
            Err(FollowError::Refused(status)) => return Err(FollowerError::Refused(status)),
            Err(FollowError::Handler(error)) => return Err(error),
            Ok(()) => {}
        }
        let follower = shared.lock().await.0.take();
        follower.ok_or(FollowerError::Append(AppendError::Closed))
    }

    async fn take_update(
        mut self,
        update: Update,
        see: &mut impl FnMut(&Corpus, News<'_>),
    ) -> Result<Self, FollowerError> {
        match update {
            Update::Batch { mutations, token } => {
                self.take_origin(&token)?;
                let encoded: Vec<_> = mutations.iter().map(encode).collect();
                self.log.enqueue(encoded).await?.durable().await?;
                for mutation in &mutations {
                    self.corpus.apply(mutation);
                    see(&self.corpus, News::Applied(mutation));
                }
                self.keep_snapshot();
                self.let_go_of_copies().await
            }
            Update::CaughtUp { .. } => {
                self.corpus.settle();
                see(&self.corpus, News::CaughtUp);
                Ok(self)
            }
            Update::Restarted => {
                let restarted = self.restart().await?;
                see(&restarted.corpus, News::Restarted);
                Ok(restarted)
            }
        }
    }

    /// Notes which history the first batch is of, before anything of it is in the copy.
    fn take_origin(&mut self, token: &str) -> Result<(), FollowerError> {
        if self.origin.is_some() {
            return Ok(());
        }
        let Ok(token) = token.parse::<ResumeToken>() else { return Ok(()) };
        write_durably(&self.dir, ORIGIN, &token.history.to_string())?;
        self.origin = Some(token.history);
        Ok(())
    }

    /// Begins to write a snapshot when the last one is old. One that cannot be written is only said: it is never needed.
    fn keep_snapshot(&mut self) {
        let bytes = self.log.extent().bytes;
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if is_writing || bytes < self.covered + self.limits.snapshot_bytes {
            return;
        }
        self.covered = bytes;
        let dir = self.dir.clone();
        self.writing = Some(task::spawn_blocking(move || {
            snapshot::write(&dir).inspect_err(|error| {
                let cause = error as &dyn std::error::Error;
                tracing::warn!(error = cause, "cannot write a snapshot: {error}");
            })
        }));
    }

    /// Waits for the snapshot that is being written.
    async fn finish_snapshot(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        // What failed was said.
        if let Err(error) = writing.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// Keeps the memory of a long catch-up within bounds. Nothing is being appended meanwhile.
    async fn let_go_of_copies(mut self) -> Result<Self, FollowerError> {
        if self.corpus.copied_bytes() > self.limits.most_copied {
            self.corpus = Box::default(); // both at a time would be too much
            let dir = self.dir.clone();
            let (corpus, _) = blocking(move || Ok(snapshot::open(&dir)?)).await?;
            *self.corpus = corpus;
        }
        Ok(self)
    }

    /// Removes the copy, and begins another.
    async fn restart(mut self) -> Result<Self, FollowerError> {
        self.log.close().await;
        self.finish_snapshot().await; // it would be written into the new copy
        let (dir, limits) = (self.dir, self.limits);
        blocking(move || {
            write_durably(&dir, FORGET, "")?;
            Self::open_now(&dir, limits)
        })
        .await
    }

    /// Writes a snapshot beside the copy, so that the next start is faster, and lets the copy go.
    pub async fn close(mut self) -> Result<(), FollowerError> {
        self.log.close().await;
        self.finish_snapshot().await;
        drop(self.corpus); // the snapshot is made of another
        let dir = self.dir;
        blocking(move || Ok(snapshot::write(&dir)?)).await.map(|_| ())
    }
}

/// Only the runtime's end cancels a blocking task, and then nobody waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FollowerError> + Send + 'static,
) -> Result<T, FollowerError> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(FollowerError::Append(AppendError::Closed)),
    }
}

fn read_origin(dir: &Path) -> Result<Option<HistoryId>, FollowerError> {
    let path = dir.join(ORIGIN);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FollowerError::Io { path, source }),
    }
}

fn write_durably(dir: &Path, name: &str, text: &str) -> Result<(), FollowerError> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let write = || {
        let mut file = File::create(&new)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| FollowerError::Io { path: path.clone(), source })
}

/// Removes what is ours in the folder, and last of all the word that it is to be removed.
fn forget(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if is_log_file(name) || [ORIGIN, snapshot::FILE].contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(dir)?.sync_all()?;
    fs::remove_file(dir.join(FORGET))
}

#[cfg(test)]
mod tests;
