//! What all parts of one world share: its chance, its weather, its clock, its judge.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{Tasks, clock::Clock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Timestamp;
use uuid::Uuid;

use crate::{
    fault::{Fault, Weather},
    judge::Judge,
    rng::Rng,
};

/// Takes a lock; a panic while it was held fails the seed anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared by all parts.
pub(crate) struct Context {
    rng: Mutex<Rng>,
    weather: Mutex<Weather>,
    pub(crate) judge: Arc<Judge>,
    begun: Instant,
    /// What was added to the clock by steps, in microseconds.
    stepped: AtomicI64,
    ids: AtomicU64,
    /// The tasks of the world itself.
    pub(crate) tasks: Tasks,
}

/// When all worlds begin.
const BEGIN: i64 = 1_700_000_000;

impl Context {
    pub(crate) fn new(seed: u64, judge: Arc<Judge>) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(Rng::new(seed)),
            weather: Mutex::default(),
            judge,
            begun: Instant::now(),
            stepped: AtomicI64::new(0),
            ids: AtomicU64::new(0),
            tasks: Tasks::new(CancellationToken::new()),
        })
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        lock(&self.rng).between(low, high)
    }

    pub(crate) fn once_in(&self, of: u64) -> bool {
        of > 0 && lock(&self.rng).once_in(of)
    }

    /// Whether a fault happens that the weather makes happen once in so many times. It is counted.
    pub(crate) fn strikes(&self, fault: Fault, of: impl FnOnce(&Weather) -> u64) -> bool {
        let strikes = self.once_in(of(&self.weather()));
        if strikes {
            self.judge.fault(fault);
        }
        strikes
    }

    pub(crate) fn weather(&self) -> Weather {
        *lock(&self.weather)
    }

    pub(crate) fn set_weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut lock(&self.weather));
    }

    /// Virtual time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Sets the clock on or back.
    pub(crate) fn step_clock(&self, seconds: i64) {
        self.stepped.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// A name that nobody else has: a UUIDv7 but for its randomness. Its last four bytes are zero, to be counted up.
    pub(crate) fn new_id(&self) -> Uuid {
        let count = u128::from(self.ids.fetch_add(1, Ordering::Relaxed) + 1);
        Uuid::from_u128((count << 32) | (7 << 76) | (2 << 62) | (1 << 110))
    }

    /// Pauses for a number of milliseconds between these.
    pub(crate) async fn pause(&self, low: u64, high: u64) {
        let millis = self.between(low, high);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

impl Clock for Context {
    fn now(&self) -> Timestamp {
        let elapsed = self.begun.elapsed().as_micros() as i64;
        Timestamp(BEGIN * 1_000_000 + elapsed + self.stepped.load(Ordering::Relaxed))
    }
}
