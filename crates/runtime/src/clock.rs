//! Wall time, as something that is passed in: tests and the simulator own it, and only this file reads it.
//!
//! For intervals and deadlines use `tokio::time`, which tests can pause.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use types::Timestamp;

/// Says what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The time now. May go back when the machine's clock is set.
    fn now(&self) -> Timestamp;
}

/// A clock that a whole service shares.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp(micros(since)),
            Err(before) => Timestamp(-micros(before.duration())),
        }
    }
}

/// The machine's clock, ready to be shared.
pub fn system_clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// A clock that never goes back. When the clock beneath it was set back, time goes on at half its pace until that one has
/// caught up: nothing that waits for a time waits for hours, and nothing ends before it began.
#[derive(Clone)]
pub struct SteadyClock {
    clock: SharedClock,
    last: Arc<Mutex<(Timestamp, Instant)>>,
}

impl SteadyClock {
    /// A steady clock over another.
    pub fn new(clock: SharedClock) -> Self {
        let now = clock.now();
        Self { clock, last: Arc::new(Mutex::new((now, Instant::now()))) }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let wall = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (wall.max(last.0 + last.1.elapsed() / 2), Instant::now());
        last.0
    }
}

/// A clock that stands still until it is told otherwise. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<Timestamp>>);

impl FakeClock {
    /// A clock that says `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = *now + by;
    }

    /// Sets the clock, also back.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// This clock as a service takes it.
    pub fn shared(&self) -> SharedClock {
        Arc::new(self.clone())
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(system_clock().now() > Timestamp::from_seconds(1_577_836_800));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_clock_goes_on_when_the_one_beneath_it_is_set_back() {
        let wall = FakeClock::new(Timestamp::from_seconds(1000));
        let steady = SteadyClock::new(wall.shared());
        wall.set(Timestamp::from_seconds(400));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(steady.now(), Timestamp::from_seconds(1005));
        wall.set(Timestamp::from_seconds(2000));
        assert_eq!(steady.now(), Timestamp::from_seconds(2000));
    }

    #[test]
    fn a_fake_clock_moves_only_when_told() {
        let clock = FakeClock::new(Timestamp::from_seconds(5));
        let shared = clock.shared();
        assert_eq!(shared.now(), Timestamp::from_seconds(5));
        clock.advance(Duration::from_secs(2));
        assert_eq!(shared.now(), Timestamp::from_seconds(7));
    }
}
