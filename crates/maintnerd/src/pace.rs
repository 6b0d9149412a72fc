//! How fast the auditor reads again what is in the log: so that all of it comes up within a stated time, and no faster
//! than who answers can bear.

use std::time::Duration;

use types::Timestamp;

/// All comments of changes at a Gerrit are read again within this.
pub(crate) const CHANGES_WITHIN: Duration = Duration::from_hours(24);
/// All issues of a repository at GitHub are read again within this, if the limits of the token allow it.
pub(crate) const ISSUES_WITHIN: Duration = Duration::from_hours(14 * 24);
/// The auditor takes no more than one of so many requests that a token has.
const PART: u64 = 4;
/// Requests that reading an issue again takes: itself, its comments and events. A pull request takes some more.
const COST: u64 = 5;
/// Even where there is little, so many are not read again sooner than in one round.
const IN_A_ROUND: u32 = 5;

/// The pause between two issues. `hourly` is how many requests the token has in an hour, if that is known; so many
/// repositories share it.
pub(crate) fn between_issues(count: u64, round: Duration, hourly: Option<u64>, sharing: u64) -> Duration {
    let wanted = (ISSUES_WITHIN / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).min(round / IN_A_ROUND);
    let allowed = hourly.map_or(0, |hourly| (hourly / PART / sharing.max(1) / COST).max(1));
    if allowed == 0 { wanted } else { wanted.max(Duration::from_hours(1) / allowed as u32) }
}

/// How many changes are read again in a round.
pub(crate) fn changes_in_a_round(count: usize, round: Duration) -> usize {
    let rounds = (CHANGES_WITHIN.as_nanos() / round.as_nanos().max(1)).max(1);
    count.div_ceil(usize::try_from(rounds).unwrap_or(usize::MAX)).max(20)
}

/// Where to begin among so many: after a restart about where the one before was, so that the last come up, too, when
/// there are many restarts.
pub(crate) fn beginning(count: usize, now: Timestamp, within: Duration) -> usize {
    let (within, now) = (within.as_secs().max(1), now.seconds().unsigned_abs());
    (u128::from(now % within) * count as u128 / u128::from(within)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_mins(10);

    #[test]
    fn all_of_a_large_project_comes_up_in_time_and_leaves_most_of_the_limit() {
        let pause = between_issues(50_000, ROUND, Some(5000), 1);
        assert!(pause * 50_000 <= ISSUES_WITHIN, "{pause:?}");
        let hourly = Duration::from_hours(1).as_secs_f64() / pause.as_secs_f64() * COST as f64;
        assert!(hourly <= 1250.0, "{hourly}");
        let changes = changes_in_a_round(50_000, ROUND);
        assert!(changes * 24 * 6 >= 50_000 && changes < 400, "{changes}");
    }

    #[test]
    fn what_is_little_is_read_again_soon_and_a_small_limit_is_not_used_up() {
        assert_eq!(between_issues(3, ROUND, Some(5000), 1), Duration::from_mins(2));
        assert_eq!(between_issues(0, ROUND, None, 0), Duration::from_mins(2));
        assert_eq!(between_issues(50_000, ROUND, Some(60), 1), Duration::from_mins(20));
        assert_eq!(between_issues(50_000, ROUND, Some(60), 7), Duration::from_hours(1));
        let two = between_issues(50_000, ROUND, Some(5000), 2);
        assert!(two > between_issues(50_000, ROUND, Some(5000), 1));
        assert_eq!((changes_in_a_round(0, ROUND), changes_in_a_round(7, Duration::ZERO)), (20, 20));
    }

    #[test]
    fn a_restart_goes_on_about_where_it_was() {
        let day = |hours: i64| Timestamp::from_seconds(86_400 * 20_000 + hours * 3600);
        let places = [0, 6, 12, 23].map(|hours| beginning(1000, day(hours), CHANGES_WITHIN));
        assert_eq!(places, [0, 250, 500, 958]);
        assert_eq!(beginning(0, day(5), CHANGES_WITHIN), 0);
    }
}
