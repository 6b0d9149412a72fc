//! What a command prints, on its way to the SSH client; and how it ended.

use std::time::Duration;

use buildlet_client::{BuildletClient, Error, ExecEnd, ExecEvent, How, Lease};
use bytes::Bytes;
use russh::{ChannelWriteHalf, server::Msg};
use tokio_util::sync::CancellationToken;
use types::ExecId;

use crate::{
    core::Session,
    sessions::{SessionError, Sessions},
};

/// The number of standard error among a channel's streams.
const STDERR: u32 = 1;
/// After so many bytes the machine is told that it may forget them.
const FORGET: u64 = 1 << 20;
/// How long the machine of a session may be away.
const AWAY: Duration = Duration::from_secs(30);
/// Between two looks whether it is back.
const LOOK: Duration = Duration::from_millis(500);
/// How long standard error may outlast the command.
const LATE: Duration = Duration::from_secs(2);
/// What `ssh` exits with when it is not the command's own end.
const NOT_OURS: u32 = 255;

/// Where output goes.
pub(super) struct Outlet {
    pub(super) sessions: Sessions,
    pub(super) session: Session,
    pub(super) writer: ChannelWriteHalf<Msg>,
    /// Cancelled when the client has gone, which who waits for room to write does not see.
    pub(super) gone: CancellationToken,
}

/// How a command ended whose output was followed.
type Followed = Result<ExecEnd, Broken>;

/// Why output is not followed further.
enum Broken {
    /// The client has gone.
    Client,
    /// The machine or the session has.
    Machine(String),
}

impl Outlet {
    /// Says where a person has come.
    pub(super) async fn greet(&self) {
        let Session { name, idle, seat, .. } = &self.session;
        let machine = seat.as_ref().map_or_else(String::new, |seat| format!(" on {}", seat.machine));
        let idle = humantime::format_duration(*idle);
        let line = format!("session {name}{machine}: it ends {idle} after its last use\r\n");
        let _ = self.write(line.into(), false).await;
    }

    /// Says why there is no command, and ends the channel.
    pub(super) async fn refuse(self, why: &str) {
        self.end(NOT_OURS, Some(why)).await;
    }

    async fn write(&self, data: Bytes, errors: bool) -> Result<(), Broken> {
        let write = async {
            if errors {
                self.writer.extended_data_bytes(STDERR, data).await
            } else {
                self.writer.data_bytes(data).await
            }
        };
        tokio::select! {
            () = self.gone.cancelled() => Err(Broken::Client),
            written = write => written.map_err(|_| Broken::Client),
        }
    }

    /// Ends the channel. Whoever has gone does not care.
    async fn end(&self, code: u32, words: Option<&str>) {
        if let Some(words) = words {
            let _ = self.write(format!("\r\nfarmer: {words}\r\n").into(), true).await;
        }
        let _ = self.writer.exit_status(code).await;
        let _ = self.writer.eof().await;
        let _ = self.writer.close().await;
    }

    /// Follows one command; its output goes to a stream of the channel.
    async fn follow(&self, mut way: (BuildletClient, Lease), exec: ExecId, errors: bool) -> Followed {
        let (mut offset, mut forgotten) = (0, 0);
        loop {
            let lost = match way.0.watch_exec(exec, offset).await {
                Ok(mut events) => loop {
                    match events.next().await {
                        Some(Ok(ExecEvent::Output { data, .. })) => {
                            offset += data.len() as u64;
                            self.write(data, errors).await?;
                            if offset >= forgotten + FORGET && way.0.acknowledge(exec, offset).await.is_ok() {
                                forgotten = offset;
                            }
                        }
                        Some(Ok(ExecEvent::Ended(end))) => return Ok(end),
                        Some(Err(error)) => break error,
                        None => break Error::Unavailable("the stream was broken off".to_owned()),
                    }
                },
                Err(error) => error,
            };
            if !lost.is_connection_loss() && !lost.is_stale_lease() {
                return Err(Broken::Machine(self.reason(lost.to_string()).await));
            }
            way = self.way_back(&lost).await?;
        }
    }

    /// Waits until the machine is connected again.
    async fn way_back(&self, lost: &Error) -> Result<(BuildletClient, Lease), Broken> {
        let until = tokio::time::Instant::now() + AWAY;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            match self.sessions.hold(&self.session.name).await {
                Ok(held) if held.session.id == self.session.id => return Ok((held.buildlet, held.lease)),
                Err(SessionError::Away(..)) => {}
                _ => break,
            }
        }
        Err(Broken::Machine(self.reason(lost.to_string()).await))
    }

    /// Why there is no more: the end of the session, if it has ended.
    async fn reason(&self, otherwise: String) -> String {
        match self.sessions.look(&self.session.name).await {
            Ok(seen) if seen.session.id == self.session.id => match seen.end {
                Some((_, reason)) => format!("session `{}` has ended: {reason}", self.session.name),
                None => otherwise,
            },
            Ok(_) | Err(SessionError::Unknown(_)) => format!("session `{}` has ended", self.session.name),
            Err(_) => otherwise,
        }
    }
}

/// Copies what a command prints, and ends the channel as the command ended. False if the client has gone before.
pub(super) async fn copy(
    outlet: &Outlet,
    way: (BuildletClient, Lease),
    exec: ExecId,
    errors: Option<ExecId>,
) -> bool {
    let output = Box::pin(outlet.follow(way.clone(), exec, false));
    let ended = match errors {
        None => output.await,
        Some(errors) => {
            both((output, Box::pin(outlet.follow(way.clone(), errors, true))), (&way, errors)).await
        }
    };
    match ended {
        Ok(end) => {
            let (code, words) = told(&end);
            let words = match end.how {
                How::Ended(_) => Some(outlet.reason(words.unwrap_or_default()).await),
                _ => words,
            };
            outlet.end(code, words.as_deref()).await;
        }
        Err(Broken::Machine(reason)) => outlet.end(NOT_OURS, Some(&reason)).await,
        Err(Broken::Client) => return false,
    }
    true
}

/// Follows the command and the one that passes on its standard error, which has ended then too.
async fn both(
    (output, errors): (impl Future<Output = Followed>, impl Future<Output = Followed>),
    (way, passing): (&(BuildletClient, Lease), ExecId),
) -> Followed {
    tokio::pin!(output, errors);
    let ended = tokio::select! {
        ended = &mut output => ended,
        _ = &mut errors => return output.await,
    };
    // What the command left behind may hold the pipe open; and one that never came to open it leaves its reader behind.
    if tokio::time::timeout(LATE, errors).await.is_err() {
        let _ = way.0.cancel(way.1, passing).await;
    }
    ended
}

/// The exit status of a command, and what there is to say beside it.
fn told(end: &ExecEnd) -> (u32, Option<String>) {
    match &end.how {
        How::Exited(code) => (code.cast_unsigned(), None),
        How::Signalled(signal) => (128 + signal.cast_unsigned(), None),
        How::NotStarted(why) => (127, Some(format!("it could not be started: {why}"))),
        How::Ended(by) => (NOT_OURS, Some(format!("the farm ended it: {by:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use buildlet_client::EndedByUs;

    use super::*;

    #[test]
    fn the_exit_status_is_the_commands_own() {
        let end = |how| ExecEnd { how, output_bytes: 0, elapsed: Duration::ZERO, leftover_processes: 0 };
        assert_eq!(told(&end(How::Exited(7))), (7, None));
        assert_eq!(told(&end(How::Signalled(9))), (137, None));
        assert_eq!(told(&end(How::Ended(EndedByUs::Cancelled))).0, NOT_OURS);
    }
}
