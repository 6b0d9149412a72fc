//! The machine: who holds it, what runs on it, and how it becomes clean again.
//!
//! Whatever uses the work folder under a lease holds the gate shared; the end of a lease holds it alone. So when a lease
//! ends nothing of it is in progress, and nothing of the next has begun.

mod clean;
mod error;
mod execs;
mod halt;
mod limits;
mod trees;
mod watch;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::{SharedClock, Tasks};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::CancellationToken;
use types::{ExecId, Timestamp};

use crate::{
    Isolation, Reuse,
    cgroup::{Group, Groups},
    environment::BaseEnvironment,
    exec::{Exec, Limits},
    fetch::Fetcher,
    folder::WorkFolder,
    journal::{Entry, Journal},
    keeper::{Keeper, StopReason, View},
    lease::{Admission, Fencing, Lease, Purpose},
};

pub(crate) use error::CallError;
pub(crate) use execs::ExecRequest;
pub(crate) use halt::HaltKind;
pub(crate) use trees::TreePart;
pub(crate) use watch::{Output, Watch};

/// What the machine is made of.
pub(crate) struct Parts {
    pub(crate) folder: Arc<WorkFolder>,
    pub(crate) spool: PathBuf,
    pub(crate) environment: BaseEnvironment,
    pub(crate) keeper: Keeper,
    pub(crate) fetcher: Fetcher,
    pub(crate) tasks: Tasks,
    pub(crate) clock: SharedClock,
    pub(crate) reuse: Reuse,
    pub(crate) disk_floor_bytes: u64,
    /// What execs see.
    pub(crate) view: View,
    pub(crate) isolation: Isolation,
    pub(crate) groups: Groups,
    /// What an exec may use at most.
    pub(crate) limits: Limits,
    pub(crate) reboot: Option<Vec<String>>,
    pub(crate) power_off: Option<Vec<String>>,
}

/// The machine.
pub(crate) struct Machine {
    parts: Parts,
    started: Timestamp,
    state: Mutex<State>,
    journal: Mutex<Journal>,
    gate: Arc<RwLock<()>>,
    /// Held while an exec is being started, so that one id starts one command. What the wardens of the next execs are in
    /// already.
    starting: tokio::sync::Mutex<VecDeque<Group>>,
    /// Processes that hang in the kernel, if there are any.
    stuck: Mutex<Option<String>>,
}

struct State {
    fencing: Fencing,
    /// The lease's execs in the order in which they were started.
    execs: Vec<Arc<Exec>>,
    /// Cancelled when the lease is about to end.
    ending: CancellationToken,
}

/// What holds the machine for a call.
#[derive(Debug)]
pub(crate) struct Held {
    /// Cancelled when the lease is about to end: the call should give up.
    pub(crate) ending: CancellationToken,
    _gate: OwnedRwLockReadGuard<()>,
}

/// What the machine says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) lease: Option<Lease>,
    pub(crate) execs: Vec<Arc<Exec>>,
    pub(crate) draining: bool,
    pub(crate) broken: Option<String>,
    pub(crate) free_disk_bytes: u64,
    pub(crate) started: Timestamp,
    pub(crate) clock: Timestamp,
    pub(crate) view: View,
    pub(crate) isolation: Isolation,
    pub(crate) limits: &'static str,
}

impl Machine {
    /// A machine as an earlier buildlet left it: its lease, if it had one, and that lease's execs, all ended.
    pub(crate) fn new(parts: Parts, journal: Journal, fencing: Fencing, execs: Vec<Arc<Exec>>) -> Arc<Self> {
        let started = parts.clock.now();
        Arc::new(Self {
            parts,
            started,
            state: Mutex::new(State { fencing, execs, ending: CancellationToken::new() }),
            journal: Mutex::new(journal),
            gate: Arc::default(),
            starting: tokio::sync::Mutex::default(),
            stuck: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self) -> MutexGuard<'_, Option<String>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened. A disk that is full must not end builds that could go on, so failure is only logged.
    fn note(&self, entry: &Entry) {
        let written = self.journal.lock().unwrap_or_else(PoisonError::into_inner).append(entry);
        if let Err(error) = written {
            tracing::warn!("cannot write the journal: {error}");
        }
    }

    /// Lets a call under a lease in, taking the machine over if the lease is newer than all before.
    pub(crate) async fn enter(self: &Arc<Self>, lease: Lease) -> Result<Held, CallError> {
        self.enter_to(Purpose::Work, lease).await
    }

    async fn enter_to(self: &Arc<Self>, purpose: Purpose, lease: Lease) -> Result<Held, CallError> {
        loop {
            let gate = self.gate.clone().read_owned().await;
            {
                let state = self.state();
                if state.fencing.admit(lease, purpose)? == Admission::Holder {
                    return Ok(Held { ending: state.ending.clone(), _gate: gate });
                }
            }
            drop(gate);
            self.take_over(purpose, lease).await?;
        }
    }

    /// Ends whatever holds the machine and gives it to a newer lease.
    async fn take_over(self: &Arc<Self>, purpose: Purpose, lease: Lease) -> Result<(), CallError> {
        {
            let mut state = self.state();
            if state.fencing.admit(lease, purpose)? == Admission::Holder {
                return Ok(());
            }
            // No other older lease gets in any more. What the holder still begins waits behind us at the gate, and
            // then finds that it is the holder no longer.
            state.fencing.expect(lease);
            state.ending.cancel();
        }
        let _alone = self.gate.write().await;
        let previous = {
            let state = self.state();
            // Another call of the lease may have done all this, or a newer lease may have come.
            if state.fencing.admit(lease, purpose)? == Admission::Holder {
                return Ok(());
            }
            state.fencing.lease()
        };
        if let Some(previous) = previous {
            tracing::info!(lease.id = %lease.id, "lease {} with token {} takes the machine from {}", lease.id, lease.fence, previous.id);
            self.note(&Entry::Next(lease));
            self.clean().await?;
        }
        self.begin(lease)
    }

    /// Gives the free machine to a lease. Called with the gate held alone.
    fn begin(&self, lease: Lease) -> Result<(), CallError> {
        self.parts.folder.prepare().map_err(CallError::disk("prepare the work folder"))?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.begin(lease).map_err(CallError::disk("write the journal"))?;
        drop(journal);
        let mut state = self.state();
        state.fencing.take(lease);
        state.ending = CancellationToken::new();
        Ok(())
    }

    /// Ends a lease and proves that nothing of it is left; returns how many processes had to be ended. The work is
    /// done by a task, so that a caller who goes away does not leave it half done.
    pub(crate) async fn end_lease(self: &Arc<Self>, lease: Lease) -> Result<u32, CallError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let machine = self.clone();
        self.parts.tasks.job("end of lease", async move {
            let _ = sender.send(machine.end_lease_now(lease).await);
        });
        receiver.await.unwrap_or(Err(CallError::ShuttingDown))
    }

    async fn end_lease_now(self: &Arc<Self>, lease: Lease) -> Result<u32, CallError> {
        if self.state().fencing.has_ended(lease) {
            return Ok(0);
        }
        drop(self.enter_to(Purpose::End, lease).await?);
        {
            let state = self.state();
            if state.fencing.lease() == Some(lease) {
                state.ending.cancel();
            }
        }
        let _alone = self.gate.write().await;
        {
            let state = self.state();
            if state.fencing.has_ended(lease) {
                return Ok(0);
            }
            state.fencing.admit(lease, Purpose::End)?;
        }
        let leftovers = self.clean().await?;
        if self.parts.reuse == Reuse::Never {
            self.state().fencing.draining = true;
        }
        self.leave_if_drained();
        Ok(leftovers)
    }

    /// Cleans up at the start, when no lease holds the machine.
    pub(crate) async fn clean_at_start(self: &Arc<Self>) -> Result<(), CallError> {
        let _alone = self.gate.write().await;
        if self.state().fencing.lease().is_some() {
            return Ok(());
        }
        self.clean().await.map(|_| ())
    }

    /// Takes no further lease, and ends the buildlet once there is none.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.state().fencing.draining = true;
        self.leave_if_drained();
    }

    fn leave_if_drained(&self) {
        let leaves = {
            let state = self.state();
            state.fencing.draining && state.fencing.lease().is_none()
        };
        if leaves {
            tracing::info!("drained: ending");
            let shutdown = self.parts.tasks.shutdown();
            self.parts.tasks.job("leave", async move {
                // The answer to the call that drained the machine goes out first.
                tokio::time::sleep(Duration::from_millis(200)).await;
                shutdown.cancel();
            });
        }
    }

    /// Ends all execs, now: the coordinator is gone, or the buildlet ends.
    pub(crate) async fn stop_all(&self, reason: StopReason) {
        let running = self.running();
        for exec in &running {
            exec.stop(reason, Duration::ZERO).await;
        }
        for exec in running {
            exec.wait().await;
        }
    }

    /// Asks the keeper to end, with all that it still keeps, and waits for that.
    pub(crate) async fn dismiss_keeper(&self) {
        self.parts.keeper.dismiss().await;
        self.starting.lock().await.clear();
        self.parts.groups.remove();
    }

    /// What runs beside calls.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    fn running(&self) -> Vec<Arc<Exec>> {
        self.state().execs.iter().filter(|exec| exec.runs()).cloned().collect()
    }

    fn find(&self, id: ExecId) -> Option<Arc<Exec>> {
        self.state().execs.iter().find(|exec| exec.id == id).cloned()
    }

    /// What the machine says about itself.
    pub(crate) fn status(&self) -> Status {
        let free_disk_bytes = crate::platform::free_bytes(self.parts.folder.dir()).unwrap_or(0);
        let otherwise = if self.parts.keeper.knows_usage() { "sampling" } else { "none" };
        let state = self.state();
        Status {
            lease: state.fencing.lease(),
            execs: state.execs.clone(),
            draining: state.fencing.draining,
            broken: state.fencing.broken.clone(),
            free_disk_bytes,
            started: self.started,
            clock: self.parts.clock.now(),
            view: self.parts.view.clone(),
            isolation: self.parts.isolation,
            limits: self.parts.groups.kind().unwrap_or(otherwise),
        }
    }
}
