//! Who writes a log, and who follows it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::ExecId;

use super::{LogState, unpoisoned};

/// The logs that are written or followed just now.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<Mutex<HashMap<ExecId, Live>>>);

struct Live {
    state: watch::Sender<LogState>,
    writer: Option<Control>,
}

#[derive(Clone, Default)]
struct Control {
    /// Asks the writer to end.
    stop: CancellationToken,
    /// Says that it has.
    ended: CancellationToken,
}

/// The right to write a log; given up when dropped.
pub(super) struct Registration {
    registry: Registry,
    exec: ExecId,
    control: Control,
}

impl Registry {
    pub(super) fn subscribe(&self, exec: ExecId) -> watch::Receiver<LogState> {
        let mut logs = unpoisoned(&self.0);
        logs.retain(|_, live| live.writer.is_some() || live.state.receiver_count() > 0);
        logs.entry(exec).or_default().state.subscribe()
    }

    /// Tells followers. States only move on, whatever the order in which they are learned.
    pub(super) fn advance(&self, exec: ExecId, to: LogState) {
        let mut logs = unpoisoned(&self.0);
        let Some(live) = logs.get(&exec) else { return };
        live.state.send_if_modified(|state| {
            let next = LogState { bytes: state.bytes.max(to.bytes), finished: state.finished || to.finished };
            std::mem::replace(state, next) != next
        });
        if live.state.borrow().finished && live.writer.is_none() {
            logs.remove(&exec);
        }
    }

    pub(super) fn is_written(&self, exec: ExecId) -> bool {
        unpoisoned(&self.0).get(&exec).is_some_and(|live| live.writer.is_some())
    }

    /// Waits until nobody has the right to write a log.
    pub(super) async fn settled(&self, exec: ExecId) {
        loop {
            let writer = unpoisoned(&self.0).get(&exec).and_then(|live| live.writer.clone());
            let Some(writer) = writer else { return };
            writer.ended.cancelled().await;
        }
    }

    /// Takes the right to write a log, once whoever has it has ended.
    pub(super) async fn register(&self, exec: ExecId) -> Registration {
        loop {
            let earlier = {
                let mut logs = unpoisoned(&self.0);
                let live = logs.entry(exec).or_default();
                let Some(earlier) = &live.writer else {
                    let control = Control::default();
                    live.writer = Some(control.clone());
                    return Registration { registry: self.clone(), exec, control };
                };
                earlier.clone()
            };
            earlier.stop.cancel();
            earlier.ended.cancelled().await;
        }
    }
}

impl Registration {
    /// Cancelled when another writer wants the log.
    pub(super) fn stop(&self) -> CancellationToken {
        self.control.stop.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut logs = unpoisoned(&self.registry.0);
        if let Some(live) = logs.get_mut(&self.exec) {
            live.writer = None;
            if live.state.borrow().finished || live.state.receiver_count() == 0 {
                logs.remove(&self.exec);
            }
        }
        self.control.ended.cancel();
    }
}

impl Default for Live {
    fn default() -> Self {
        Self { state: watch::Sender::new(LogState::default()), writer: None }
    }
}
