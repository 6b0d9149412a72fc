//! The buildlet's side of the keeper.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command as TokioCommand},
    sync::Mutex,
};

use super::{
    descriptors,
    message::{self, Command, FromWarden, ToWarden},
    process,
    serve::Request,
};
use crate::{
    Config,
    keeper::contract::{KeeperError, Proof, Start, Usage, View},
};

/// How long the keeper may take to end everything: its own bounds, and some.
const FAREWELL: Duration = Duration::from_secs(15);

/// The running keeper.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    /// Locked for one request and its answer.
    socket: Arc<Mutex<UnixStream>>,
    child: Arc<Mutex<Child>>,
}

impl Keeper {
    /// Starts the keeper: a program that calls [`super::serve()`]. Must be called within the runtime.
    pub(crate) fn spawn(config: &Config) -> Result<Self, KeeperError> {
        let (name, args) = config.keeper.split_first().ok_or_else(|| {
            KeeperError::Start(io::Error::new(io::ErrorKind::InvalidInput, "no program was given"))
        })?;
        let start = || {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let child = TokioCommand::new(name)
                .args(args)
                // Builds run as the same user, so they can read it.
                .env_clear()
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .spawn()?;
            let socket = UnixStream::from_std(ours)?;
            Ok(Self { socket: Arc::new(Mutex::new(socket)), child: Arc::new(Mutex::new(child)) })
        };
        start().map_err(KeeperError::Start)
    }

    /// Whether execs join control groups.
    #[expect(clippy::unused_self, reason = "one that lives in the buildlet has none to join")]
    pub(crate) fn joins_groups(&self) -> bool {
        true
    }

    /// Whether [`Self::usage`] knows.
    #[expect(clippy::unused_self, reason = "one that lives in the buildlet may not")]
    pub(crate) fn knows_usage(&self) -> bool {
        true
    }

    /// What commands will see of the machine: the first thing that the keeper says.
    pub(crate) async fn view(&self) -> Result<View, KeeperError> {
        read(&mut *self.socket.lock().await).await.map_err(KeeperError::Lost)
    }

    /// Shows commands the folder that has taken the work folder's place. Only when nothing runs.
    pub(crate) async fn follow(&self) -> Result<(), KeeperError> {
        let mut socket = self.socket.lock().await;
        send(&socket, Request::Follow, &[]).await.map_err(KeeperError::Lost)?;
        let failed: Option<String> = read(&mut socket).await.map_err(KeeperError::Lost)?;
        failed.map_or(Ok(()), |why| Err(KeeperError::Follow(why)))
    }

    /// Waits until the keeper is dead, which it never should be.
    pub(crate) async fn died(&self) {
        let _ = self.child.lock().await.wait().await;
    }

    /// Asks it to end, with all that it still keeps, and waits for that.
    pub(crate) async fn dismiss(&self) {
        let closed = self.socket.lock().await.shutdown().await;
        if closed.is_ok() && tokio::time::timeout(FAREWELL, self.died()).await.is_err() {
            tracing::warn!("the keeper does not end: what it keeps hangs");
        }
    }

    /// Has the keeper hold a descriptor for as long as it or a warden lives.
    pub(crate) async fn hold(&self, fd: impl AsFd + Send) -> Result<(), KeeperError> {
        let socket = self.socket.lock().await;
        send(&socket, Request::Hold, &[fd.as_fd()]).await.map_err(KeeperError::Lost)
    }

    /// Has the warden of the next exec join control groups now, so that the exec need not wait for that.
    pub(crate) async fn join(&self, groups: &[OwnedFd]) -> Result<(), KeeperError> {
        let lent: Vec<_> = groups.iter().map(AsFd::as_fd).collect();
        let socket = self.socket.lock().await;
        send(&socket, Request::Join, &lent).await.map_err(KeeperError::Lost)
    }

    /// Starts a command. Its warden says whether that worked.
    pub(crate) async fn start(&self, command: &Command, start: Start) -> Result<Warden, KeeperError> {
        let frame = message::frame(&ToWarden::Start(command.clone())).map_err(KeeperError::NoWarden)?;
        let (ours, theirs) = StdUnixStream::pair().map_err(KeeperError::NoWarden)?;
        ours.set_nonblocking(true).map_err(KeeperError::NoWarden)?;
        let mut fds = vec![theirs.as_fd(), start.spool.as_fd()];
        let others = start.stdin.iter().chain(&start.terminal).chain(&start.groups);
        fds.extend(others.map(AsFd::as_fd));
        {
            let socket = self.socket.lock().await;
            send(&socket, Request::Start, &fds).await.map_err(KeeperError::Lost)?;
        }
        drop(theirs);
        let (reader, mut writer) = UnixStream::from_std(ours).map_err(KeeperError::NoWarden)?.into_split();
        writer.write_all(&frame).await.map_err(KeeperError::NoWarden)?;
        Ok(Warden { reader, writer })
    }

    /// What a command, by its process, and all that came of it use.
    pub(crate) async fn usage(&self, pid: u32) -> Usage {
        tokio::task::spawn_blocking(move || process::usage(pid)).await.unwrap_or_default()
    }

    /// Ends what no warden looks after.
    pub(crate) async fn prove(&self) -> Result<Proof, KeeperError> {
        let mut socket = self.socket.lock().await;
        send(&socket, Request::Prove, &[]).await.map_err(KeeperError::Lost)?;
        let mut answer = [0; 8];
        socket.read_exact(&mut answer).await.map_err(KeeperError::Lost)?;
        let number =
            |at: usize| u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
        Ok(Proof { strays: number(0), remaining: number(4) })
    }
}

/// Reads a message.
async fn read<T: DeserializeOwned>(socket: &mut UnixStream) -> io::Result<T> {
    let mut header = [0; 4];
    socket.read_exact(&mut header).await?;
    let mut body = vec![0; message::body_length(header)?];
    socket.read_exact(&mut body).await?;
    message::parse(&body)
}

async fn send(socket: &UnixStream, request: Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    socket.async_io(Interest::WRITABLE, || descriptors::send(socket, request.byte(), fds)).await
}

/// The connection to one warden.
#[derive(Debug)]
pub(crate) struct Warden {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Warden {
    /// The halves: what it tells, and what it is told.
    pub(crate) fn split(self) -> (WardenReader, WardenWriter) {
        (WardenReader(self.reader), WardenWriter(self.writer))
    }
}

/// What a warden tells.
#[derive(Debug)]
pub(crate) struct WardenReader(OwnedReadHalf);

impl WardenReader {
    /// The next message; none when the warden is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Option<FromWarden>> {
        let mut header = [0; 4];
        match self.0.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut body = vec![0; message::body_length(header)?];
        self.0.read_exact(&mut body).await?;
        message::parse(&body).map(Some)
    }
}

/// What a warden is told.
#[derive(Debug)]
pub(crate) struct WardenWriter(OwnedWriteHalf);

impl WardenWriter {
    /// Tells the warden something. It may be gone already: then what was asked for has happened.
    pub(crate) async fn send(&mut self, message: &ToWarden) {
        if let Ok(frame) = message::frame(message) {
            let _ = self.0.write_all(&frame).await;
        }
    }
}
