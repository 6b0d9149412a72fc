//! What holds of every log, wherever it is cut and however its sources took turns.

use std::fs;

use api::maintpb::Mutation;
use maintner::{Corpus, log::record, replay, snapshot};
use proptest::prelude::*;
use prost::Message as _;

use crate::{
    corpus::{fold, mutations},
    dump::dump,
};

/// A file of a log with these mutations.
fn segment<'a>(mutations: impl IntoIterator<Item = &'a Mutation>) -> Vec<u8> {
    let mut out = Vec::new();
    for mutation in mutations {
        let (offset, payload) = (out.len() as u64, mutation.encode_to_vec());
        record::write_header(&mut out, offset, payload.len());
        out.extend(payload);
    }
    out
}

fn is_of_github(mutation: &Mutation) -> bool {
    mutation.github.is_some() || mutation.github_issue.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_in_pieces_is_the_log(seed in 100u64..1000, cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let all = mutations(seed);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
        cuts.sort_unstable();
        let mut corpus = Corpus::default();
        let mut start = 0;
        for end in cuts.into_iter().chain([all.len()]) {
            all[start..end].iter().for_each(|mutation| corpus.apply(mutation));
            corpus.settle();
            start = end;
        }
        prop_assert!(dump(&corpus) == dump(&fold(&all)));
        prop_assert_eq!(corpus.check(), Vec::<String>::new());
    }

    #[test]
    fn sources_may_take_turns_in_any_way(seed in 100u64..1000, turns in proptest::collection::vec(any::<bool>(), 1..200)) {
        let all = mutations(seed);
        let (one, other): (Vec<&Mutation>, Vec<&Mutation>) = all.iter().partition(|mutation| is_of_github(mutation));
        let (mut one, mut other) = (one.into_iter(), other.into_iter());
        let mut turns = turns.into_iter().cycle();
        let mixed = std::iter::from_fn(|| {
            let first = turns.next()?;
            let next = if first { one.next() } else { other.next() };
            next.or_else(|| one.next()).or_else(|| other.next())
        });
        let corpus = fold(mixed);
        prop_assert!(dump(&corpus) == dump(&fold(&all)));
    }

    #[test]
    fn a_snapshot_and_the_rest_are_the_log(seed in 100u64..1000, cut in any::<prop::sample::Index>()) {
        let all = mutations(seed);
        let cut = cut.index(all.len() + 1);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("maintner-2015-01-01.mutlog"), segment(&all[..cut])).unwrap();
        fs::write(dir.path().join("maintner-2015-01-02.mutlog"), segment(&all[cut..])).unwrap();
        prop_assert_eq!(snapshot::write(dir.path()).unwrap(), 1);
        let (mut corpus, opened) = snapshot::open(dir.path()).unwrap();
        prop_assert_eq!(opened.from_snapshot, 1);
        prop_assert_eq!(opened.replayed.mutations, (all.len() - cut) as u64);
        prop_assert!(dump(&corpus) == dump(&fold(&all)));
        // What is applied to it then is no different from what is read.
        let more = mutations(seed + 1000);
        for mutation in &more {
            corpus.apply(mutation);
        }
        corpus.settle();
        fs::write(dir.path().join("maintner-2015-01-03.mutlog"), segment(&more)).unwrap();
        prop_assert!(dump(&corpus) == dump(&replay(dir.path()).unwrap().0));
    }
}
