//! Runs git: in an environment of our own, in a process group of its own, with a bound on time and output.
//!
//! Git starts helpers (ssh, upload-pack, index-pack) that hold its pipes; so it is always the group that is ended, and
//! pipes are not waited for once git itself is gone.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

/// What git is told beside its arguments. `HOME` is ours, so nothing of the user's set-up changes what git does.
const SETTINGS: &str = "\
[safe]
\tdirectory = *
[user]
\tname = Farmer
\temail = farmer@localhost
[gc]
\tautoDetach = false
[maintenance]
\tauto = false
[core]
\tlogAllRefUpdates = false
[protocol \"ext\"]
\tallow = never
";

/// Passed on from our own environment: where programs, proxies, certificates and ssh's agent are.
const PASSED_ON: &[&str] = &[
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// The oldest git that has all we use.
const OLDEST: (u32, u32) = (2, 30);
/// How long git may take to tidy up after it was asked to end.
const GRACE: Duration = Duration::from_secs(1);
/// How long the pipes of an ended git are still read.
const LAST_WORDS: Duration = Duration::from_secs(2);
const MAX_STDOUT: usize = 256 << 20;
const MAX_STDERR: usize = 8 << 10;

/// There is no git that we can use.
#[derive(Debug, thiserror::Error)]
pub enum FindGitError {
    /// Not on the `PATH`.
    #[error("there is no `git` on the PATH: install git 2.30 or newer and start again")]
    Missing,
    /// It is there, but does not run.
    #[error("`git --version` does not work: repair the installation of git and start again")]
    Broken(#[source] GitError),
    /// It is there, but old.
    #[error("`{0}` is too old: install git 2.30 or newer and start again")]
    TooOld(String),
    /// Its home could not be made.
    #[error("cannot write `{}`", path.display())]
    Home {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Git did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started or spoken to.
    #[error("cannot run `git {what}`")]
    Run {
        /// The subcommand.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long and was killed, helpers included.
    #[error("`git {what}` did not end within {} s and was killed", after.as_secs())]
    TimedOut {
        /// The subcommand.
        what: String,
        /// How long it was given.
        after: Duration,
    },
    /// It said no.
    #[error("`git {what}` failed: {message}")]
    Failed {
        /// The subcommand.
        what: String,
        /// The end of what it said.
        message: String,
    },
}

impl GitError {
    /// What git itself said, if it said something.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Failed { message, .. } => message,
            _ => "",
        }
    }
}

/// A git that works. Clones are the same.
#[derive(Clone)]
pub(crate) struct Git(Arc<Inner>);

struct Inner {
    home: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Git {
    /// Looks for git and gives it a home.
    pub(crate) async fn find(home: &Path) -> Result<Self, FindGitError> {
        let passed_on = PASSED_ON.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
        Self::find_with(home, passed_on.collect()).await
    }

    async fn find_with(home: &Path, environment: Vec<(OsString, OsString)>) -> Result<Self, FindGitError> {
        let failed = |source| FindGitError::Home { path: home.to_owned(), source };
        std::fs::create_dir_all(home).map_err(failed)?;
        std::fs::write(home.join(".gitconfig"), SETTINGS).map_err(failed)?;
        let git = Self(Arc::new(Inner { home: home.to_owned(), environment }));
        let said = git.call(home, ["--version"]).run().await.map_err(|error| match error {
            GitError::Run { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                FindGitError::Missing
            }
            error => FindGitError::Broken(error),
        })?;
        let version = String::from_utf8_lossy(&said).trim().to_owned();
        if is_new_enough(&version) { Ok(git) } else { Err(FindGitError::TooOld(version)) }
    }

    /// A call in a folder.
    pub(crate) fn call<A: Into<OsString>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Call {
        Call {
            command: Arguments {
                git: self.clone(),
                folder: folder.to_owned(),
                list: arguments.into_iter().map(Into::into).collect(),
                objects_of: None,
            },
            input: Vec::new(),
            limit: Duration::from_mins(10),
        }
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split_whitespace().nth(2).unwrap_or_default().split('.').map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= OLDEST
}

/// How git is started, however long it then runs.
#[derive(Clone)]
pub(crate) struct Arguments {
    git: Git,
    folder: PathBuf,
    list: Vec<OsString>,
    objects_of: Option<OsString>,
}

impl Arguments {
    /// As a command, in a process group of its own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .args(&self.list)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.git.0.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", &self.git.0.home)
            .env("PWD", &self.folder)
            .env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        if let Some(folder) = &self.objects_of {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", folder);
        }
        command
    }

    /// Lets git read objects of another repository too.
    pub(crate) fn objects_of(mut self, folder: Option<&Path>) -> Self {
        self.objects_of = folder.map(alternates);
        self
    }

    /// The subcommand, for messages.
    fn what(&self) -> String {
        self.list
            .iter()
            .find(|word| !word.as_encoded_bytes().starts_with(b"-"))
            .or(self.list.first())
            .map_or_else(String::new, |word| word.to_string_lossy().into_owned())
    }
}

/// One call of git that ends by itself.
pub(crate) struct Call {
    command: Arguments,
    input: Vec<u8>,
    limit: Duration,
}

impl Call {
    /// What git reads.
    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// How long it may take.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lets git read objects of another repository too.
    pub(crate) fn objects_of(mut self, folder: Option<&Path>) -> Self {
        self.command = self.command.objects_of(folder);
        self
    }

    /// How it is started, for those who speak to git themselves.
    pub(crate) fn into_arguments(self) -> Arguments {
        self.command
    }

    /// Runs it. Gives what it printed.
    pub(crate) async fn run(self) -> Result<Vec<u8>, GitError> {
        let what = self.command.what();
        let failed = |source| GitError::Run { what: what.clone(), source };
        let mut child = Group(self.command.command().spawn().map_err(failed)?);
        let ended = timeout(self.limit, child.talk(self.input)).await;
        let Ok(ended) = ended else {
            child.end().await;
            return Err(GitError::TimedOut { what, after: self.limit });
        };
        let (status, stdout, stderr) = ended.map_err(failed)?;
        if status.success() {
            return Ok(stdout);
        }
        Err(GitError::Failed { message: last_lines(&stderr, status), what })
    }
}

/// A process and its helpers. Dropped before its end, all of them are killed.
struct Group(Child);

impl Group {
    /// Writes its input, reads its output and waits for its end.
    async fn talk(&mut self, input: Vec<u8>) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let (stdin, stdout, stderr) = (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let write = async move {
            if let Some(mut stdin) = stdin {
                // A git that does not want all of it says why by its exit code.
                let _ = stdin.write_all(&input).await;
            }
        };
        let pipes = async { tokio::join!(write, read(stdout, MAX_STDOUT), read_end(stderr)) };
        tokio::pin!(pipes);
        tokio::select! {
            ((), stdout, stderr) = &mut pipes => Ok((self.0.wait().await?, stdout?, stderr)),
            status = self.0.wait() => {
                let status = status?;
                match timeout(LAST_WORDS, &mut pipes).await {
                    Ok(((), stdout, stderr)) => Ok((status, stdout?, stderr)),
                    Err(_) => Err(std::io::Error::other("a helper of git outlived it and held its pipes")),
                }
            }
        }
    }

    /// Asks it to end; kills it if it does not.
    async fn end(&mut self) {
        self.signal(Signal::INT);
        let _ = timeout(GRACE, self.0.wait()).await;
        self.signal(Signal::KILL);
        let _ = timeout(GRACE, self.0.wait()).await;
    }

    fn signal(&self, signal: Signal) {
        signal_group(&self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Signals a child that leads a process group, unless it has been waited for: its number may be another's by then.
pub(crate) fn signal_group(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The group may be gone already.
        let _ = kill_process_group(pid, signal);
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > limit {
        return Err(std::io::Error::other(format!("git printed more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads all and keeps the end.
async fn read_end(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut end = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        end.extend_from_slice(&chunk[..count]);
        if end.len() > 2 * MAX_STDERR {
            end.drain(..end.len() - MAX_STDERR);
        }
    }
    end
}

/// The lines by which git says why, on one line; progress and hints are left out.
fn last_lines(stderr: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling =
        |line: &&str| ["fatal:", "error:", "remote:", "ssh:"].iter().any(|start| line.starts_with(start));
    let mut chosen: Vec<_> = lines.iter().copied().filter(|line| telling(line)).collect();
    if chosen.is_empty() {
        chosen = lines;
    }
    let skip = chosen.len().saturating_sub(3);
    match chosen.get(skip..) {
        Some(lines) if !lines.is_empty() => redact(&lines.join("; ")),
        _ => status.to_string(),
    }
}

/// Takes `user:password@` out of the URLs of a text: git repeats them.
pub fn redact(text: &str) -> String {
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let host_end = part.find(['/', '\'', '"', ' ']).unwrap_or(part.len());
        let start = part[..host_end].rfind('@').map_or(0, |at| at + 1);
        out.push_str("://");
        out.push_str(&part[start..]);
    }
    out
}

/// One folder as `GIT_ALTERNATE_OBJECT_DIRECTORIES` wants it: quoted where it could be read as a list.
fn alternates(folder: &Path) -> OsString {
    let bytes = folder.as_os_str().as_encoded_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b':' | b'"' | b'\\')) {
        return folder.as_os_str().to_owned();
    }
    let text = folder.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    OsStr::new(&format!("\"{text}\"")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_new_enough("git version 2.39.5"));
        assert!(is_new_enough("git version 2.100.0.windows.1"));
        assert!(is_new_enough("git version 3.0"));
        assert!(!is_new_enough("git version 2.9.1"));
        assert!(!is_new_enough("nonsense"));
    }

    #[test]
    fn messages_hold_no_credentials() {
        assert_eq!(
            redact("fatal: unable to access 'https://me:secret@host/a/': no"),
            "fatal: unable to access 'https://host/a/': no"
        );
        assert_eq!(redact("fatal: https://host/a@b"), "fatal: https://host/a@b");
    }

    #[test]
    fn a_folder_with_a_colon_is_quoted() {
        assert_eq!(alternates(Path::new("/a/b")), "/a/b");
        assert_eq!(alternates(Path::new("/a:b\"c")), "\"/a:b\\\"c\"");
    }

    #[tokio::test]
    async fn without_a_git_there_is_one_clear_line() {
        let home = tempfile::tempdir().unwrap();
        let find = |path: &Path| Git::find_with(home.path(), vec![("PATH".into(), path.into())]);
        let missing = find(Path::new("/nonexistent")).await.err().unwrap();
        assert!(matches!(missing, FindGitError::Missing) && missing.to_string().contains("install git"));
        let bin = tempfile::tempdir().unwrap();
        for (script, words) in [("echo git version 2.9.1", "too old"), ("exit 1", "repair")] {
            let git = bin.path().join("git");
            std::fs::write(&git, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let error = find(bin.path()).await.err().unwrap();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn a_git_that_hangs_is_killed_with_its_helpers() {
        let home = tempfile::tempdir().unwrap();
        let git = Git::find(home.path()).await.unwrap();
        let pid = home.path().join("pid");
        let alias = format!(
            "alias.hang=!sh -c 'trap \"\" INT; echo $$ >{}; sleep 600 & wait; sleep 600'",
            pid.display()
        );
        let error = git
            .call(home.path(), ["-c", &alias, "hang"])
            .limit(Duration::from_millis(500))
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, GitError::TimedOut { .. }), "{error}");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => true,
            Ok(stat) => stat.contains(") Z "),
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(tokio::time::Instant::now() < deadline, "the helper {pid} still runs");
            tokio::task::yield_now().await;
        }
    }
}
