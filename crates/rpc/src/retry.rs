//! Trying again, decided in one place: which statuses, how often, how long.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// When to stop trying.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often at most, the first time included.
    pub attempts: usize,
    /// How long at most, waiting included: no attempt begins later than this after the first.
    pub within: Option<Duration>,
    /// The first pause; each next one is twice as long, plus up to its own length at random.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Codes to retry besides `UNAVAILABLE`, such as `ABORTED` by who reads, modifies and writes again.
    pub also: &'static [Code],
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            within: Some(Duration::from_secs(10)),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            also: &[],
        }
    }
}

impl RetryPolicy {
    fn applies(&self, status: &Status) -> bool {
        crate::is_transient(status) || self.also.contains(&status.code())
    }
}

/// Calls until it succeeds, fails for good, or the policy is used up; the error is that of the last call. Each call
/// must be one that may be repeated: mutations carry a request id.
///
/// # Errors
/// The last call's.
pub async fn retry<T, F>(policy: RetryPolicy, mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    let mut pauses = backoff(policy.first_pause, policy.longest_pause);
    for attempt in 1_usize.. {
        let status = match call().await {
            Ok(value) => return Ok(value),
            Err(status) => status,
        };
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        let pause = pauses.next().unwrap_or(policy.longest_pause).max(asked);
        let too_late = policy.within.is_some_and(|within| begun.elapsed() + pause > within);
        if attempt >= policy.attempts || too_late || !policy.applies(&status) {
            return Err(status);
        }
        tokio::time::sleep(pause).await;
    }
    unreachable!("the range does not end")
}

/// Endless pauses: doubling, jittered, capped.
pub(crate) fn backoff(first: Duration, longest: Duration) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn attempts(policy: RetryPolicy, code: Code) -> usize {
        let calls = Cell::new(0);
        let failed: Result<(), _> = retry(policy, || {
            calls.set(calls.get() + 1);
            async move { Err(Status::new(code, "no")) }
        })
        .await;
        assert_eq!(failed.unwrap_err().code(), code);
        calls.get()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_retried_and_not_for_ever() {
        assert_eq!(attempts(RetryPolicy::default(), Code::Unavailable).await, 5);
        assert_eq!(attempts(RetryPolicy::default(), Code::Aborted).await, 1);
        assert_eq!(attempts(RetryPolicy::default(), Code::DeadlineExceeded).await, 1);
        let also = RetryPolicy { also: &[Code::Aborted], ..RetryPolicy::default() };
        assert_eq!(attempts(also, Code::Aborted).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn time_bounds_retries_too() {
        let begun = Instant::now();
        let within = Some(Duration::from_secs(5));
        let endless = RetryPolicy { attempts: usize::MAX, within, ..RetryPolicy::default() };
        assert!(attempts(endless, Code::Unavailable).await > 2);
        assert!(begun.elapsed() <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_say_when_to_come_again() {
        let begun = Instant::now();
        let tried = Cell::new(false);
        let policy = RetryPolicy { also: &[Code::ResourceExhausted], ..RetryPolicy::default() };
        retry(policy, || {
            let first = !tried.replace(true);
            async move {
                let full =
                    || crate::retry_after(Code::ResourceExhausted, "FULL", "full", Duration::from_secs(7));
                if first { Err(full()) } else { Ok(()) }
            }
        })
        .await
        .unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(7));
    }
}
