//! Times of the domain to and from times on the wire.

use std::time::Duration;

use types::Timestamp;

/// For the wire.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.seconds(), nanos: time.subsecond_nanos() }
}

/// From the wire; what lies below a microsecond is dropped.
pub fn from_timestamp(time: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_parts(time.seconds, time.nanos)
}

/// For the wire.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// From the wire; a negative one is zero.
pub fn from_duration(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_read_back(micros in any::<i64>()) {
            let time = Timestamp(micros);
            prop_assert_eq!(from_timestamp(&timestamp(time)), time);
        }

        #[test]
        fn durations_read_back(seconds in 0..1_u64 << 40, nanos in 0..1_000_000_000_u32) {
            let time = Duration::new(seconds, nanos);
            prop_assert_eq!(from_duration(&duration(time)), time);
        }
    }

    #[test]
    fn a_negative_duration_is_none() {
        assert_eq!(from_duration(&prost_types::Duration { seconds: -1, nanos: 0 }), Duration::ZERO);
    }
}
