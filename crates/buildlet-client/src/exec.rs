//! Execs: what to run, what they write, how they end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use types::ExecId;

use crate::Error;

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the buildlet's base environment; `$WORK` and `$PATH` are replaced in values.
    pub environment: Vec<(String, String)>,
    /// The working folder beneath the work folder; empty means the work folder itself.
    pub folder: String,
    /// Written to standard input, at most 1 MiB.
    pub stdin: Bytes,
    /// How long it may run; none means 24 h.
    pub timeout: Option<Duration>,
    /// How many bytes it may write; none means 16 GiB.
    pub max_output_bytes: Option<u64>,
    /// How much memory all its processes may use; none means what the machine's owner allows.
    pub max_memory_bytes: Option<u64>,
    /// How many processes it may have; none means what the machine's owner allows.
    pub max_processes: Option<u32>,
    /// What the work folder may hold; none means what the machine's owner allows.
    pub max_work_bytes: Option<u64>,
    /// Standard input comes by `send_input`; `stdin` must be empty.
    pub open_input: bool,
    /// A terminal for input, which comes by `send_input`, and output.
    pub terminal: Option<Terminal>,
    /// The machine's network, where execs have none otherwise.
    pub network: bool,
    /// Whether what it runs was reviewed and submitted; machines of tier `community` refuse anything else.
    pub submitted: bool,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// One exec of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStatus {
    /// Its id.
    pub exec: ExecId,
    /// The command's process id; 0 if it was not started.
    pub pid: u32,
    /// How many bytes it has written.
    pub output_bytes: u64,
    /// How it ended; none while it runs.
    pub end: Option<ExecEnd>,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecEnd {
    /// How.
    pub how: How,
    /// All bytes it wrote.
    pub output_bytes: u64,
    /// How long it ran.
    pub elapsed: Duration,
    /// Processes that it left behind and that were ended.
    pub leftover_processes: u32,
}

/// The manner of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It exited with this code.
    Exited(i32),
    /// It was ended by this signal, not by the buildlet.
    Signalled(i32),
    /// It could not be started: the reason.
    NotStarted(String),
    /// The buildlet ended it.
    Ended(EndedByUs),
}

/// Why the buildlet ended an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedByUs {
    /// `cancel`, `end_lease` or a newer lease.
    Cancelled,
    /// It ran longer than it may.
    TimedOut,
    /// It wrote more than it may.
    TooMuchOutput,
    /// The coordinator was not heard from for too long.
    Abandoned,
    /// The disk is nearly full.
    DiskFull,
    /// The buildlet died: says nothing about the command.
    BuildletDied,
    /// It used more memory than it may.
    OutOfMemory,
    /// It had more processes than it may.
    TooManyProcesses,
    /// The work folder held more than it may.
    WorkFolderFull,
}

/// Output, or the end of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes as written, from an offset on.
    Output {
        /// The position of the first byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// How it ended. Nothing follows.
    Ended(ExecEnd),
}

/// What an exec writes, then how it ended. A stream that ends without [`ExecEvent::Ended`] was broken off.
pub struct ExecEvents {
    inner: Inner,
}

enum Inner {
    Watch(tonic::Streaming<api::buildlet::WatchExecResponse>),
    Run(tonic::Streaming<api::buildlet::RunExecResponse>),
}

impl ExecEvents {
    pub(crate) fn new(inner: tonic::Streaming<api::buildlet::WatchExecResponse>) -> Self {
        Self { inner: Inner::Watch(inner) }
    }

    /// Waits for the first response, which says that the command was started.
    pub(crate) async fn of_run(
        mut inner: tonic::Streaming<api::buildlet::RunExecResponse>,
    ) -> Result<Self, Error> {
        match inner.message().await? {
            Some(api::buildlet::RunExecResponse { event: None }) => Ok(Self { inner: Inner::Run(inner) }),
            _ => Err(Error::Malformed("an exec that was not started".to_owned())),
        }
    }

    /// The next event; none once the stream has ended.
    pub async fn next(&mut self) -> Option<Result<ExecEvent, Error>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for ExecEvents {
    type Item = Result<ExecEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = match &mut self.inner {
            Inner::Watch(inner) => Pin::new(inner).poll_next(context),
            Inner::Run(inner) => Pin::new(inner)
                .poll_next(context)
                .map(|item| item.map(|response| response.map(|response| response.event.unwrap_or_default()))),
        };
        response
            .map(|item| item.map(|response| response.map_err(Error::from).and_then(crate::convert::event)))
    }
}

impl std::fmt::Debug for ExecEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecEvents").finish_non_exhaustive()
    }
}
