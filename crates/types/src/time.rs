//! A point in time.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 UTC. Comes from a clock that is passed in, so that tests and the simulator own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From whole seconds since 1970.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The nanoseconds beyond [`Self::seconds`].
    pub const fn subsecond_nanos(self) -> i32 {
        (self.0.rem_euclid(1_000_000) * 1000) as i32
    }

    /// From seconds and nanoseconds, as in protobuf; nanoseconds below a microsecond are dropped.
    pub const fn from_parts(seconds: i64, nanos: i32) -> Self {
        Self(seconds.saturating_mul(1_000_000).saturating_add(nanos as i64 / 1000))
    }

    /// The time since an earlier point; zero if that lies later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_back_before_and_after_1970() {
        for micros in [-1, 0, 1, 1_500_000, -1_500_000] {
            let time = Timestamp(micros);
            assert_eq!(Timestamp::from_parts(time.seconds(), time.subsecond_nanos()), time);
        }
    }

    #[test]
    fn a_later_start_is_no_time_ago() {
        assert_eq!(Timestamp(1).since(Timestamp(5)), Duration::ZERO);
        assert_eq!(Timestamp(5).since(Timestamp(1)), Duration::from_micros(4));
    }
}
