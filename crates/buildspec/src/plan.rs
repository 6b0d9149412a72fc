//! Which tests run together. Pure: the same input gives the same shards.

/// How long a test takes that never ran.
pub const UNKNOWN_SECONDS: f64 = 3.0;

/// How big shards may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How long a shard should take. A longer test is a shard of its own.
    pub target_seconds: f64,
    /// The most shards: when there would be more, each takes longer. At least one.
    pub max_shards: usize,
    /// The most bytes of names in a shard, each with a separator; see [`crate::script::max_bytes`]. Comes before
    /// `max_shards`.
    pub max_bytes: usize,
}

/// Packs tests into shards, greedily and in list order, so that the merged log reads as one serial run. Each shard is
/// a list of positions in `tests`, never empty; all shards together are every position once, in order. `seconds` says
/// how long a test took in the past; what is not a positive number counts as unknown.
pub fn shards(tests: &[String], seconds: &dyn Fn(&str) -> Option<f64>, limits: Limits) -> Vec<Vec<usize>> {
    let costs: Vec<f64> = tests
        .iter()
        .map(|test| seconds(test).filter(|s| s.is_finite() && *s > 0.0).unwrap_or(UNKNOWN_SECONDS))
        .collect();
    let max_shards = limits.max_shards.max(1);
    let total: f64 = costs.iter().sum();
    let mut target = limits.target_seconds.max(0.0).max(total / max_shards as f64);
    loop {
        let shards = pack(tests, &costs, target, limits.max_bytes);
        // Greedy packing can exceed the number by what did not fit; a few larger targets settle it. When names alone
        // need more shards, no target does.
        if shards.len() <= max_shards || target >= total {
            return shards;
        }
        target *= 1.25;
    }
}

fn pack(tests: &[String], costs: &[f64], target: f64, max_bytes: usize) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let (mut sum, mut bytes) = (0.0, 0);
    for (index, (test, cost)) in tests.iter().zip(costs).enumerate() {
        let size = test.len() + 1;
        match shards.last_mut() {
            Some(shard) if sum + cost <= target && bytes + size <= max_bytes => {
                shard.push(index);
                sum += cost;
                bytes += size;
            }
            _ => {
                shards.push(vec![index]);
                (sum, bytes) = (*cost, size);
            }
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { target_seconds: 10.0, max_shards: 1000, max_bytes: 24 << 10 };

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| n.to_string()).collect()
    }

    #[test]
    fn tests_are_packed_up_to_the_target_in_order() {
        let seconds = |name: &str| [4.0, 6.0, 0.5, 30.0, 1.0].get(name.parse::<usize>().unwrap()).copied();
        let packed = shards(&names(7), &seconds, LIMITS);
        assert_eq!(packed, [vec![0, 1], vec![2], vec![3], vec![4, 5, 6]]);
    }

    #[test]
    fn no_tests_need_no_shard() {
        assert!(shards(&[], &|_| None, LIMITS).is_empty());
    }

    #[test]
    fn two_hundred_thousand_tests_stay_within_the_most_shards() {
        let packed = shards(&names(200_000), &|_| None, LIMITS);
        assert!(packed.len() <= 1000 && packed.len() > 700, "{}", packed.len());
    }

    #[test]
    fn past_timings_that_make_no_sense_count_as_unknown() {
        for odd in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(shards(&names(4), &|_| Some(odd), LIMITS), [vec![0, 1, 2], vec![3]]);
        }
    }

    proptest! {
        #[test]
        fn every_test_is_in_one_shard_and_order_is_kept(
            costs in prop::collection::vec(prop::option::of(-1.0..100.0), 0..200),
            target_seconds in 0.0..50.0,
            max_shards in 0..40_usize,
            max_bytes in 0..100_usize,
        ) {
            let tests = names(costs.len());
            let limits = Limits { target_seconds, max_shards, max_bytes };
            let packed = shards(&tests, &|name| costs[name.parse::<usize>().unwrap()], limits);
            prop_assert!(packed.iter().all(|shard| !shard.is_empty()));
            prop_assert_eq!(packed.concat(), (0..costs.len()).collect::<Vec<_>>());
            for shard in &packed {
                let bytes: usize = shard.iter().map(|index| tests[*index].len() + 1).sum();
                prop_assert!(shard.len() == 1 || bytes <= max_bytes);
            }
        }

        #[test]
        fn the_most_shards_are_kept_when_names_allow(count in 0..300_usize, max_shards in 1..20_usize) {
            let limits = Limits { target_seconds: 1.0, max_shards, max_bytes: usize::MAX };
            prop_assert!(shards(&names(count), &|_| None, limits).len() <= max_shards);
        }
    }
}
