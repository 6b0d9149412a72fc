//! Tests of what a follower does with its folder. Those with a server are in maintnerd.

use super::*;
use crate::generate::{Generator, Scale};

const HISTORY: &str = "00112233445566778899aabbccddeeff";

fn mutations() -> Vec<Mutation> {
    Generator::new(5, Scale::TINY).collect()
}

async fn feed(mut follower: Follower, mutations: &[Mutation]) -> Follower {
    for some in mutations.chunks(40) {
        let position = follower.position() + some.len() as u64;
        let token = ResumeToken { history: HISTORY.parse().unwrap(), position }.to_string();
        let update = Update::Batch { mutations: some.to_vec(), token };
        follower = follower.take_update(update, &mut |_, _| ()).await.unwrap();
    }
    follower
}

fn comments(corpus: &Corpus) -> Vec<(i64, Vec<u8>)> {
    corpus.github().comments().map(|comment| (comment.id(), comment.body_bytes().to_vec())).collect()
}

#[tokio::test]
async fn a_long_catch_up_refers_to_the_copy_and_keeps_few_bytes_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let all = mutations();
    let plain = feed(Follower::open(dir.path()).await.unwrap(), &all).await;
    let copied = plain.corpus().copied_bytes();
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { most_copied: 0, ..Limits::default() };
    let thrifty = Follower::open_with(dir.path(), limits).await.unwrap();
    let thrifty = feed(thrifty, &all).await;
    assert!(copied > 0 && thrifty.corpus().copied_bytes() == 0);
    assert_eq!(thrifty.corpus().counts(), plain.corpus().counts());
    assert_eq!(comments(thrifty.corpus()), comments(plain.corpus()));
    assert_eq!(thrifty.corpus().check(), Vec::<String>::new());
}

#[tokio::test]
async fn a_follower_that_is_never_closed_leaves_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let all = mutations();
    let log = Options { max_segment_bytes: 20_000, ..Options::default() };
    let limits = Limits { snapshot_bytes: 30_000, log, ..Limits::default() };
    let mut follower = feed(Follower::open_with(dir.path(), limits).await.unwrap(), &all).await;
    assert!(follower.covered >= 30_000);
    follower.finish_snapshot().await;
    let counts = follower.corpus().counts();
    drop(follower);
    let (corpus, opened) = snapshot::open(dir.path()).unwrap();
    assert!(opened.from_snapshot > 0 && opened.replayed.mutations < all.len() as u64);
    assert_eq!(corpus.counts(), counts);
}

#[tokio::test]
async fn a_copy_that_was_being_removed_when_its_process_died_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let follower = feed(Follower::open(dir.path()).await.unwrap(), &mutations()).await;
    assert!(matches!(follower.start(), Start::After(_)));
    follower.close().await.unwrap();
    fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    fs::write(dir.path().join(FORGET), "").unwrap();
    // As much as a crash may have left.
    fs::remove_file(dir.path().join(ORIGIN)).unwrap();
    let follower = Follower::open(dir.path()).await.unwrap();
    assert_eq!((follower.position(), follower.start()), (0, Start::Beginning));
    assert_eq!(follower.corpus().commit_count(), 0);
    assert!(dir.path().join("notes.txt").exists() && !dir.path().join(FORGET).exists());
}

#[tokio::test]
async fn a_log_that_is_no_copy_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    log.append(&mutations()[..3]).await.unwrap();
    log.close().await;
    assert!(matches!(Follower::open(dir.path()).await, Err(FollowerError::NotACopy(_))));
    assert_eq!(Log::open(dir.path(), Options::default()).unwrap().extent().position, 3);
}
