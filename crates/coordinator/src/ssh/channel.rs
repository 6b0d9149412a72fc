//! One channel of an SSH connection: a shell, a command or a file server on the session's machine.

use std::time::Duration;

use buildlet_client::{BuildletClient, ExecSpec, Lease, Terminal};
use bytes::Bytes;
use runtime::Tasks;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, server::Msg};
use tokio_util::sync::CancellationToken;
use types::ExecId;

use super::output::{self, Outlet};
use crate::sessions::{Held, Sessions};

/// The subsystem that serves files.
pub(super) const FILES: &str = "sftp";
/// How many variables a client may set.
const VARIABLES: usize = 64;
/// The largest piece of input that is sent at once.
const PIECE: usize = 256 << 10;
/// The variable with the path where standard error passes.
const STDERR: &str = "FARMER_STDERR";
/// The pause before a machine that was away is asked again.
const PAUSE: Duration = Duration::from_millis(300);
/// How often a machine is told to end a command whose client has gone. If all are lost, the session's end ends it.
const TELLS: u32 = 20;

/// What serves channels.
pub(super) struct Served {
    pub(super) sessions: Sessions,
    pub(super) tasks: Tasks,
    pub(super) held: Held,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
}

/// What a channel is to run.
enum Program {
    Shell,
    Command(String),
    Files,
}

/// What a channel has said before it said what to run.
#[derive(Default)]
struct Wanted {
    terminal: Option<Terminal>,
    environment: Vec<(String, String)>,
}

/// Serves a channel to its end. While it is open the session is used.
pub(super) async fn serve(served: Served, channel: Channel<Msg>) {
    let _using = served.sessions.using(served.held.session.name.clone());
    let _gone_at_the_end = served.gone.clone().drop_guard();
    let (mut reader, writer) = channel.split();
    let mut wanted = Wanted::default();
    let program = loop {
        match reader.wait().await {
            None | Some(ChannelMsg::Close) => return,
            Some(message) => {
                if let Some(program) = wanted.note(message) {
                    break program;
                }
            }
        }
    };
    served.run(wanted, program, reader, writer).await;
}

/// Whether a client may set a variable: its language only, as the servers of most systems have it.
pub(super) fn takes_variable(name: &str) -> bool {
    name == "LANG" || name.starts_with("LC_")
}

impl Wanted {
    /// Keeps what a message says, until one says what to run. The client had its answer when the message came.
    fn note(&mut self, message: ChannelMsg) -> Option<Program> {
        match message {
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                self.terminal = Some(size(col_width, row_height));
                self.environment.push(("TERM".to_owned(), term));
            }
            ChannelMsg::SetEnv { variable_name, variable_value, .. }
                if takes_variable(&variable_name) && self.environment.len() < VARIABLES =>
            {
                self.environment.push((variable_name, variable_value));
            }
            ChannelMsg::WindowChange { col_width, row_height, .. } if self.terminal.is_some() => {
                self.terminal = Some(size(col_width, row_height));
            }
            ChannelMsg::RequestShell { .. } => return Some(Program::Shell),
            ChannelMsg::Exec { command, .. } => {
                return Some(Program::Command(String::from_utf8_lossy(&command).into_owned()));
            }
            ChannelMsg::RequestSubsystem { name, .. } if name == FILES => return Some(Program::Files),
            _ => {}
        }
        None
    }
}

fn size(columns: u32, rows: u32) -> Terminal {
    let fits = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Terminal { rows: fits(rows), columns: fits(columns) }
}

/// What `sh` runs as a program.
fn script(program: Program) -> String {
    match program {
        // As a login does: with what the machine's owner has set for people.
        Program::Shell => "command -v bash > /dev/null && exec bash -l; exec sh -l".to_owned(),
        Program::Command(command) => command,
        Program::Files => "for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server \
             /usr/lib/ssh/sftp-server /usr/libexec/sftp-server; do [ -x $server ] && exec $server; done; \
             command -v sftp-server > /dev/null && exec sftp-server; \
             echo 'this machine has no sftp-server: use `scp -O`, `rsync` or `farmer gomote put`' >&2; exit 127"
            .to_owned(),
    }
}

impl Served {
    fn is_windows(&self) -> bool {
        self.held.platform.starts_with("windows/")
    }

    /// The command, and the one that passes on its standard error. A machine has one output for both of a command, and
    /// what speaks a protocol on the one must not find the other in it: they part in a pipe of the machine.
    fn specs(&self, wanted: &Wanted, program: Program, exec: ExecId) -> (ExecSpec, Option<ExecSpec>) {
        let spec = |argv: &[&str], environment: Vec<(String, String)>| ExecSpec {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            environment,
            network: true,
            ..ExecSpec::default()
        };
        let mut environment = wanted.environment.clone();
        let complete = |spec| self.sessions.complete(&self.held.session, false, spec);
        let script = script(program);
        if let Some(terminal) = wanted.terminal {
            let run = if self.is_windows() {
                spec(&["cmd.exe"], environment)
            } else {
                spec(&["sh", "-c", &script], environment)
            };
            return (complete(ExecSpec { terminal: Some(terminal), ..run }), None);
        }
        if self.is_windows() {
            let run = spec(&["cmd.exe", "/C", &script], environment);
            return (complete(ExecSpec { open_input: true, ..run }), None);
        }
        environment.push((STDERR.to_owned(), format!("$WORK/tmp/stderr-{exec}")));
        let errors = "until [ -p \"$FARMER_STDERR\" ]; do sleep 0.01; done; exec cat \"$FARMER_STDERR\"";
        let errors = complete(spec(&["sh", "-c", errors], environment.clone()));
        let apart = "mkdir -p \"${FARMER_STDERR%/*}\"; mkfifo \"$FARMER_STDERR\" || exit 126; \
                     exec 2> \"$FARMER_STDERR\"; rm -f \"$FARMER_STDERR\"; unset FARMER_STDERR; exec sh -c \"$0\"";
        let run = complete(spec(&["sh", "-c", apart, &script], environment));
        // What passes it on runs where the command does, and no builder's folder need be there for it.
        (ExecSpec { open_input: true, ..run }, Some(errors))
    }

    async fn run(
        self,
        wanted: Wanted,
        program: Program,
        reader: ChannelReadHalf,
        writer: ChannelWriteHalf<Msg>,
    ) {
        let exec = ExecId(runtime::new_id());
        let greeting = matches!(program, Program::Shell) && wanted.terminal.is_some();
        let (spec, errors) = self.specs(&wanted, program, exec);
        let outlet = Outlet {
            sessions: self.sessions.clone(),
            session: self.held.session.clone(),
            writer,
            gone: self.gone.clone(),
        };
        if greeting {
            outlet.greet().await;
        }
        let Held { buildlet, lease, .. } = &self.held;
        if let Err(error) = buildlet.start_exec(*lease, exec, &spec).await {
            return outlet.refuse(&error.to_string()).await;
        }
        let errors = match errors {
            None => None,
            Some(spec) => {
                let id = ExecId(runtime::new_id());
                if let Err(error) = buildlet.start_exec(*lease, id, &spec).await {
                    let _ = buildlet.cancel(*lease, exec).await;
                    return outlet.refuse(&error.to_string()).await;
                }
                Some(id)
            }
        };
        let over = CancellationToken::new();
        let way = (buildlet.clone(), *lease);
        let (copied, gone) = (over.clone(), self.gone.clone());
        self.tasks.job("output of an ssh channel", async move {
            let told = Box::pin(output::copy(&outlet, way, exec, errors)).await;
            if told { copied.cancel() } else { gone.cancel() }
        });
        let input = Input { sessions: self.sessions, held: self.held, exec, offset: 0, open: true };
        input.control(reader, &over, &self.gone).await;
    }
}

/// What goes to a command: its input, its terminal's size, signals.
struct Input {
    sessions: Sessions,
    held: Held,
    exec: ExecId,
    /// So much the command has taken.
    offset: u64,
    open: bool,
}

impl Input {
    /// Passes on what the client sends until the command is over; ends the command when the client goes.
    async fn control(mut self, reader: ChannelReadHalf, over: &CancellationToken, gone: &CancellationToken) {
        tokio::select! {
            () = over.cancelled() => return,
            // A command that reads nothing holds up what comes behind its input, the client's going too.
            () = gone.cancelled() => {}
            () = self.pass(reader) => {}
        }
        // Who writes to the client may wait for room that nobody makes any more.
        gone.cancel();
        self.end().await;
    }

    /// Passes on until the client closes the channel.
    async fn pass(&mut self, mut reader: ChannelReadHalf) {
        while let Some(message) = reader.wait().await {
            let (buildlet, lease) = self.way();
            match message {
                ChannelMsg::Data { data } => self.send(data, false).await,
                ChannelMsg::Eof => self.send(Bytes::new(), true).await,
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    // One that has ended meanwhile has no size.
                    let _ = buildlet.resize_terminal(lease, self.exec, size(col_width, row_height)).await;
                }
                ChannelMsg::Signal { signal } => {
                    if let Some(number) = number(&signal) {
                        let _ = buildlet.signal(lease, self.exec, number).await;
                    }
                }
                ChannelMsg::Close => return,
                _ => {}
            }
        }
    }

    fn way(&self) -> (BuildletClient, Lease) {
        (self.held.buildlet.clone(), self.held.lease)
    }

    /// Sends input in order. A command that reads no more gets no more.
    async fn send(&mut self, mut data: Bytes, close: bool) {
        while self.open && (close || !data.is_empty()) {
            let piece = data.slice(..data.len().min(PIECE));
            let last = close && piece.len() == data.len();
            let (buildlet, lease) = self.way();
            match buildlet.send_input(lease, self.exec, self.offset, piece, last).await {
                Ok(taken) => {
                    let more = taken.saturating_sub(self.offset);
                    self.offset += more;
                    data = data.slice(usize::try_from(more).unwrap_or(usize::MAX).min(data.len())..);
                    self.open = !(last && data.is_empty());
                }
                Err(error) if error.is_transient() => self.look_again().await,
                Err(_) => self.open = false,
            }
        }
    }

    /// Ends the command.
    async fn end(&mut self) {
        for _ in 0..TELLS {
            let (buildlet, lease) = self.way();
            match buildlet.cancel(lease, self.exec).await {
                Err(error) if error.is_transient() => self.look_again().await,
                // Done, or there is no such command any more.
                _ => return,
            }
        }
    }

    /// The machine may be connected anew, and is found in another way then.
    async fn look_again(&mut self) {
        tokio::time::sleep(PAUSE).await;
        if let Ok(held) = self.sessions.hold(&self.held.session.name).await
            && held.session.id == self.held.session.id
        {
            self.held = held;
        }
    }
}

/// A signal as Linux, macOS and the BSDs number it, as far as they agree.
fn number(signal: &Sig) -> Option<i32> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ABRT => 6,
        Sig::KILL => 9,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_asked_for_a_terminal_and_its_language_before_it_runs() {
        let mut wanted = Wanted::default();
        let pty = ChannelMsg::RequestPty {
            want_reply: true,
            term: "xterm".to_owned(),
            col_width: 80,
            row_height: 24,
            pix_width: 0,
            pix_height: 0,
            terminal_modes: Vec::new(),
        };
        assert!(wanted.note(pty).is_none());
        let set = |name: &str| ChannelMsg::SetEnv {
            want_reply: false,
            variable_name: name.to_owned(),
            variable_value: "x".to_owned(),
        };
        for name in ["LANG", "LD_PRELOAD", "LC_ALL"] {
            assert!(wanted.note(set(name)).is_none());
        }
        let larger =
            ChannelMsg::WindowChange { col_width: 100_000, row_height: 30, pix_width: 0, pix_height: 0 };
        assert!(wanted.note(larger).is_none());
        assert_eq!(wanted.terminal, Some(Terminal { rows: 30, columns: u16::MAX }));
        let names: Vec<&str> = wanted.environment.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["TERM", "LANG", "LC_ALL"]);
        let other = ChannelMsg::RequestSubsystem { want_reply: true, name: "netconf".to_owned() };
        assert!(wanted.note(other).is_none());
        let run = wanted.note(ChannelMsg::Exec { want_reply: true, command: b"make".to_vec() });
        assert!(matches!(run, Some(Program::Command(command)) if command == "make"));
    }
}
