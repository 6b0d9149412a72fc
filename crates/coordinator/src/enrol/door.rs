//! Where machines come in: who may, who is there already, and who has to go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buildlet_client::BuildletClient;
use futures_util::FutureExt as _;
use http::StatusCode;
use rpc::{
    Peer,
    reverse::{Admit, Caller, Incoming, OnConnect, Verdict},
};
use runtime::Tasks;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use types::MachineName;

use super::Gate;
use crate::shell::Machines;

/// How long a machine that is connected may take to say that it lives, before another of its name is taken in. A machine
/// that lost its power and came back is heard of before the keep-alive misses it.
const ALIVE: Duration = Duration::from_secs(2);

/// The door. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inner>);

struct Inner {
    gate: Gate,
    machines: Machines,
    tasks: Tasks,
    live: Mutex<HashMap<MachineName, Live>>,
}

/// A connection that is open.
#[derive(Clone)]
struct Live {
    /// Which life of the buildlet it is.
    instance: String,
    buildlet: BuildletClient,
    closed: CancellationToken,
}

impl Door {
    pub(crate) fn new(gate: Gate, machines: Machines, tasks: Tasks) -> Self {
        Self(Arc::new(Inner { gate, machines, tasks, live: Mutex::default() }))
    }

    /// Serves `GET /reverse`.
    pub(crate) fn router(&self) -> axum::Router {
        rpc::reverse::admitting_router(self.admit(), self.on_connect())
    }

    /// The way to a machine that is connected, for what sessions do and builds do not.
    pub(crate) fn buildlet(&self, name: &MachineName) -> Option<BuildletClient> {
        let live = self.live();
        live.get(name).filter(|live| !live.closed.is_cancelled()).map(|live| live.buildlet.clone())
    }

    fn live(&self) -> MutexGuard<'_, HashMap<MachineName, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Admit {
        let door = self.clone();
        Arc::new(move |caller| {
            let door = door.clone();
            async move { door.verdict(caller).await }.boxed()
        })
    }

    /// Two machines with one name would take each other's place for ever: who is there stays, and the other is told.
    async fn verdict(&self, caller: Caller) -> Verdict {
        let Peer::Machine { name, .. } = caller.peer else { return Verdict::Welcome };
        let there = self.live().get(&name).cloned();
        let other = there.filter(|live| {
            let known = !live.instance.is_empty() && !caller.instance.is_empty();
            known && live.instance != caller.instance && !live.closed.is_cancelled()
        });
        let Some(other) = other else { return Verdict::Welcome };
        let lives = tokio::select! {
            () = other.closed.cancelled() => false,
            lives = tokio::time::timeout(ALIVE, other.buildlet.status()) => matches!(lives, Ok(Ok(_))),
        };
        if !lives {
            return Verdict::Welcome;
        }
        warn!(machine.name = %name, "two machines want to be {name}: the one that is connected stays");
        let text = format!(
            "another machine is connected as `{name}`: no two may have one name or share a state folder; \
             enrol this one under a name of its own with `buildlet enroll`\n"
        );
        Verdict::Refused(StatusCode::CONFLICT, text)
    }

    fn on_connect(&self) -> OnConnect {
        let door = self.clone();
        Arc::new(move |incoming| {
            let Incoming { peer, channel, instance, closed, cut, .. } = incoming;
            let Peer::Machine { name, host_types } = peer else { return };
            let buildlet = BuildletClient::new(channel);
            let live = Live { instance, buildlet: buildlet.clone(), closed: closed.clone() };
            door.live().insert(name.clone(), live);
            door.watch(name.clone(), closed.clone(), cut);
            door.0.machines.arrived(name, host_types, Arc::new(buildlet), closed);
        })
    }

    /// Ends a connection whose machine is shut out, and forgets one that has ended.
    fn watch(&self, name: MachineName, closed: CancellationToken, cut: CancellationToken) {
        let door = self.clone();
        self.0.tasks.job("connected machine", async move {
            tokio::select! {
                () = closed.cancelled() => {}
                () = door.0.gate.revoked(&name) => {
                    warn!(machine.name = %name, "machine {name} is shut out: its connection is ended");
                    cut.cancel();
                }
            }
            let mut live = door.live();
            // A later connection of the same machine may have taken the place.
            if live.get(&name).is_some_and(|live| live.closed.is_cancelled() || cut.is_cancelled()) {
                live.remove(&name);
            }
        });
    }
}
