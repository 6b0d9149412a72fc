//! How fast we may ask, by what GitHub says in each answer. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// GitHub asks for a minute when it does not say how long.
const UNSAID: Duration = Duration::from_mins(1);
/// However GitHub's clock stands, we come back to look.
const LONGEST: Duration = Duration::from_hours(1);

/// What an answer says of limits. What is not there, or makes no sense, is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<i64>,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`; the last is a time by GitHub's clock.
    pub(crate) limit: Option<i64>,
    pub(crate) remaining: Option<i64>,
    pub(crate) reset: Option<i64>,
    /// What time it is: by the answer's `Date`, or by our clock if it has none.
    pub(crate) now: i64,
    /// Whether the text speaks of a secondary limit: it may come without headers.
    pub(crate) secondary: bool,
}

impl Said {
    fn refused(&self) -> bool {
        matches!(self.status, 403 | 429)
    }

    fn until_reset(&self) -> Option<Duration> {
        // One more: both are cut to whole seconds.
        Some(seconds(self.reset?.saturating_sub(self.now).saturating_add(1)))
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.max(1).unsigned_abs()).min(LONGEST)
}

/// What is left, and when there is more.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// The part of the limit that is left to others who use the same token: one of so many. None for nothing.
    reserve: Option<u64>,
    blocked: Option<Instant>,
    /// Requests an hour, as GitHub said last.
    hourly: Option<u64>,
    /// Secondary limits one after the other of which nothing more was said.
    unsaid: u32,
}

impl Budget {
    pub(crate) fn new(reserve: Option<u64>) -> Self {
        Self { reserve, ..Self::default() }
    }

    /// How long nothing may be asked yet.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.blocked?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Requests an hour, if GitHub said how many.
    pub(crate) fn hourly(&self) -> Option<u64> {
        self.hourly
    }

    /// Takes an answer in. Answers how long to wait if it is a refusal for a limit.
    pub(crate) fn learn(&mut self, now: Instant, said: &Said) -> Option<Duration> {
        self.hourly = said.limit.and_then(|limit| u64::try_from(limit).ok()).or(self.hourly);
        let refusal = if said.refused() { self.refusal(said) } else { None };
        if refusal.is_none() && !said.refused() {
            self.unsaid = 0;
        }
        let wait = refusal.or_else(|| self.used_up(said));
        if let Some(wait) = wait {
            let until = now + wait;
            self.blocked = Some(self.blocked.map_or(until, |before| before.max(until)));
        }
        refusal
    }

    fn refusal(&mut self, said: &Said) -> Option<Duration> {
        if let Some(after) = said.retry_after {
            return Some(seconds(after));
        }
        if said.remaining == Some(0) {
            return Some(said.until_reset().unwrap_or(UNSAID));
        }
        if said.secondary || said.status == 429 {
            let wait = UNSAID * 2_u32.pow(self.unsaid.min(6));
            self.unsaid += 1;
            return Some(wait.min(LONGEST));
        }
        None
    }

    /// How long to wait after an answer that left no more than others may need.
    fn used_up(&self, said: &Said) -> Option<Duration> {
        let limit = u64::try_from(said.limit.unwrap_or(0)).unwrap_or(0);
        let kept = self.reserve.map_or(0, |part| limit / part.max(1));
        let left = u64::try_from(said.remaining?).unwrap_or(0);
        (left <= kept).then(|| said.until_reset())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    fn refused() -> Said {
        Said { status: 403, now: 1000, ..Said::default() }
    }

    fn learn(said: Said) -> (Option<u64>, Option<u64>) {
        let (mut budget, now) = (Budget::new(Some(10)), Instant::now());
        let refusal = budget.learn(now, &said).map(|wait| wait.as_secs());
        (refusal, budget.wait(now).map(|wait| wait.as_secs()))
    }

    #[tokio::test]
    async fn the_time_to_wait_follows_from_what_is_said() {
        assert_eq!(learn(Said { retry_after: Some(7), ..refused() }), (Some(7), Some(7)));
        assert_eq!(learn(Said { status: 429, retry_after: Some(-3), ..refused() }), (Some(1), Some(1)));
        let primary = Said { remaining: Some(0), limit: Some(5000), ..refused() };
        assert_eq!(learn(Said { reset: Some(1029), ..primary }), (Some(30), Some(30)), "by GitHub's clock");
        assert_eq!(learn(Said { reset: Some(1), ..primary }), (Some(1), Some(1)), "a reset that is past");
        assert_eq!(learn(Said { reset: Some(i64::MAX), ..primary }), (Some(3600), Some(3600)));
        assert_eq!(learn(primary), (Some(MINUTE), Some(MINUTE)));
        assert_eq!(learn(Said { secondary: true, ..refused() }), (Some(MINUTE), Some(MINUTE)));
        assert_eq!(learn(refused()), (None, None), "what we may not do is no limit");
    }

    #[tokio::test]
    async fn an_answer_may_be_the_last_for_a_while() {
        let good = Said { status: 200, limit: Some(5000), reset: Some(1009), now: 1000, ..Said::default() };
        assert_eq!(learn(Said { remaining: Some(0), ..good }), (None, Some(10)));
        assert_eq!(learn(Said { remaining: Some(500), ..good }), (None, Some(10)), "the rest is for others");
        assert_eq!(learn(Said { remaining: Some(501), ..good }), (None, None));
        let (mut budget, now) = (Budget::new(None), Instant::now());
        budget.learn(now, &Said { remaining: Some(1), ..good });
        assert_eq!(budget.wait(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secondary_limit_that_is_repeated_doubles_until_something_succeeds() {
        let mut budget = Budget::default();
        let mut said = |status| {
            let secondary = status == 403;
            budget.learn(Instant::now(), &Said { status, secondary, ..Said::default() })
        };
        let waits: Vec<u64> = (0..8).filter_map(|_| said(403)).map(|wait| wait.as_secs() / MINUTE).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(said(200), None);
        assert_eq!(said(403), Some(UNSAID));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends() {
        let mut budget = Budget::default();
        budget.learn(Instant::now(), &Said { retry_after: Some(5), ..refused() });
        budget.learn(Instant::now(), &Said { retry_after: Some(2), ..refused() });
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(budget.wait(Instant::now()), Some(Duration::from_secs(1)), "the longer one counts");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(budget.wait(Instant::now()), None);
    }
}
