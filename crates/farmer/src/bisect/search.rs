//! Which commit broke a test that also fails by chance: Bayesian search. Pure, so that it can be tried a thousand times.
//!
//! The commits between one that was good and one that is bad are numbered from 1, oldest first. A hypothesis is the number
//! of the commit that broke the test, and how often the test fails by chance: that need not be known, since it is learned
//! on the way. Each result makes hypotheses more or less likely; the commit to try next is the one whose result is
//! expected to tell the most. It ends when one answer is as likely as was asked for.
//!
//! A step costs `O(n * r)` for a result and `O(n * r)` for the choice, of `n` commits and `r` rates.

/// How often a test may fail by chance, and how likely each is before anything is known.
const RATES: [(f64, f64); 9] = [
    (0.001, 0.16),
    (0.01, 0.1),
    (0.03, 0.1),
    (0.07, 0.1),
    (0.12, 0.1),
    (0.2, 0.12),
    (0.3, 0.12),
    (0.45, 0.12),
    (0.6, 0.08),
];
/// How often a broken test passes all the same.
const LUCKY: f64 = 0.02;
/// How likely it is beforehand that it was broken before the first commit, or that none broke it and it only flakes.
const OUTSIDE: f64 = 0.02;

/// The search so far.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// How many commits there are.
    commits: usize,
    confidence: f64,
    /// How likely each hypothesis is, by culprit (0: broken before; 1 to n; n + 1: not broken) and rate. Together 1.
    belief: Vec<[f64; RATES.len()]>,
    /// Commits that cannot be tried, by number.
    hidden: Vec<bool>,
    results: usize,
}

/// What trying a commit showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The test passed.
    Passed,
    /// It failed.
    Failed,
    /// It could not be run: the commit does not build.
    Hidden,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    /// Try this commit, again perhaps.
    Try(usize),
    /// One of these commits broke it, the first and the last of them, with this confidence. More than one only where those
    /// before the last could not be tried.
    Found {
        /// The first.
        first: usize,
        /// The last.
        last: usize,
        /// How likely it is.
        confidence: f64,
    },
    /// It was broken before the first, with this confidence.
    Before(f64),
    /// None broke it: it only flakes.
    OnlyFlakes(f64),
}

impl Search {
    /// A search among so many commits, at least one, of which the last is bad.
    pub(crate) fn new(commits: usize, confidence: f64) -> Self {
        let commits = commits.max(1);
        let inside = (1.0 - 2.0 * OUTSIDE) / commits as f64;
        let prior = |culprit: usize| {
            let share = if culprit == 0 || culprit > commits { OUTSIDE } else { inside };
            RATES.map(|(_, weight)| share * weight)
        };
        Self {
            commits,
            confidence,
            belief: (0..=commits + 1).map(prior).collect(),
            hidden: vec![false; commits + 1],
            results: 0,
        }
    }

    /// How many results were taken in.
    pub(crate) fn results(&self) -> usize {
        self.results
    }

    /// Takes in what a commit showed: 0 is the good one before the first.
    pub(crate) fn record(&mut self, commit: usize, seen: Seen) {
        self.results += 1;
        let failed = match seen {
            Seen::Hidden => {
                self.hidden[commit] = true;
                return;
            }
            Seen::Failed => true,
            Seen::Passed => false,
        };
        let mut sum = 0.0;
        for (culprit, rates) in self.belief.iter_mut().enumerate() {
            for (belief, (rate, _)) in rates.iter_mut().zip(RATES) {
                *belief *= likelihood(failed, culprit <= commit, rate);
                sum += *belief;
            }
        }
        for belief in self.belief.iter_mut().flatten() {
            *belief /= sum;
        }
    }

    /// What to do next.
    pub(crate) fn next(&self) -> Next {
        let likely = |culprit: usize| self.belief[culprit].iter().sum::<f64>();
        if likely(0) >= self.confidence {
            return Next::Before(likely(0));
        }
        if likely(self.commits + 1) >= self.confidence {
            return Next::OnlyFlakes(likely(self.commits + 1));
        }
        let mut first = 1;
        for last in 1..=self.commits {
            // What hides the culprit hides it among all up to the next commit that can be tried.
            if self.hidden[last] && last < self.commits {
                continue;
            }
            let confidence: f64 = (first..=last).map(likely).sum();
            if confidence >= self.confidence {
                return Next::Found { first, last, confidence };
            }
            first = last + 1;
        }
        Next::Try(self.best())
    }

    /// The commit whose result is expected to tell the most of who the culprit is.
    fn best(&self) -> usize {
        let whole = self.sums(self.commits + 1);
        let mut found = (f64::MIN, self.commits);
        // Beliefs by rate in all hypotheses that this commit is broken under.
        let mut broken = self.belief[0];
        for commit in 0..=self.commits {
            if commit > 0 {
                for (sum, belief) in broken.iter_mut().zip(self.belief[commit]) {
                    *sum += belief;
                }
            }
            if self.hidden[commit] {
                continue;
            }
            let told = told(&broken, &whole);
            if told > found.0 + 1e-12 {
                found = (told, commit);
            }
        }
        found.1
    }

    fn sums(&self, last: usize) -> [f64; RATES.len()] {
        let mut sums = [0.0; RATES.len()];
        for rates in &self.belief[..=last] {
            for (sum, belief) in sums.iter_mut().zip(rates) {
                *sum += belief;
            }
        }
        sums
    }
}

/// How likely a result is, of a commit that is broken or not.
fn likelihood(failed: bool, broken: bool, rate: f64) -> f64 {
    let fails = if broken { 1.0 - LUCKY } else { rate };
    if failed { fails } else { 1.0 - fails }
}

/// How much a result tells of whether a commit is broken, in bits: the entropy of the result less what of it is chance.
fn told(broken: &[f64; RATES.len()], whole: &[f64; RATES.len()]) -> f64 {
    let (mut bad, mut good, mut good_fails) = (0.0, 0.0, 0.0);
    for ((broken, whole), (rate, _)) in broken.iter().zip(whole).zip(RATES) {
        let sound = (whole - broken).max(0.0);
        bad += broken;
        good += sound;
        good_fails += sound * rate;
    }
    let fails = bad * (1.0 - LUCKY) + good_fails;
    let chance = if good > 0.0 { good_fails / good } else { 0.0 };
    entropy(fails) - bad * entropy(LUCKY) - good * entropy(chance)
}

fn entropy(share: f64) -> f64 {
    let part = |share: f64| if share <= 0.0 { 0.0 } else { -share * share.log2() };
    part(share) + part(1.0 - share)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance that a seed decides (SplitMix64).
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Searches among commits of which one broke a test; answers what was found, and after how many runs of the test.
    fn search(commits: usize, culprit: usize, rate: f64, seed: u64) -> (Next, usize) {
        let mut chance = Chance(seed);
        let mut search = Search::new(commits, 0.95);
        loop {
            match search.next() {
                Next::Try(commit) => {
                    let failed = commit >= culprit || chance.next() < rate;
                    search.record(commit, if failed { Seen::Failed } else { Seen::Passed });
                    assert!(search.results() < 1000, "it comes to an end");
                }
                found => return (found, search.results()),
            }
        }
    }

    fn is_right(found: Next, culprit: usize) -> bool {
        matches!(found, Next::Found { first, last, .. } if first == culprit && last == culprit)
    }

    #[test]
    fn of_twenty_searches_among_200_commits_with_a_test_that_flakes_at_20_percent_19_are_right() {
        let mut runs = 0;
        let mut right = 0;
        for seed in 0..20 {
            let culprit = (Chance(seed + 1000).next() * 200.0) as usize + 1;
            let (found, took) = search(200, culprit, 0.2, seed);
            right += usize::from(is_right(found, culprit));
            runs += took;
        }
        assert!(right >= 19, "{right} of 20 right");
        assert!(runs < 20 * 60, "{runs} runs of the test in 20 searches");
    }

    #[test]
    fn what_it_is_sure_of_is_as_often_right_as_it_says() {
        for rate in [0.0, 0.05, 0.2, 0.4] {
            let right = (0..400).filter(|seed| {
                let culprit = (Chance(seed + 5000).next() * 60.0) as usize + 1;
                is_right(search(60, culprit, rate, *seed).0, culprit)
            });
            let right = right.count();
            assert!(right >= 372, "{right} of 400 right at a rate of {rate}");
        }
    }

    #[test]
    fn without_chance_it_takes_little_more_than_halving_does() {
        let (found, took) = search(200, 77, 0.0, 1);
        assert!(is_right(found, 77) && took <= 16, "{found:?} after {took}");
    }

    #[test]
    fn commits_that_cannot_be_tried_are_not_blamed_alone() {
        let mut search = Search::new(20, 0.95);
        let found = loop {
            match search.next() {
                Next::Try(commit) if (8..=10).contains(&commit) => search.record(commit, Seen::Hidden),
                Next::Try(commit) => {
                    search.record(commit, if commit >= 9 { Seen::Failed } else { Seen::Passed });
                }
                found => break found,
            }
        };
        assert!(matches!(found, Next::Found { first: 8, last: 11, .. }), "{found:?}");
    }

    #[test]
    fn a_test_that_only_flakes_blames_nobody() {
        let mut chance = Chance(3);
        let mut search = Search::new(50, 0.95);
        let found = loop {
            match search.next() {
                Next::Try(commit) => {
                    let failed = chance.next() < 0.2;
                    search.record(commit, if failed { Seen::Failed } else { Seen::Passed });
                }
                found => break found,
            }
        };
        assert!(matches!(found, Next::OnlyFlakes(_)), "{found:?}");
    }

    #[test]
    fn what_was_broken_before_is_said_so() {
        let (found, _) = search(50, 0, 0.1, 9);
        assert!(matches!(found, Next::Before(_)), "{found:?}");
    }
}
