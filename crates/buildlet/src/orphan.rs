//! Noticing that nobody asks for this machine any more.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether the coordinator is there, and since when it is not. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Presence(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Connections and calls that are open.
    open: usize,
    /// When the last of them ended.
    since: Instant,
}

impl Presence {
    /// Nobody is there yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { open: 0, since: Instant::now() })))
    }

    /// The coordinator is there until the guard is dropped.
    pub(crate) fn enter(&self) -> Present {
        self.state().open += 1;
        Present(self.clone())
    }

    /// For how long nobody has been there.
    pub(crate) fn silence(&self) -> Duration {
        let state = self.state();
        if state.open > 0 { Duration::ZERO } else { state.since.elapsed() }
    }

    /// Waits until nobody has been there for so long.
    pub(crate) async fn lost_for(&self, bound: Duration) {
        loop {
            let left = bound.saturating_sub(self.silence());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody is there.
#[derive(Debug)]
pub(crate) struct Present(Presence);

impl Drop for Present {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_end_of_the_last_call() {
        let presence = Presence::new();
        let present = presence.enter();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(presence.silence(), Duration::ZERO);
        drop(present);
        let begin = Instant::now();
        presence.lost_for(Duration::from_secs(7)).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(7));
    }
}
