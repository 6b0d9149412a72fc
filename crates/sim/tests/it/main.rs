//! The simulator itself: that a seed decides everything, and that it would find a bug.

use sim::{Invariant, Planted};

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in 0..4 {
        let (first, second) = (sim::run(seed, None, false), sim::run(seed, None, false));
        assert_eq!((first.steps, first.digest), (second.steps, second.digest), "seed {seed}");
        assert!(first.violation.is_none(), "seed {seed}: {:?}", first.violation);
    }
}

#[test]
fn a_result_that_is_reported_twice_is_found() {
    let twice = Planted::all().into_iter().map(|(planted, _)| planted);
    let twice = twice.filter(|planted| format!("{planted:?}").contains("ReportTwice"));
    for planted in twice {
        let report = sim::run(1, Some(planted), false);
        assert_eq!(report.violation.map(|violation| violation.invariant), Some(Invariant::Once));
    }
}
