//! Starting, ending and forgetting execs.

use std::{fs::File, io, io::Write, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use types::ExecId;

use super::{CallError, Machine, limits};
use crate::{
    Isolation,
    cgroup::Group,
    environment::TMP,
    exec::{Beginning, End, Exec, How, Limits, Watching},
    folder::{FolderError, RelativePath},
    input::{self, ExecInput, InputError, Size},
    journal::Entry,
    keeper::{Apart, Command, GRACE, SPARES, Start, StopReason},
    lease::Lease,
    platform::{self, Handle},
    spool::Spool,
};

/// A command to run.
#[derive(Debug, Clone)]
pub(crate) struct ExecRequest {
    pub(crate) id: ExecId,
    /// The program and its arguments; at least the program.
    pub(crate) argv: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: RelativePath,
    pub(crate) stdin: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) max_output_bytes: u64,
    /// As asked for; the machine's owner may allow less.
    pub(crate) limits: Limits,
    pub(crate) open_input: bool,
    pub(crate) terminal: Option<Size>,
    pub(crate) network: bool,
}

impl Machine {
    /// Starts a command, unless it was started before; returns its process id, 0 if it cannot be started.
    pub(crate) async fn start_exec(
        self: &Arc<Self>,
        lease: Lease,
        request: ExecRequest,
    ) -> Result<u32, CallError> {
        // A task of its own: a call that is broken off would otherwise end a command that has begun already.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let machine = self.clone();
        self.parts.tasks.job("start of exec", async move {
            let _ = sender.send(machine.start_exec_now(lease, request).await);
            machine.make_ready().await;
        });
        receiver.await.unwrap_or(Err(CallError::ShuttingDown))
    }

    /// Has the wardens of the next execs join control groups ahead of them.
    pub(crate) async fn make_ready(&self) {
        let mut ready = self.starting.lock().await;
        while ready.len() < SPARES {
            let made = self.parts.groups.make(&self.parts.limits);
            // What fails here is tried again with the exec, and told then.
            let Ok(Some(group)) = made else { return };
            let Ok(lists) = group.lists() else { return };
            if self.parts.keeper.join(&lists).await.is_err() {
                return;
            }
            ready.push_back(group);
        }
    }

    async fn start_exec_now(self: &Arc<Self>, lease: Lease, request: ExecRequest) -> Result<u32, CallError> {
        let _held = self.enter(lease).await?;
        let mut ready = self.starting.lock().await;
        if let Some(exec) = self.find(request.id) {
            return Ok(exec.pid);
        }
        self.parts.folder.check_program(&request.argv[0])?;
        let (spool, writer) =
            Spool::create(&self.parts.spool, request.id).map_err(CallError::disk("make a spool"))?;
        let started = self.start(&request, spool, writer, ready.pop_front()).await?;
        let (exec, watching) = started;
        self.note(&Entry::Exec { id: exec.id, pid: exec.pid });
        self.state().execs.push(exec.clone());
        match watching {
            Some(watching) => self.watch(watching),
            None => self.note_end(&exec),
        }
        Ok(exec.pid)
    }

    async fn start(
        &self,
        request: &ExecRequest,
        spool: Spool,
        writer: File,
        ready: Option<Group>,
    ) -> Result<(Arc<Exec>, Option<Watching>), CallError> {
        // A build may have removed its own folder for temporary files.
        let _ = self.parts.folder.dir().create_dir(TMP);
        match self.parts.folder.open_dir(&request.folder) {
            Ok(_) => {}
            Err(FolderError::Bad(bad)) => {
                spool.remove();
                return Err(bad.into());
            }
            Err(error) => {
                let end = End { how: How::NotStarted(error.to_string()), ..End::unwatched(0) };
                return Ok((Exec::ended(request.id, 0, spool, end), None));
            }
        }
        let prepared = self.prepare(request, ready);
        let Prepared { input, stdin, terminal, limits, group, groups } = match prepared {
            Ok(prepared) => prepared,
            Err(source) => {
                spool.remove();
                if source.kind() == io::ErrorKind::Unsupported {
                    return Err(CallError::BadRequest(source.to_string()));
                }
                return Err(CallError::Disk { what: "prepare the exec".to_owned(), source });
            }
        };
        let command = self.command(request, stdin.is_some());
        match self.parts.keeper.start(&command, Start { spool: writer, stdin, terminal, groups }).await {
            Ok(warden) => {
                let beginning = Beginning { id: request.id, spool, warden, input, limits, group };
                Ok(Exec::begin(beginning).await)
            }
            Err(error) => {
                spool.remove();
                Err(error.into())
            }
        }
    }

    fn command(&self, request: &ExecRequest, stdin: bool) -> Command {
        let mut added = request.environment.clone();
        added.push(("FARMER_EXEC_ID".to_owned(), request.id.to_string()));
        let folder = if request.folder.is_root() { Path::new("") } else { request.folder.as_path() };
        let apart = self.parts.isolation == Isolation::Namespaces;
        Command {
            argv: request.argv.clone(),
            environment: self.parts.environment.extended(&added),
            work_folder: self.parts.view.work_folder.clone(),
            // A path that a caller gave is UTF-8.
            folder: folder.to_string_lossy().into_owned(),
            stdin,
            terminal: request.terminal.is_some(),
            sealed: self.parts.view.open.is_none(),
            apart: apart.then_some(Apart { network: request.network }),
            timeout_ms: request.timeout.as_millis() as u64,
            max_output_bytes: request.max_output_bytes,
        }
    }

    /// A group with the limits of an exec, and the lists to join it by. The one that its warden is in is extended.
    fn bound(&self, limits: &Limits, ready: Option<Group>) -> io::Result<(Option<Group>, Vec<Handle>)> {
        let group = match ready {
            Some(mut group) => self.parts.groups.extend(&mut group, limits).map(|()| Some(group)),
            None => self.parts.groups.make(limits),
        };
        let Some(group) = group? else { return Ok((None, Vec::new())) };
        group.bound(limits)?;
        let lists = group.lists()?;
        Ok((Some(group), lists))
    }

    fn prepare(&self, request: &ExecRequest, ready: Option<Group>) -> io::Result<Prepared> {
        let limits = request.limits.within(&self.parts.limits);
        let (group, groups) = self.bound(&limits, ready).unwrap_or_else(|error| {
            tracing::warn!("cannot make a control group, so limits are kept by sampling: {error}");
            (None, Vec::new())
        });
        let (input, stdin, terminal) = if let Some(size) = request.terminal {
            let (input, inner, output) = ExecInput::of_terminal(size)?;
            (Some(input), Some(inner), Some(output))
        } else if request.open_input {
            let (input, stdin) = ExecInput::pipe()?;
            (Some(input), Some(stdin), None)
        } else {
            (None, self.standard_input(&request.stdin)?, None)
        };
        Ok(Prepared { input, stdin, terminal, limits, group, groups })
    }

    /// What some bytes can be read from; none if there are none.
    fn standard_input(&self, bytes: &Bytes) -> io::Result<Option<Handle>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut file = platform::nameless_file(&self.parts.spool)?;
        file.write_all(bytes)?;
        io::Seek::rewind(&mut file)?;
        Ok(Some(file.into()))
    }

    /// Follows an exec to its end, as a task.
    fn watch(self: &Arc<Self>, mut watching: Watching) {
        let machine = self.clone();
        self.parts.tasks.job("exec", async move {
            let mut watched = watching.follow().await;
            if watched.warden_lost {
                machine.end_strays(&mut watched.end).await;
            }
            if watched.remaining > 0 {
                let id = watching.exec().id;
                *machine.stuck() =
                    Some(format!("{} processes of exec `{id}` cannot be ended", watched.remaining));
            }
            let exec = watching.exec().clone();
            limits::see(&exec, &mut watched.end);
            watching.publish(watched.end).await;
            machine.note_end(&exec);
        });
    }

    /// Ends what a warden that was killed left to the keeper.
    async fn end_strays(&self, end: &mut End) {
        match self.parts.keeper.prove().await {
            Ok(proof) => end.leftovers = proof.strays,
            Err(error) => tracing::error!("cannot end what a lost exec left: {error}"),
        }
    }

    fn note_end(&self, exec: &Exec) {
        if let Some(end) = exec.progress().borrow().end.clone() {
            self.note(&Entry::End { id: exec.id, end });
        }
    }

    /// Ends an exec and all it started; returns when it has ended.
    pub(crate) async fn cancel(self: &Arc<Self>, lease: Lease, id: ExecId) -> Result<(), CallError> {
        // Not held while it ends: the end of the lease may come meanwhile, and ends it harder.
        drop(self.enter(lease).await?);
        let exec = self.find(id).ok_or(CallError::UnknownExec(id))?;
        exec.stop(StopReason::Cancelled, GRACE).await;
        exec.wait().await;
        Ok(())
    }

    /// Notes that output is safe elsewhere.
    pub(crate) async fn acknowledge(self: &Arc<Self>, id: ExecId, offset: u64) -> Result<(), CallError> {
        let exec = self.find(id).ok_or(CallError::UnknownExec(id))?;
        let written = exec.progress().borrow().bytes;
        if offset > written {
            let why = format!("the exec has written {written} bytes, so {offset} cannot be acknowledged");
            return Err(CallError::BadRequest(why));
        }
        if let Some(until) = exec.spool.acknowledge(offset) {
            self.note(&Entry::Freed { id, until });
            let _ = tokio::task::spawn_blocking(move || exec.spool.free(until)).await;
        }
        Ok(())
    }

    /// Writes to the input of an exec; returns how much it has taken in all.
    pub(crate) async fn send_input(
        self: &Arc<Self>,
        lease: Lease,
        id: ExecId,
        offset: u64,
        data: &[u8],
        close: bool,
    ) -> Result<u64, CallError> {
        let exec = self.exec_of(lease, id).await?;
        exec.send_input(offset, data, close).await.map_err(|error| match error {
            InputError::Closed => CallError::InputClosed,
            InputError::Gap { .. } => CallError::BadRequest(error.to_string()),
            InputError::Io(source) => CallError::Disk { what: "write the input".to_owned(), source },
        })
    }

    /// Says how large the terminal of an exec is.
    pub(crate) async fn resize_terminal(
        self: &Arc<Self>,
        lease: Lease,
        id: ExecId,
        size: Size,
    ) -> Result<(), CallError> {
        let exec = self.exec_of(lease, id).await?;
        let terminal = exec.terminal().await.ok_or(CallError::NoTerminal)?;
        input::resize(terminal, size).map_err(CallError::disk("resize the terminal"))
    }

    /// Sends the command of an exec a signal.
    pub(crate) async fn signal_exec(
        self: &Arc<Self>,
        lease: Lease,
        id: ExecId,
        number: i32,
    ) -> Result<(), CallError> {
        self.exec_of(lease, id).await?.signal(number).await;
        Ok(())
    }

    /// An exec of a lease, which need not hold the machine while the exec is dealt with: its end ends the exec.
    async fn exec_of(self: &Arc<Self>, lease: Lease, id: ExecId) -> Result<Arc<Exec>, CallError> {
        drop(self.enter(lease).await?);
        self.find(id).ok_or(CallError::UnknownExec(id))
    }
}

/// What an exec is started with.
struct Prepared {
    input: Option<ExecInput>,
    stdin: Option<Handle>,
    terminal: Option<Handle>,
    limits: Limits,
    group: Option<Group>,
    groups: Vec<Handle>,
}
