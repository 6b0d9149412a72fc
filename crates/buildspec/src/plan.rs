//! Which tests run together. Pure: the same input gives the same shards.
//!
//! Machines take shards as they come free, so who ends early takes from what the others would have had. What is left at
//! the end is at most one shard a machine: so shards are big where the list begins and get smaller with what remains to
//! be shared out. The start of a command is paid for each, so none is made smaller than is worth one.
//!
//! The bound: whoever is free takes what is left, so with `k` machines, `total` seconds of tests and a longest shard of
//! `longest`, all end by `total / k + (1 - 1 / k) * longest` after the last machine is there, the starts of commands aside
//! (Graham's bound of list scheduling). With two machines or more no shard of several tests is expected to take more than
//! `total / 2k`, or `LEAST_SECONDS` where that is more, unless `max_shards` asks for larger ones. No schedule ends before
//! `total / k`, nor before the longest test.

/// How long tests take when none of them ever ran.
pub const UNKNOWN_SECONDS: f64 = 3.0;

/// How big shards may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How long a shard should take. A longer test is a shard of its own.
    pub target_seconds: f64,
    /// The most shards: when there would be more, each takes longer. At least one.
    pub max_shards: usize,
    /// How many machines will share the tests. At least one.
    pub machines: usize,
    /// The most bytes of names in a shard, each with a separator; see [`crate::script::max_bytes`]. Comes before
    /// `max_shards`.
    pub max_bytes: usize,
}

/// How long each test should take. `seconds` says how long one took in the past; what is not a positive number counts as
/// unknown, and what is unknown takes as long as the median of what is known.
pub fn expected(tests: &[String], seconds: &dyn Fn(&str) -> Option<f64>) -> Vec<f64> {
    let known: Vec<Option<f64>> =
        tests.iter().map(|test| seconds(test).filter(|s| s.is_finite() && *s > 0.0)).collect();
    let mut sorted: Vec<f64> = known.iter().copied().flatten().collect();
    let middle = sorted.len() / 2;
    let unknown = match sorted.len() {
        0 => UNKNOWN_SECONDS,
        _ => *sorted.select_nth_unstable_by(middle, f64::total_cmp).1,
    };
    known.into_iter().map(|known| known.unwrap_or(unknown)).collect()
}

/// Packs tests into shards, greedily and in list order, so that the merged log reads as one serial run. Each shard is
/// a list of positions in `tests`, never empty; all shards together are every position once, in order. `costs` says how
/// long each test should take, see [`expected`].
pub fn shards(tests: &[String], costs: &[f64], limits: Limits) -> Vec<Vec<usize>> {
    let max_shards = limits.max_shards.max(1);
    let total: f64 = costs.iter().sum();
    let mut sizes = Sizes {
        most: limits.target_seconds.max(0.0).max(total / max_shards as f64),
        least: LEAST_SECONDS.max(total / (limits.machines.max(1) * LEAST_PARTS) as f64),
        machines: limits.machines.max(1),
        total,
    };
    loop {
        let shards = pack(tests, costs, &sizes, limits.max_bytes);
        // Greedy packing can exceed the number by what did not fit; a few larger targets settle it. When names alone
        // need more shards, no target does.
        if shards.len() <= max_shards || sizes.least >= total {
            return shards;
        }
        sizes.most *= 1.25;
        sizes.least = (sizes.least * 1.25).max(sizes.most / 16.0);
    }
}

/// Into how many parts of what is left, for each machine, the next shard is one.
const PARTS: f64 = 2.0;
/// A shard need not be smaller than one of so many parts that a machine has.
const LEAST_PARTS: usize = 24;
/// How long a shard should take at least: the start of its command is some hundredths of a second.
const LEAST_SECONDS: f64 = 0.5;

/// How big the next shard is to be.
struct Sizes {
    most: f64,
    least: f64,
    machines: usize,
    total: f64,
}

impl Sizes {
    /// After so much has been packed.
    fn next(&self, packed: f64) -> f64 {
        if self.machines == 1 {
            return self.most;
        }
        let share = (self.total - packed) / (self.machines as f64 * PARTS);
        share.max(self.least).min(self.most)
    }
}

fn pack(tests: &[String], costs: &[f64], sizes: &Sizes, max_bytes: usize) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let (mut sum, mut bytes, mut packed) = (0.0, 0, 0.0);
    let mut target = sizes.next(0.0);
    for (index, (test, cost)) in tests.iter().zip(costs).enumerate() {
        let size = test.len() + 1;
        match shards.last_mut() {
            Some(shard) if sum + cost <= target && bytes + size <= max_bytes => {
                shard.push(index);
                sum += cost;
                bytes += size;
            }
            _ => {
                target = sizes.next(packed);
                shards.push(vec![index]);
                (sum, bytes) = (*cost, size);
            }
        }
        packed += cost;
    }
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits =
        Limits { target_seconds: 10.0, max_shards: 1000, machines: 1, max_bytes: 24 << 10 };

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| n.to_string()).collect()
    }

    #[test]
    fn tests_are_packed_up_to_the_target_in_order() {
        let packed = shards(&names(7), &[4.0, 6.0, 0.5, 30.0, 1.0, 3.0, 3.0], LIMITS);
        assert_eq!(packed, [vec![0, 1], vec![2], vec![3], vec![4, 5, 6]]);
    }

    #[test]
    fn a_test_that_never_ran_takes_as_long_as_the_median_of_the_others() {
        let seconds = |name: &str| [4.0, 60.0, 0.5].get(name.parse::<usize>().unwrap()).copied();
        assert_eq!(expected(&names(5), &seconds), [4.0, 60.0, 0.5, 4.0, 4.0]);
        assert_eq!(expected(&names(2), &|_| None), [UNKNOWN_SECONDS; 2]);
    }

    #[test]
    fn shards_get_smaller_with_what_is_left_to_share_out() {
        let limits = Limits { machines: 2, target_seconds: 100.0, ..LIMITS };
        let sizes: Vec<usize> = shards(&names(40), &[1.0; 40], limits).iter().map(Vec::len).collect();
        assert_eq!(sizes[..5], [10, 7, 5, 4, 3]);
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes.last() == Some(&1), "{sizes:?}");
    }

    #[test]
    fn no_tests_need_no_shard() {
        assert!(shards(&[], &[], LIMITS).is_empty());
    }

    #[test]
    fn two_hundred_thousand_tests_stay_within_the_most_shards() {
        let packed = shards(&names(200_000), &vec![3.0; 200_000], LIMITS);
        assert!(packed.len() <= 1000 && packed.len() > 700, "{}", packed.len());
    }

    #[test]
    fn past_timings_that_make_no_sense_count_as_unknown() {
        for odd in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(expected(&names(4), &|_| Some(odd)), [UNKNOWN_SECONDS; 4]);
        }
    }

    proptest! {
        #[test]
        fn every_test_is_in_one_shard_and_order_is_kept(
            costs in prop::collection::vec(prop::option::of(-1.0..100.0), 0..200),
            target_seconds in 0.0..50.0,
            max_shards in 0..40_usize,
            max_bytes in 0..100_usize,
            machines in 0..70_usize,
        ) {
            let tests = names(costs.len());
            let limits = Limits { target_seconds, max_shards, machines, max_bytes };
            let packed = shards(&tests, &expected(&tests, &|name| costs[name.parse::<usize>().unwrap()]), limits);
            prop_assert!(packed.iter().all(|shard| !shard.is_empty()));
            prop_assert_eq!(packed.concat(), (0..costs.len()).collect::<Vec<_>>());
            for shard in &packed {
                let bytes: usize = shard.iter().map(|index| tests[*index].len() + 1).sum();
                prop_assert!(shard.len() == 1 || bytes <= max_bytes);
            }
        }

        #[test]
        fn the_most_shards_are_kept_when_names_allow(count in 0..300_usize, max_shards in 1..20_usize) {
            let limits = Limits { target_seconds: 1.0, max_shards, machines: 8, max_bytes: usize::MAX };
            prop_assert!(shards(&names(count), &vec![3.0; count], limits).len() <= max_shards);
        }
    }
}
