//! The client: one method for each call of the contract.

use std::time::Duration;

use api::buildlet::{self as wire, buildlet_service_client::BuildletServiceClient, write_tree_request::Part};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tonic::Request;
use types::ExecId;

use crate::{
    ArchiveFormat, Error, ExecEvents, ExecSpec, Fetched, Halt, Lease, PortBytes, Status, Terminal,
    TreeChunks, TreeEntry, convert,
};

/// How long the ending of an exec may take: the grace, the kill and what the network adds.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a large tree may take to be fetched, written or wiped.
const TREE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long a command may leave its input unread before the call is given up; what it has taken by then counts.
const INPUT_TIMEOUT: Duration = Duration::from_mins(1);

/// One buildlet. Cheap to clone; all clones share a connection.
#[derive(Clone)]
pub struct BuildletClient {
    inner: BuildletServiceClient<rpc::Channel>,
}

impl std::fmt::Debug for BuildletClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildletClient").finish_non_exhaustive()
    }
}

/// What a unary call with a deadline of its own looks like.
fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn start_request(lease: Lease, exec: ExecId, spec: &ExecSpec) -> wire::StartExecRequest {
    let variable = |(name, value): &(String, String)| wire::EnvironmentVariable {
        name: name.clone(),
        value: value.clone(),
    };
    wire::StartExecRequest {
        lease: Some(convert::lease_to_wire(lease)),
        exec_id: exec.to_string(),
        argv: spec.argv.clone(),
        environment: spec.environment.iter().map(variable).collect(),
        folder: spec.folder.clone(),
        stdin: spec.stdin.clone(),
        timeout: spec.timeout.map(convert::duration_to_wire),
        max_output_bytes: spec.max_output_bytes.unwrap_or(0),
        max_memory_bytes: spec.max_memory_bytes.unwrap_or(0),
        max_processes: spec.max_processes.unwrap_or(0),
        max_work_bytes: spec.max_work_bytes.unwrap_or(0),
        open_input: spec.open_input,
        terminal: spec.terminal.map(convert::terminal_to_wire),
        network: spec.network,
        submitted: spec.submitted,
    }
}

impl BuildletClient {
    /// A client of the buildlet at the other end of a channel.
    pub fn new(channel: rpc::Channel) -> Self {
        let inner = BuildletServiceClient::new(channel)
            .max_decoding_message_size(rpc::MAX_MESSAGE)
            .max_encoding_message_size(rpc::MAX_MESSAGE);
        Self { inner }
    }

    /// Says what the machine is and what runs on it.
    pub async fn status(&self) -> Result<Status, Error> {
        let response = self.inner.clone().get_status(wire::GetStatusRequest {}).await?;
        convert::status(response.into_inner())
    }

    /// Starts a command and returns its process id, 0 if it could not be started. May be repeated with the same id.
    pub async fn start_exec(&self, lease: Lease, exec: ExecId, spec: &ExecSpec) -> Result<u32, Error> {
        let request = start_request(lease, exec, spec);
        Ok(self.inner.clone().start_exec(request).await?.into_inner().pid)
    }

    /// Starts a command and delivers its output from the beginning, then how it ended: one call where
    /// [`BuildletClient::start_exec`] and [`BuildletClient::watch_exec`] are two. Returns when it was started. May be
    /// repeated with the same id.
    pub async fn run_exec(&self, lease: Lease, exec: ExecId, spec: &ExecSpec) -> Result<ExecEvents, Error> {
        let request = wire::RunExecRequest { start: Some(start_request(lease, exec, spec)) };
        ExecEvents::of_run(self.inner.clone().run_exec(request).await?.into_inner()).await
    }

    /// Delivers the output of an exec from an offset on, then how it ended.
    pub async fn watch_exec(&self, exec: ExecId, offset: u64) -> Result<ExecEvents, Error> {
        let request = wire::WatchExecRequest { exec_id: exec.to_string(), offset };
        Ok(ExecEvents::new(self.inner.clone().watch_exec(request).await?.into_inner()))
    }

    /// Says that output before an offset is durable elsewhere.
    pub async fn acknowledge(&self, exec: ExecId, offset: u64) -> Result<(), Error> {
        let request = wire::AcknowledgeExecRequest { exec_id: exec.to_string(), offset };
        self.inner.clone().acknowledge_exec(request).await?;
        Ok(())
    }

    /// Ends an exec and all it started, and waits for that.
    pub async fn cancel(&self, lease: Lease, exec: ExecId) -> Result<(), Error> {
        let request =
            wire::CancelExecRequest { lease: Some(convert::lease_to_wire(lease)), exec_id: exec.to_string() };
        self.inner.clone().cancel_exec(within(request, CANCEL_TIMEOUT)).await?;
        Ok(())
    }

    /// Writes to the standard input of an exec that was started with open input or a terminal; `offset` is that of the
    /// first byte in all that is sent so. Returns how many bytes the command has taken in all. May be repeated.
    pub async fn send_input(
        &self,
        lease: Lease,
        exec: ExecId,
        offset: u64,
        data: Bytes,
        close: bool,
    ) -> Result<u64, Error> {
        let lease = Some(convert::lease_to_wire(lease));
        let request = wire::SendInputRequest { lease, exec_id: exec.to_string(), offset, data, close };
        let response = self.inner.clone().send_input(within(request, INPUT_TIMEOUT)).await?;
        Ok(response.into_inner().taken)
    }

    /// Says how large the terminal of an exec is now.
    pub async fn resize_terminal(&self, lease: Lease, exec: ExecId, terminal: Terminal) -> Result<(), Error> {
        let request = wire::ResizeTerminalRequest {
            lease: Some(convert::lease_to_wire(lease)),
            exec_id: exec.to_string(),
            terminal: Some(convert::terminal_to_wire(terminal)),
        };
        self.inner.clone().resize_terminal(request).await?;
        Ok(())
    }

    /// Sends a signal, by its number on the machine, to the command of an exec and its process group.
    pub async fn signal(&self, lease: Lease, exec: ExecId, signal: i32) -> Result<(), Error> {
        let lease = Some(convert::lease_to_wire(lease));
        let request = wire::SignalExecRequest { lease, exec_id: exec.to_string(), signal };
        self.inner.clone().signal_exec(request).await?;
        Ok(())
    }

    /// Connects to a TCP port of the machine's loopback address. Sends what the stream delivers, at most 1 MiB at a time;
    /// returns what comes back once the connection stands.
    pub async fn forward_port(
        &self,
        lease: Lease,
        port: u16,
        data: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<PortBytes, Error> {
        use wire::forward_port_request::Part;
        let lease = Some(convert::lease_to_wire(lease));
        let header = wire::ForwardPortHeader { lease, port: u32::from(port) };
        let part = |part| wire::ForwardPortRequest { part: Some(part) };
        let parts = futures_util::stream::once(std::future::ready(part(Part::Header(header))))
            .chain(data.map(move |data| part(Part::Data(data))));
        let inner = self.inner.clone().forward_port(parts).await?.into_inner();
        PortBytes::begin(inner).await
    }

    /// Lists all that lies below a folder, but for the excluded paths: each folder before what is in it, names in order.
    pub async fn list_tree(
        &self,
        lease: Lease,
        folder: &str,
        exclude: &[String],
        digests: bool,
    ) -> Result<Vec<TreeEntry>, Error> {
        let request = wire::ListTreeRequest {
            lease: Some(convert::lease_to_wire(lease)),
            folder: folder.to_owned(),
            exclude: exclude.to_vec(),
            digests,
        };
        let mut some = self.inner.clone().list_tree(request).await?.into_inner();
        let mut entries = Vec::new();
        while let Some(response) = some.message().await? {
            for entry in response.entries {
                entries.push(convert::tree_entry(entry)?);
            }
        }
        Ok(entries)
    }

    /// Has the buildlet fetch an archive and unpack it into a folder. The digest, if given, is its BLAKE3 as fetched.
    pub async fn fetch_tree(
        &self,
        lease: Lease,
        url: &str,
        folder: &str,
        digest: Option<&str>,
    ) -> Result<Fetched, Error> {
        let request = wire::FetchTreeRequest {
            lease: Some(convert::lease_to_wire(lease)),
            url: url.to_owned(),
            folder: folder.to_owned(),
            digest: digest.unwrap_or_default().to_owned(),
        };
        let response = self.inner.clone().fetch_tree(within(request, TREE_TIMEOUT)).await?.into_inner();
        Ok(Fetched { bytes: response.fetched_bytes, entries: response.entries })
    }

    /// Unpacks an archive into a folder; returns how many files and folders were made. Chunks are at most 1 MiB.
    pub async fn write_tree(
        &self,
        lease: Lease,
        folder: &str,
        format: ArchiveFormat,
        chunks: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<u64, Error> {
        let header = wire::WriteTreeHeader {
            lease: Some(convert::lease_to_wire(lease)),
            folder: folder.to_owned(),
            format: format.as_str().to_owned(),
        };
        let part = |part| wire::WriteTreeRequest { part: Some(part) };
        let parts = futures_util::stream::once(std::future::ready(part(Part::Header(header))))
            .chain(chunks.map(move |chunk| part(Part::Chunk(chunk))));
        let response = self.inner.clone().write_tree(within(parts, TREE_TIMEOUT)).await?;
        Ok(response.into_inner().entries)
    }

    /// Delivers a folder as tar.zst, without the excluded paths below it.
    pub async fn read_tree(
        &self,
        lease: Lease,
        folder: &str,
        exclude: &[String],
    ) -> Result<TreeChunks, Error> {
        let request = wire::ReadTreeRequest {
            lease: Some(convert::lease_to_wire(lease)),
            folder: folder.to_owned(),
            exclude: exclude.to_vec(),
        };
        Ok(TreeChunks::new(self.inner.clone().read_tree(request).await?.into_inner()))
    }

    /// Removes files and folders; what is not there is fine.
    pub async fn remove(&self, lease: Lease, paths: &[String]) -> Result<(), Error> {
        let request =
            wire::RemovePathsRequest { lease: Some(convert::lease_to_wire(lease)), paths: paths.to_vec() };
        self.inner.clone().remove_paths(within(request, TREE_TIMEOUT)).await?;
        Ok(())
    }

    /// Ends a lease and proves the machine clean; returns how many processes had to be ended. May be repeated.
    pub async fn end_lease(&self, lease: Lease) -> Result<u32, Error> {
        let request = wire::EndLeaseRequest { lease: Some(convert::lease_to_wire(lease)) };
        let response = self.inner.clone().end_lease(within(request, TREE_TIMEOUT)).await?;
        Ok(response.into_inner().leftover_processes)
    }

    /// Ends all execs, and then the buildlet or its machine.
    pub async fn halt(&self, what: Halt) -> Result<(), Error> {
        let kind = match what {
            Halt::Exit => wire::HaltKind::Exit,
            Halt::Reboot => wire::HaltKind::Reboot,
            Halt::PowerOff => wire::HaltKind::PowerOff,
        };
        self.inner.clone().halt(wire::HaltRequest { kind: kind.into() }).await?;
        Ok(())
    }

    /// Asks the buildlet to end itself once its lease has ended.
    pub async fn drain(&self) -> Result<(), Error> {
        self.inner.clone().drain(wire::DrainRequest {}).await?;
        Ok(())
    }
}
