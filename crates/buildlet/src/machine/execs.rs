//! Starting, ending and forgetting execs.

use std::{io, io::Write, os::fd::OwnedFd, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use types::ExecId;

use super::{CallError, Machine};
use crate::{
    environment::TMP,
    exec::{End, Exec, How, Watching},
    folder::{FolderError, RelativePath},
    journal::Entry,
    keeper::{Command, GRACE, Start, StopReason},
    lease::Lease,
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
        });
        receiver.await.unwrap_or(Err(CallError::ShuttingDown))
    }

    async fn start_exec_now(self: &Arc<Self>, lease: Lease, request: ExecRequest) -> Result<u32, CallError> {
        let _held = self.enter(lease).await?;
        let _one = self.starting.lock().await;
        if let Some(exec) = self.find(request.id) {
            return Ok(exec.pid);
        }
        self.parts.folder.check_program(&request.argv[0])?;
        let (spool, writer) =
            Spool::create(&self.parts.spool, request.id).map_err(CallError::disk("make a spool"))?;
        let started = self.start(&request, spool, writer).await?;
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
        writer: OwnedFd,
    ) -> Result<(Arc<Exec>, Option<Watching>), CallError> {
        // A build may have removed its own folder for temporary files.
        let _ = self.parts.folder.dir().create_dir(TMP);
        let folder = match self.parts.folder.open_for_exec(&request.folder) {
            Ok(folder) => folder,
            Err(FolderError::Bad(bad)) => {
                spool.remove();
                return Err(bad.into());
            }
            Err(error) => {
                let end = End { how: How::NotStarted(error.to_string()), ..End::unwatched(0) };
                return Ok((Exec::ended(request.id, 0, spool, end), None));
            }
        };
        let stdin = match standard_input(&request.stdin) {
            Ok(stdin) => stdin,
            Err(source) => {
                spool.remove();
                return Err(CallError::Disk { what: "prepare standard input".to_owned(), source });
            }
        };
        let mut added = request.environment.clone();
        added.push(("FARMER_EXEC_ID".to_owned(), request.id.to_string()));
        let command = Command {
            argv: request.argv.clone(),
            environment: self.parts.environment.extended(&added),
            work_folder: self.parts.folder.path().to_owned(),
            timeout_ms: request.timeout.as_millis() as u64,
            max_output_bytes: request.max_output_bytes,
        };
        match self.parts.keeper.start(&command, Start { spool: writer, folder, stdin }).await {
            Ok(warden) => Ok(Exec::begin(request.id, spool, warden).await),
            Err(error) => {
                spool.remove();
                Err(error.into())
            }
        }
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

    /// Ends running execs when the disk is nearly full; called now and then.
    pub(crate) async fn check_disk(&self) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        let free = crate::status::free_bytes(self.parts.folder.dir()).unwrap_or(u64::MAX);
        let free_spool = rustix::fs::statvfs(&self.parts.spool)
            .map_or(u64::MAX, |status| status.f_bavail * status.f_frsize);
        if free.min(free_spool) >= self.parts.disk_floor_bytes {
            return;
        }
        tracing::warn!(
            "ending {} execs: less than {} bytes are free",
            running.len(),
            self.parts.disk_floor_bytes
        );
        for exec in running {
            exec.stop(StopReason::DiskFull, GRACE).await;
        }
    }
}

/// A descriptor to read some bytes from; none if there are none.
fn standard_input(bytes: &Bytes) -> io::Result<Option<OwnedFd>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut file = std::fs::File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(Some(file.into()))
}
