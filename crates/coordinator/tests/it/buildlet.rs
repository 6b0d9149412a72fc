//! A buildlet in memory: runs its commands for real, keeps their output, outlives its connection.

use std::{
    collections::BTreeMap,
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex},
};

use api::buildlet::{
    self as wire, AcknowledgeExecRequest, AcknowledgeExecResponse, CancelExecRequest, CancelExecResponse,
    DrainRequest, DrainResponse, EndLeaseRequest, EndLeaseResponse, EndedByUs, ExecEnd, ExecStatus,
    FetchTreeRequest, FetchTreeResponse, GetStatusRequest, GetStatusResponse, Lease, OutputChunk,
    ReadTreeRequest, ReadTreeResponse, RemovePathsRequest, RemovePathsResponse, StartExecRequest,
    StartExecResponse, WatchExecRequest, WatchExecResponse, WriteTreeRequest, WriteTreeResponse,
    buildlet_service_server::BuildletService, exec_end::How, read_tree_response::Part,
    watch_exec_response::Event,
};
use futures_util::Stream;
use runtime::Tasks;
use tokio::{io::AsyncReadExt, sync::watch};
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub(crate) struct FakeBuildlet {
    pub(crate) name: String,
    tasks: Tasks,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    lease: Option<Lease>,
    fence: u64,
    execs: BTreeMap<String, Exec>,
    /// Every command that was ever started, in order.
    started: Vec<String>,
    fetched: Vec<String>,
}

#[derive(Clone)]
struct Exec {
    progress: watch::Sender<Progress>,
    kill: tokio_util::sync::CancellationToken,
}

#[derive(Clone, Default)]
struct Progress {
    output: Vec<u8>,
    end: Option<ExecEnd>,
}

impl FakeBuildlet {
    pub(crate) fn new(name: &str, tasks: Tasks) -> Self {
        Self { name: name.to_owned(), tasks, inner: Arc::default() }
    }

    pub(crate) fn started(&self) -> usize {
        self.inner.lock().unwrap().started.len()
    }

    pub(crate) fn fetched(&self) -> Vec<String> {
        self.inner.lock().unwrap().fetched.clone()
    }

    /// Takes a lease as the contract says: a higher fence takes over, a lower one is refused.
    fn hold(&self, lease: Option<Lease>) -> Result<(), Status> {
        let lease = lease.unwrap();
        let mut inner = self.inner.lock().unwrap();
        if lease.fence < inner.fence {
            return Err(rpc::status(
                Code::FailedPrecondition,
                "STALE_LEASE",
                "a newer lease holds the machine",
            ));
        }
        if lease.fence > inner.fence {
            inner.fence = lease.fence;
            inner.end_execs();
            inner.lease = Some(lease);
        } else if inner.lease.is_none() {
            return Err(rpc::status(Code::FailedPrecondition, "STALE_LEASE", "the lease has ended"));
        }
        Ok(())
    }
}

impl Inner {
    fn end_execs(&mut self) {
        for exec in std::mem::take(&mut self.execs).into_values() {
            exec.kill.cancel();
        }
    }
}

async fn run(request: StartExecRequest, exec: Exec) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(&request.argv[0]);
    command.args(&request.argv[1..]).current_dir(folder.path()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.envs(request.environment.iter().map(|variable| (&variable.name, &variable.value)));
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing may have ended already.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, &request.stdin).await;
    drop(stdin);
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let how = loop {
        tokio::select! {
            () = exec.kill.cancelled() => break How::Ended(EndedByUs::Cancelled.into()),
            read = stdout.read(&mut buffer) => match read.unwrap() {
                0 => break How::ExitCode(child.wait().await.unwrap().code().unwrap_or(1)),
                count => exec.progress.send_modify(|progress| progress.output.extend_from_slice(&buffer[..count])),
            }
        }
    };
    // A builder says by its environment what this machine is to find after its commands.
    let leftovers = request.environment.iter().find(|variable| variable.name == "FAKE_LEFTOVERS");
    let leftover_processes = leftovers.and_then(|variable| variable.value.parse().ok()).unwrap_or(0);
    exec.progress.send_modify(|progress| {
        let output_bytes = progress.output.len() as u64;
        progress.end = Some(ExecEnd { output_bytes, how: Some(how), elapsed: None, leftover_processes });
    });
}

#[tonic::async_trait]
impl BuildletService for FakeBuildlet {
    type WatchExecStream = Answers<WatchExecResponse>;
    type ReadTreeStream = Answers<ReadTreeResponse>;
    type RunExecStream = Answers<wire::RunExecResponse>;
    type ForwardPortStream = Answers<wire::ForwardPortResponse>;
    type ListTreeStream = Answers<wire::ListTreeResponse>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let inner = self.inner.lock().unwrap();
        let execs = inner.execs.iter().map(|(id, exec)| ExecStatus {
            exec_id: id.clone(),
            end: exec.progress.borrow().end.clone(),
            ..ExecStatus::default()
        });
        Ok(Response::new(GetStatusResponse {
            machine: self.name.clone(),
            host_types: vec!["local".to_owned()],
            version: "1".to_owned(),
            platform: "linux/amd64".to_owned(),
            work_folder: "/work".to_owned(),
            lease: inner.lease.clone(),
            execs: execs.collect(),
            reuse: "wiped".to_owned(),
            started: Some(rpc::timestamp(types::Timestamp(0))),
            ..GetStatusResponse::default()
        }))
    }

    async fn start_exec(
        &self,
        request: Request<StartExecRequest>,
    ) -> Result<Response<StartExecResponse>, Status> {
        let request = request.into_inner();
        self.hold(request.lease.clone())?;
        let mut inner = self.inner.lock().unwrap();
        if !inner.execs.contains_key(&request.exec_id) {
            inner.started.push(request.argv.join(" "));
            let exec = Exec {
                progress: watch::channel(Progress::default()).0,
                kill: tokio_util::sync::CancellationToken::new(),
            };
            inner.execs.insert(request.exec_id.clone(), exec.clone());
            let shutdown = self.tasks.shutdown();
            self.tasks.job("exec", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = run(request, exec) => {}
                }
            });
        }
        Ok(Response::new(StartExecResponse { pid: 1 }))
    }

    async fn watch_exec(
        &self,
        request: Request<WatchExecRequest>,
    ) -> Result<Response<Self::WatchExecStream>, Status> {
        let WatchExecRequest { exec_id, offset } = request.into_inner();
        let exec = self.inner.lock().unwrap().execs.get(&exec_id).cloned();
        let exec = exec.ok_or_else(|| rpc::status(Code::NotFound, "UNKNOWN_EXEC", "no such exec"))?;
        let state = (exec.progress.subscribe(), offset as usize, false);
        Ok(Response::new(Box::pin(futures_util::stream::unfold(
            state,
            |(mut progress, offset, done)| async move {
                if done {
                    return None;
                }
                let seen = progress
                    .wait_for(|seen| seen.output.len() > offset || seen.end.is_some())
                    .await
                    .ok()?
                    .clone();
                let (event, next, done) = if seen.output.len() > offset {
                    let data = seen.output[offset..].to_vec();
                    let next = offset + data.len();
                    (Event::Output(OutputChunk { offset: offset as u64, data: data.into() }), next, false)
                } else {
                    (Event::End(seen.end?), offset, true)
                };
                Some((Ok(WatchExecResponse { event: Some(event) }), (progress, next, done)))
            },
        ))))
    }

    async fn acknowledge_exec(
        &self,
        _: Request<AcknowledgeExecRequest>,
    ) -> Result<Response<AcknowledgeExecResponse>, Status> {
        Ok(Response::new(AcknowledgeExecResponse {}))
    }

    async fn cancel_exec(
        &self,
        request: Request<CancelExecRequest>,
    ) -> Result<Response<CancelExecResponse>, Status> {
        let request = request.into_inner();
        self.hold(request.lease)?;
        if let Some(exec) = self.inner.lock().unwrap().execs.get(&request.exec_id) {
            exec.kill.cancel();
        }
        Ok(Response::new(CancelExecResponse {}))
    }

    async fn fetch_tree(
        &self,
        request: Request<FetchTreeRequest>,
    ) -> Result<Response<FetchTreeResponse>, Status> {
        let request = request.into_inner();
        self.hold(request.lease)?;
        self.inner.lock().unwrap().fetched.push(request.url);
        Ok(Response::new(FetchTreeResponse { fetched_bytes: 1, entries: 1 }))
    }

    async fn write_tree(
        &self,
        _: Request<Streaming<WriteTreeRequest>>,
    ) -> Result<Response<WriteTreeResponse>, Status> {
        Err(Status::unimplemented("the coordinator does not write trees"))
    }

    async fn read_tree(
        &self,
        request: Request<ReadTreeRequest>,
    ) -> Result<Response<Self::ReadTreeStream>, Status> {
        self.hold(request.into_inner().lease)?;
        let bytes = bytes::Bytes::from_static(b"a tree");
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let parts = [Part::Chunk(bytes), Part::Digest(digest)];
        let parts = parts.map(|part| Ok(ReadTreeResponse { part: Some(part) }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(parts))))
    }

    async fn remove_paths(
        &self,
        request: Request<RemovePathsRequest>,
    ) -> Result<Response<RemovePathsResponse>, Status> {
        self.hold(request.into_inner().lease)?;
        Ok(Response::new(RemovePathsResponse {}))
    }

    async fn end_lease(
        &self,
        request: Request<EndLeaseRequest>,
    ) -> Result<Response<EndLeaseResponse>, Status> {
        // One that has ended already is fine.
        let _ = self.hold(request.into_inner().lease);
        let mut inner = self.inner.lock().unwrap();
        inner.end_execs();
        inner.lease = None;
        Ok(Response::new(EndLeaseResponse { leftover_processes: 0 }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        Ok(Response::new(DrainResponse {}))
    }

    async fn run_exec(
        &self,
        _: Request<wire::RunExecRequest>,
    ) -> Result<Response<Self::RunExecStream>, Status> {
        Err(not_called())
    }

    async fn send_input(
        &self,
        _: Request<wire::SendInputRequest>,
    ) -> Result<Response<wire::SendInputResponse>, Status> {
        Err(not_called())
    }

    async fn resize_terminal(
        &self,
        _: Request<wire::ResizeTerminalRequest>,
    ) -> Result<Response<wire::ResizeTerminalResponse>, Status> {
        Err(not_called())
    }

    async fn signal_exec(
        &self,
        _: Request<wire::SignalExecRequest>,
    ) -> Result<Response<wire::SignalExecResponse>, Status> {
        Err(not_called())
    }

    async fn forward_port(
        &self,
        _: Request<Streaming<wire::ForwardPortRequest>>,
    ) -> Result<Response<Self::ForwardPortStream>, Status> {
        Err(not_called())
    }

    async fn list_tree(
        &self,
        _: Request<wire::ListTreeRequest>,
    ) -> Result<Response<Self::ListTreeStream>, Status> {
        Err(not_called())
    }

    async fn halt(&self, _: Request<wire::HaltRequest>) -> Result<Response<wire::HaltResponse>, Status> {
        Err(not_called())
    }
}

/// For what is for people's sessions, and no build's business.
fn not_called() -> Status {
    Status::unimplemented("builds do not call this")
}
