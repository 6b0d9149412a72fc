//! Machines dial in: what each says of itself becomes an event, and so does its going.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buildlet_client::Status;
use runtime::Tasks;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{HostType, MachineName};

use super::{Handle, actor::Link};
use crate::{
    core::{Arrival, Connection, Event, MachineInfo},
    ports::Buildlet,
};

/// How long a machine may take to say what it is.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Takes machines in.
#[derive(Clone)]
pub(crate) struct Machines {
    handle: Handle,
    tasks: Tasks,
    connections: Arc<AtomicU64>,
}

impl Machines {
    pub(crate) fn new(handle: Handle, tasks: Tasks) -> Self {
        Self { handle, tasks, connections: Arc::default() }
    }

    /// A machine has connected. Its certificate allows these host types.
    pub(crate) fn arrived(
        &self,
        name: MachineName,
        host_types: Vec<HostType>,
        buildlet: Arc<dyn Buildlet>,
        closed: CancellationToken,
    ) {
        let connection = Connection(self.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let (handle, shutdown) = (self.handle.clone(), self.tasks.shutdown());
        self.tasks.job("machine", async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = follow(handle, (name, host_types), buildlet, closed, connection) => {}
            }
        });
    }
}

/// A connection from its first word to its end.
async fn follow(
    handle: Handle,
    (name, host_types): (MachineName, Vec<HostType>),
    buildlet: Arc<dyn Buildlet>,
    closed: CancellationToken,
    connection: Connection,
) {
    let status = match tokio::time::timeout(FIRST_WORD, buildlet.status()).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            return warn!(machine.name = %name, "machine {name} did not say what it is: {error}");
        }
        Err(_) => return warn!(machine.name = %name, "machine {name} did not say what it is in time"),
    };
    let arrival = arrival(name.clone(), &host_types, connection, status);
    info!(machine.name = %name, "machine {name} is here for {}", arrival.info.host_types.len());
    if handle.connect(Link { arrival, buildlet, closed: closed.clone() }).await.is_err() {
        return;
    }
    closed.cancelled().await;
    // Shutting down is the only reason that nobody listens.
    let _ = handle.tell(Event::Disconnected { machine: name, connection }).await;
}

/// What a machine may serve is in its certificate; what it wants to serve is in its word. Both must agree.
fn arrival(name: MachineName, certified: &[HostType], connection: Connection, status: Status) -> Arrival {
    let host_types: Vec<HostType> =
        status.host_types.iter().filter(|host| certified.contains(host)).cloned().collect();
    let mut problem = status.broken;
    if host_types.is_empty() && problem.is_empty() {
        "its certificate allows none of the host types that it offers".clone_into(&mut problem);
    }
    Arrival {
        info: MachineInfo {
            name,
            host_types,
            version: status.version,
            platform: status.platform,
            reuse: status.reuse,
            work_folder: status.work_folder,
            pid: status.pid,
        },
        connection,
        lease: status.lease.map(|lease| (lease.id, lease.fence)),
        execs: status.execs.iter().map(|exec| exec.exec).collect(),
        problem,
        draining: status.draining,
    }
}
