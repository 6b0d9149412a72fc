//! The contract's service: each call is parsed, done by the machine, and its result rendered. No decisions here.

mod convert;
mod forward;
mod status;

use std::{pin::Pin, sync::Arc};

use api::buildlet::{
    self as wire,
    buildlet_service_server::{BuildletService, BuildletServiceServer},
};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use rpc::Peer;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    Config, Tier, VERSION,
    machine::{CallError, Machine, Watch},
    orphan::{Presence, Present},
};

/// What about the machine never changes.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    machine: String,
    host_types: Vec<String>,
    reuse: &'static str,
    tier: Tier,
    platform: String,
}

impl Facts {
    /// As configured.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            machine: config.name.to_string(),
            host_types: config.host_types.iter().map(ToString::to_string).collect(),
            reuse: config.reuse.as_str(),
            tier: config.tier,
            platform: crate::platform::name(),
        }
    }

    /// Whether a command may be run here. The farm should not have asked: this side does not rely on that.
    fn allow(&self, start: &wire::StartExecRequest) -> Result<(), Status> {
        if self.tier == Tier::Community && !start.submitted {
            let message = "this machine is lent for reviewed work: it runs only what was submitted; say \
                           `tier = \"community\"` for its host in farm.toml, so that it is not asked";
            return Err(rpc::status(Code::PermissionDenied, "NOT_SUBMITTED", message));
        }
        Ok(())
    }
}

/// A request to start an exec, as it is believed.
#[cfg(test)]
pub(crate) fn checked(request: wire::StartExecRequest) -> Result<crate::machine::ExecRequest, CallError> {
    convert::exec_request(request)
}

/// The service, for a server of either direction.
pub(crate) fn service(
    facts: Facts,
    machine: Arc<Machine>,
    presence: Presence,
) -> BuildletServiceServer<impl BuildletService> {
    BuildletServiceServer::new(Calls { facts, machine, presence })
        .max_decoding_message_size(rpc::MAX_MESSAGE)
        .max_encoding_message_size(rpc::MAX_MESSAGE)
}

struct Calls {
    facts: Facts,
    machine: Arc<Machine>,
    presence: Presence,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Calls {
    /// Lets in services only: a machine of the same farm has no business here. Its call counts as presence.
    fn admit<T>(&self, request: Request<T>) -> Result<(T, Present), Status> {
        if let Some(Peer::Machine { name, .. }) = rpc::peer(&request) {
            let message = format_args!("machine `{name}` may not call another machine").to_string();
            return Err(rpc::status(Code::PermissionDenied, "NOT_A_SERVICE", message));
        }
        Ok((request.into_inner(), self.presence.enter()))
    }
}

#[tonic::async_trait]
impl BuildletService for Calls {
    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        let _present = self.admit(request)?;
        let status = self.machine.status();
        Ok(Response::new(wire::GetStatusResponse {
            machine: self.facts.machine.clone(),
            host_types: self.facts.host_types.clone(),
            version: VERSION.to_owned(),
            platform: self.facts.platform.clone(),
            work_folder: status.view.work_folder,
            lease: status.lease.map(convert::lease_to_wire),
            execs: status.execs.iter().map(|exec| convert::exec_to_wire(exec)).collect(),
            reuse: self.facts.reuse.to_owned(),
            free_disk_bytes: status.free_disk_bytes,
            load: crate::platform::load(),
            pid: std::process::id(),
            cpus: crate::platform::cpus(),
            memory_bytes: crate::platform::memory_bytes(),
            started: Some(rpc::timestamp(status.started)),
            draining: status.draining,
            broken: status.broken.unwrap_or_default(),
            isolation: status.isolation.as_str().to_owned(),
            key_exposed: status.view.open.unwrap_or_default(),
            limits: status.limits.to_owned(),
            clock: Some(rpc::timestamp(status.clock)),
            tier: self.facts.tier.as_str().to_owned(),
        }))
    }

    async fn start_exec(
        &self,
        request: Request<wire::StartExecRequest>,
    ) -> Result<Response<wire::StartExecResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        self.facts.allow(&request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        let pid = self.machine.start_exec(lease, convert::exec_request(request)?).await?;
        Ok(Response::new(wire::StartExecResponse { pid }))
    }

    type RunExecStream = Events<wire::RunExecResponse>;

    async fn run_exec(
        &self,
        request: Request<wire::RunExecRequest>,
    ) -> Result<Response<Self::RunExecStream>, Status> {
        let (request, present) = self.admit(request)?;
        let start = request.start.ok_or_else(|| CallError::BadRequest("no command was given".to_owned()))?;
        self.facts.allow(&start)?;
        let lease = convert::lease(start.lease.as_ref())?;
        let request = convert::exec_request(start)?;
        let id = request.id;
        self.machine.start_exec(lease, request).await?;
        let watch = self.machine.watch_exec(id, 0)?;
        let started = stream::iter([Ok(wire::RunExecResponse { event: None })]);
        let events = watching(watch, present).map_ok(|event| wire::RunExecResponse { event: Some(event) });
        Ok(Response::new(Box::pin(started.chain(events))))
    }

    type WatchExecStream = Events<wire::WatchExecResponse>;

    async fn watch_exec(
        &self,
        request: Request<wire::WatchExecRequest>,
    ) -> Result<Response<Self::WatchExecStream>, Status> {
        let (request, present) = self.admit(request)?;
        let watch = self.machine.watch_exec(convert::exec_id(&request.exec_id)?, request.offset)?;
        Ok(Response::new(Box::pin(watching(watch, present))))
    }

    async fn acknowledge_exec(
        &self,
        request: Request<wire::AcknowledgeExecRequest>,
    ) -> Result<Response<wire::AcknowledgeExecResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        self.machine.acknowledge(convert::exec_id(&request.exec_id)?, request.offset).await?;
        Ok(Response::new(wire::AcknowledgeExecResponse {}))
    }

    async fn cancel_exec(
        &self,
        request: Request<wire::CancelExecRequest>,
    ) -> Result<Response<wire::CancelExecResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        self.machine.cancel(lease, convert::exec_id(&request.exec_id)?).await?;
        Ok(Response::new(wire::CancelExecResponse {}))
    }

    async fn send_input(
        &self,
        request: Request<wire::SendInputRequest>,
    ) -> Result<Response<wire::SendInputResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let (lease, id) = (convert::lease(request.lease.as_ref())?, convert::exec_id(&request.exec_id)?);
        let taken = self.machine.send_input(lease, id, request.offset, &request.data, request.close).await?;
        Ok(Response::new(wire::SendInputResponse { taken }))
    }

    async fn resize_terminal(
        &self,
        request: Request<wire::ResizeTerminalRequest>,
    ) -> Result<Response<wire::ResizeTerminalResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let (lease, id) = (convert::lease(request.lease.as_ref())?, convert::exec_id(&request.exec_id)?);
        let size = convert::size(request.terminal.unwrap_or_default())?;
        self.machine.resize_terminal(lease, id, size).await?;
        Ok(Response::new(wire::ResizeTerminalResponse {}))
    }

    async fn signal_exec(
        &self,
        request: Request<wire::SignalExecRequest>,
    ) -> Result<Response<wire::SignalExecResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let (lease, id) = (convert::lease(request.lease.as_ref())?, convert::exec_id(&request.exec_id)?);
        self.machine.signal_exec(lease, id, convert::signal(request.signal)?).await?;
        Ok(Response::new(wire::SignalExecResponse {}))
    }

    type ForwardPortStream = Events<wire::ForwardPortResponse>;

    async fn forward_port(
        &self,
        request: Request<Streaming<wire::ForwardPortRequest>>,
    ) -> Result<Response<Self::ForwardPortStream>, Status> {
        let (mut parts, present) = self.admit(request)?;
        let (lease, port) = forward::header(parts.message().await?)?;
        let (connection, ending) = self.machine.connect(lease, port).await?;
        let bytes = forward::forward(connection, parts, &ending, self.machine.tasks(), present);
        Ok(Response::new(Box::pin(bytes)))
    }

    async fn fetch_tree(
        &self,
        request: Request<wire::FetchTreeRequest>,
    ) -> Result<Response<wire::FetchTreeResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        let archive = convert::archive(&request.url)?;
        let folder = convert::path(&request.folder)?;
        let (fetched_bytes, entries) =
            self.machine.fetch_tree(lease, &archive, &folder, &request.digest).await?;
        Ok(Response::new(wire::FetchTreeResponse { fetched_bytes, entries }))
    }

    async fn write_tree(
        &self,
        request: Request<Streaming<wire::WriteTreeRequest>>,
    ) -> Result<Response<wire::WriteTreeResponse>, Status> {
        use wire::write_tree_request::Part;
        let (mut parts, _present) = self.admit(request)?;
        let Some(wire::WriteTreeRequest { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(CallError::BadRequest("a tree begins with a header".to_owned()).into());
        };
        let lease = convert::lease(header.lease.as_ref())?;
        let (folder, format) = (convert::path(&header.folder)?, convert::format(&header.format)?);
        let tree = self.machine.write_tree(lease, &folder, format).await?;
        loop {
            let message = tokio::select! {
                message = parts.message() => message?,
                () = tree.ending() => break,
            };
            let Some(request) = message else { break };
            let Some(Part::Chunk(chunk)) = request.part else {
                return Err(CallError::BadRequest("after the header come chunks".to_owned()).into());
            };
            if !tree.feed(chunk).await {
                break;
            }
        }
        let entries = tree.finish().await?;
        Ok(Response::new(wire::WriteTreeResponse { entries }))
    }

    type ReadTreeStream = Events<wire::ReadTreeResponse>;

    async fn read_tree(
        &self,
        request: Request<wire::ReadTreeRequest>,
    ) -> Result<Response<Self::ReadTreeStream>, Status> {
        let (request, present) = self.admit(request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        let exclude = request.exclude.iter().map(|path| convert::path(path)).collect::<Result<_, _>>()?;
        let tree = self.machine.read_tree(lease, &convert::path(&request.folder)?, exclude).await?;
        let parts = stream::unfold((tree, present), |(mut tree, present)| async move {
            let part = tree.next().await?.map(convert::tree_part_to_wire).map_err(Status::from);
            Some((part, (tree, present)))
        });
        Ok(Response::new(Box::pin(parts)))
    }

    type ListTreeStream = Events<wire::ListTreeResponse>;

    async fn list_tree(
        &self,
        request: Request<wire::ListTreeRequest>,
    ) -> Result<Response<Self::ListTreeStream>, Status> {
        let (request, present) = self.admit(request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        let exclude = request.exclude.iter().map(|path| convert::path(path)).collect::<Result<_, _>>()?;
        let folder = convert::path(&request.folder)?;
        let listing = self.machine.list_tree(lease, &folder, exclude, request.digests).await?;
        let some = stream::unfold((listing, present), |(mut listing, present)| async move {
            let some = listing.next().await?.map(convert::entries_to_wire).map_err(Status::from);
            Some((some, (listing, present)))
        });
        Ok(Response::new(Box::pin(some)))
    }

    async fn remove_paths(
        &self,
        request: Request<wire::RemovePathsRequest>,
    ) -> Result<Response<wire::RemovePathsResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let lease = convert::lease(request.lease.as_ref())?;
        if request.paths.is_empty() {
            return Err(CallError::BadRequest("no path was given".to_owned()).into());
        }
        let paths = request.paths.iter().map(|path| convert::named_path(path)).collect::<Result<_, _>>()?;
        self.machine.remove_paths(lease, paths).await?;
        Ok(Response::new(wire::RemovePathsResponse {}))
    }

    async fn end_lease(
        &self,
        request: Request<wire::EndLeaseRequest>,
    ) -> Result<Response<wire::EndLeaseResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        let leftover_processes = self.machine.end_lease(convert::lease(request.lease.as_ref())?).await?;
        Ok(Response::new(wire::EndLeaseResponse { leftover_processes }))
    }

    async fn drain(
        &self,
        request: Request<wire::DrainRequest>,
    ) -> Result<Response<wire::DrainResponse>, Status> {
        let _present = self.admit(request)?;
        self.machine.drain();
        Ok(Response::new(wire::DrainResponse {}))
    }

    async fn halt(
        &self,
        request: Request<wire::HaltRequest>,
    ) -> Result<Response<wire::HaltResponse>, Status> {
        let (request, _present) = self.admit(request)?;
        self.machine.halt(convert::halt_kind(request.kind)?)?;
        Ok(Response::new(wire::HaltResponse {}))
    }
}

/// What a watch delivers; it counts as presence as long as it is wanted.
fn watching(
    watch: Watch,
    present: Present,
) -> impl Stream<Item = Result<wire::WatchExecResponse, Status>> + Send {
    stream::unfold((watch, present), |(mut watch, present)| async move {
        let event = watch.next().await?.map(convert::output_to_wire).map_err(Status::from);
        Some((event, (watch, present)))
    })
}
