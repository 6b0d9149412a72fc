//! Reads objects of one mirror through long-lived `git cat-file --batch` processes: starting git for each read would
//! cost more than all the rest of serving a small archive.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    sync::Semaphore,
    time::Instant,
};
use types::CommitHash;

use crate::{
    cache::{Cache, Kind, Object},
    git::{Arguments, Call, Git},
    tree::{self, MalformedError},
};

/// Names that are asked for at once. All of them fit into a pipe, so that writing never waits for reading.
pub(crate) const WINDOW: usize = 64;
/// Reads that run at once in one mirror; each may hold a process.
const READERS: usize = 8;
/// The largest object that is read as a whole.
const LARGEST: u64 = 256 << 20;
/// How long git may take to answer; it reads from a local disk.
const PATIENCE: Duration = Duration::from_mins(1);

/// An object could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Git ended, hung or made no sense.
    #[error("cannot read an object through `git cat-file`")]
    Git(#[source] std::io::Error),
    /// The object is not what it should be.
    #[error("cannot make sense of an object")]
    Malformed(#[from] MalformedError),
    /// A commit or tree names an object that is not there.
    #[error("object `{0}` is missing although another one names it")]
    Missing(CommitHash),
    /// Too large for what was asked.
    #[error("object `{name}` of {size} bytes is too large")]
    TooLarge {
        /// The object.
        name: CommitHash,
        /// Its size.
        size: u64,
    },
}

/// The objects of one mirror. Clones are the same.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Inner>);

struct Inner {
    /// Tells mirrors apart in the cache.
    id: u32,
    git: Git,
    mirror: PathBuf,
    /// The object folder of an origin on this machine.
    origin: Mutex<Option<PathBuf>>,
    cache: Arc<Cache>,
    readers: Semaphore,
    idle: Mutex<Vec<(Process, Instant)>>,
    /// Grows when processes that were started before know a mirror that is no more.
    generation: AtomicU64,
}

impl Objects {
    /// Of a mirror.
    pub(crate) fn new(git: &Git, mirror: &Path, id: u32, cache: Arc<Cache>) -> Self {
        Self(Arc::new(Inner {
            id,
            git: git.clone(),
            mirror: mirror.to_owned(),
            origin: Mutex::default(),
            cache,
            readers: Semaphore::new(READERS),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
        }))
    }

    /// Reads what the mirror does not have in the origin, too, when that is on this machine.
    pub(crate) fn set_origin(&self, objects: Option<PathBuf>) {
        let mut origin = self.0.origin.lock().unwrap_or_else(PoisonError::into_inner);
        if *origin != objects {
            *origin = objects;
            drop(origin);
            self.reset();
        }
    }

    /// A call of git that sees the same objects.
    pub(crate) fn call<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Call {
        let origin = self.0.origin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.git.call(&self.0.mirror, arguments).objects_of(origin.as_deref())
    }

    /// Whether objects of an origin on this machine are seen.
    pub(crate) fn sees_origin(&self) -> bool {
        self.0.origin.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Forgets every process: the mirror or its origin was made anew.
    pub(crate) fn reset(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.idle().clear();
    }

    /// Ends the processes that nobody used for so long.
    pub(crate) fn end_idle(&self, after: Duration) {
        self.idle().retain(|(_, since)| since.elapsed() < after);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Process, Instant)>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process to speak to. Give it back with [`Objects::put_back`]; dropped, it is killed.
    pub(crate) fn process(&self) -> Result<Process, ReadError> {
        while let Some((mut process, _)) = { self.idle().pop() } {
            if process.is_alive() {
                return Ok(process);
            }
        }
        let generation = self.0.generation.load(Ordering::SeqCst);
        let arguments = self.call(["cat-file", "--batch"]).into_arguments();
        Process::start(&arguments, generation).map_err(ReadError::Git)
    }

    /// Gives a process back, for the next reader.
    pub(crate) fn put_back(&self, process: Process) {
        let current = self.0.generation.load(Ordering::SeqCst);
        if process.owed == 0 && process.generation == current {
            self.idle().push((process, Instant::now()));
        }
    }

    /// The object, if the cache has it.
    pub(crate) fn cached(&self, name: CommitHash) -> Option<Object> {
        self.0.cache.read(self.0.id, name)
    }

    /// Remembers an object.
    pub(crate) fn keep(&self, name: CommitHash, object: &Object) {
        self.0.cache.keep(self.0.id, name, object);
    }

    /// Reads objects, in the order asked for; none for those that are not there.
    pub(crate) async fn read_all(&self, names: &[CommitHash]) -> Result<Vec<Option<Object>>, ReadError> {
        let mut found: Vec<_> = names.iter().map(|name| self.cached(*name)).collect();
        let missing: Vec<_> = (0..names.len()).filter(|at| found[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let questions: Vec<_> = missing.iter().map(|at| names[*at].to_string()).collect();
        let answers = self.ask(&questions).await?;
        for (at, answer) in missing.into_iter().zip(answers) {
            if let Some((_, object)) = answer {
                self.keep(names[at], &object);
                found[at] = Some(object);
            }
        }
        Ok(found)
    }

    /// Reads one object.
    pub(crate) async fn read(&self, name: CommitHash) -> Result<Option<Object>, ReadError> {
        Ok(self.read_all(&[name]).await?.pop().flatten())
    }

    /// The raw bytes of a commit; none if it is not there or something else.
    pub(crate) async fn commit(&self, name: CommitHash) -> Result<Option<Bytes>, ReadError> {
        let object = self.read(name).await?;
        Ok(object.filter(|object| object.kind == Kind::Commit).map(|object| object.data))
    }

    /// A tree that must be there.
    pub(crate) async fn tree(&self, name: CommitHash) -> Result<Vec<tree::Entry>, ReadError> {
        match self.read(name).await? {
            Some(object) if object.kind == Kind::Tree => Ok(tree::entries(&object.data)?),
            _ => Err(ReadError::Missing(name)),
        }
    }

    /// The commits that refs lead to: a tag's target, however many tags are between. None for what is no commit.
    pub(crate) async fn peel(&self, names: &[CommitHash]) -> Result<Vec<Option<CommitHash>>, ReadError> {
        let questions: Vec<_> = names.iter().map(|name| format!("{name}^{{commit}}")).collect();
        let answers = self.ask(&questions).await?;
        let commits = answers.into_iter().map(|answer| {
            let (name, object) = answer?;
            self.keep(name, &object);
            Some(name)
        });
        Ok(commits.collect())
    }

    /// Asks for names as git understands them. A process that died in between is replaced once.
    async fn ask(&self, questions: &[String]) -> Result<Vec<Option<(CommitHash, Object)>>, ReadError> {
        let _reader =
            self.0.readers.acquire().await.map_err(std::io::Error::other).map_err(ReadError::Git)?;
        match self.ask_once(questions).await {
            Err(ReadError::Git(_)) => {
                self.idle().clear();
                self.ask_once(questions).await
            }
            result => result,
        }
    }

    async fn ask_once(&self, questions: &[String]) -> Result<Vec<Option<(CommitHash, Object)>>, ReadError> {
        let mut process = self.process()?;
        let mut answers = Vec::with_capacity(questions.len());
        for window in questions.chunks(WINDOW) {
            process.ask(window).await.map_err(ReadError::Git)?;
            for _ in window {
                let Some(header) = process.header().await.map_err(ReadError::Git)? else {
                    answers.push(None);
                    continue;
                };
                if header.size > LARGEST {
                    return Err(ReadError::TooLarge { name: header.name, size: header.size });
                }
                let data = process.content(header.size).await.map_err(ReadError::Git)?;
                answers.push(Some((header.name, Object { kind: header.kind, data })));
            }
        }
        self.put_back(process);
        Ok(answers)
    }
}

/// What git says before an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectHeader {
    pub(crate) name: CommitHash,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
}

/// One `git cat-file --batch`. For each name asked, read the header and, unless it is missing, all of the content.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
    /// Answers that were not read to their end.
    owed: usize,
    generation: u64,
}

impl Process {
    fn start(arguments: &Arguments, generation: u64) -> std::io::Result<Self> {
        let mut child = arguments.command().stderr(Stdio::null()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("git has no pipes"));
        };
        let stdout = BufReader::with_capacity(64 << 10, stdout);
        Ok(Self { child, stdin, stdout, line: Vec::new(), owed: 0, generation })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks for up to [`WINDOW`] names.
    pub(crate) async fn ask(&mut self, names: &[impl AsRef<str>]) -> std::io::Result<()> {
        debug_assert!(names.len() <= WINDOW, "the answer could block the question");
        let mut text = String::with_capacity(names.len() * 52);
        for name in names {
            text.push_str(name.as_ref());
            text.push('\n');
        }
        self.owed += names.len();
        patiently(self.stdin.write_all(text.as_bytes())).await
    }

    /// The header of the next object; none if it is not there.
    pub(crate) async fn header(&mut self) -> std::io::Result<Option<ObjectHeader>> {
        self.line.clear();
        patiently(self.stdout.read_until(b'\n', &mut self.line)).await?;
        let line = self.line.strip_suffix(b"\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if line.ends_with(b" missing") {
            self.owed -= 1;
            return Ok(None);
        }
        let header = parse_header(line);
        let odd = || std::io::Error::other(format!("git said `{}`", String::from_utf8_lossy(line)));
        header.map(Some).ok_or_else(odd)
    }

    /// All of a content.
    pub(crate) async fn content(&mut self, size: u64) -> std::io::Result<Bytes> {
        let mut data = vec![0; size as usize];
        patiently(self.stdout.read_exact(&mut data)).await?;
        self.end_of_content().await?;
        Ok(data.into())
    }

    /// The next part of a content of which `left` bytes are to come: give the number that were used to
    /// [`Process::used`].
    pub(crate) async fn part(&mut self, left: u64) -> std::io::Result<&[u8]> {
        let part = patiently(self.stdout.fill_buf()).await?;
        if part.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&part[..part.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    /// So many bytes of the last part were used.
    pub(crate) fn used(&mut self, count: usize) {
        self.stdout.consume(count);
    }

    /// To be called after the last part of a content.
    pub(crate) async fn end_of_content(&mut self) -> std::io::Result<()> {
        let byte = patiently(self.stdout.read_u8()).await?;
        self.owed -= 1;
        if byte == b'\n' { Ok(()) } else { Err(std::io::Error::other("git's answers are out of step")) }
    }
}

async fn patiently<T>(io: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match tokio::time::timeout(PATIENCE, io).await {
        Ok(result) => result,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

fn parse_header(line: &[u8]) -> Option<ObjectHeader> {
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let name = words.next()?.parse().ok()?;
    let kind = match words.next()? {
        "commit" => Kind::Commit,
        "tree" => Kind::Tree,
        "blob" => Kind::Blob,
        "tag" => Kind::Tag,
        _ => return None,
    };
    Some(ObjectHeader { name, kind, size: words.next()?.parse().ok()? })
}
