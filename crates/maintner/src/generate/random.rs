//! Numbers from a seed. The same seed gives the same numbers on every machine: integers only.

/// A stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, each equally likely; 0 if there is nothing below.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// From `from` up to, but not with, `to`.
    pub(super) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to.saturating_sub(from))
    }

    /// Yes, once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Below `limit`, small ones far more often: a quarter of all lie in the first 64th.
    pub(super) fn skewed(&mut self, limit: usize) -> usize {
        let one = u128::from(self.next() >> 32);
        let cube = (one * one * one) >> 64;
        ((cube * limit as u128) >> 32) as usize
    }

    /// A length with a long tail: half are near `typical`, each doubling comes half as often, up to 32 times as much.
    pub(super) fn length(&mut self, typical: usize) -> usize {
        let doublings = (self.next() | 1 << 5).trailing_zeros();
        let base = typical << doublings;
        self.between(base / 2, base)
    }

    pub(super) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_limit_and_small_ones_are_common_where_asked() {
        let mut random = Random::new(7);
        let skewed: Vec<usize> = (0..10_000).map(|_| random.skewed(64)).collect();
        assert!(skewed.iter().all(|number| *number < 64));
        let first = skewed.iter().filter(|number| **number == 0).count();
        assert!((2000..3000).contains(&first), "{first}");
        assert!((0..1000).all(|_| random.length(100) < 3200));
        assert_eq!(random.below(0), 0);
    }
}
