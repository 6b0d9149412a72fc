//! A corpus that follows: through restarts of either side, without a server, and from one log to another.

use std::path::{Path, PathBuf};

use maintner::{
    Corpus, Follower, News,
    generate::{Layout, Scale, write},
    replay, snapshot,
};
use tokio_util::sync::CancellationToken;
use types::CommitHash;

use crate::{
    World,
    results::{append, result},
    within,
};

/// Follows until the corpus has a commit at the ref, and answers with what was told until then.
async fn until(follower: Follower, world: &World, commit: &str) -> (Follower, Vec<&'static str>) {
    let cancel = CancellationToken::new();
    let goal: CommitHash = commit.parse().unwrap();
    let mut told = Vec::new();
    let see = |corpus: &Corpus, news: News<'_>| {
        told.push(match news {
            News::Applied(_) => "applied",
            News::CaughtUp => "caught up",
            News::Restarted => "restarted",
        });
        if corpus.find_ref("one", "refs/heads/main") == Some(goal) {
            assert!(corpus.commit(&goal).is_some(), "a ref comes after its commits");
            cancel.cancel();
        }
    };
    let followed = within(follower.follow(world.channel(), cancel.clone(), see)).await.unwrap();
    (followed, told)
}

fn applied(told: &[&str]) -> usize {
    told.iter().filter(|one| **one == "applied").count()
}

async fn open(dir: &Path) -> Follower {
    Follower::open(dir).await.unwrap()
}

#[tokio::test]
async fn a_follower_goes_on_where_it_ended_and_starts_without_a_server() {
    let mut world = World::start().await;
    let cache = tempfile::tempdir().unwrap();
    let line = world.mirror.line(None, 5);
    world.mirror.push("one", "refs/heads/main", &line[2]);
    let (follower, told) = until(open(cache.path()).await, &world, &line[2]).await;
    assert_eq!(applied(&told), 4, "three commits and the ref");
    follower.close().await.unwrap();
    world.stop_maintnerd().await;

    let follower = open(cache.path()).await;
    assert_eq!(follower.position(), 4);
    assert_eq!(follower.corpus().commit_count(), 3, "what was read before is known without a server");

    world.restart().await;
    world.mirror.push("one", "refs/heads/main", &line[4]);
    let (follower, told) = until(follower, &world, &line[4]).await;
    assert_eq!(applied(&told), 3, "only what is new");
    assert_eq!(follower.corpus().check(), Vec::<String>::new());
    follower.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_follower_of_a_log_that_is_gone_forgets_it_and_reads_the_other() {
    let cache = tempfile::tempdir().unwrap();
    let first = World::start().await;
    let line = first.mirror.line(None, 3);
    first.mirror.push("one", "refs/heads/main", &line[2]);
    let (follower, _) = until(open(cache.path()).await, &first, &line[2]).await;
    follower.close().await.unwrap();
    first.end().await;

    let second = World::start().await;
    let other = second.mirror.commit(&[]);
    second.mirror.push("one", "refs/heads/main", &other);
    let (follower, told) = until(open(cache.path()).await, &second, &other).await;
    assert_eq!(told[0], "restarted");
    assert_eq!((follower.position(), follower.corpus().commit_count()), (2, 1));
    follower.close().await.unwrap();
    let (corpus, _) = snapshot::open(cache.path()).unwrap();
    assert_eq!(corpus.commit_count(), 1, "the copy is of the other log too");
    second.end().await;
}

/// Follows until the corpus has so many mutations.
async fn until_position(follower: Follower, world: &World, position: u64) -> Follower {
    let cancel = CancellationToken::new();
    let see = |corpus: &Corpus, _: News<'_>| {
        if corpus.statistics().mutations >= position {
            cancel.cancel();
        }
    };
    within(follower.follow(world.channel(), cancel.clone(), see)).await.unwrap()
}

fn frozen(corpus: &Corpus) -> Vec<(u32, Vec<u8>)> {
    let sections = corpus.freeze().unwrap();
    sections.iter().filter(|section| !section.is_index()).map(maintner::core::Frozen::to_bytes).collect()
}

#[tokio::test]
async fn a_follower_that_saw_restarts_of_both_sides_has_what_a_replay_of_the_log_has() {
    let mut log = PathBuf::new();
    let mut generated = 0;
    let mut world = World::with(|config| {
        log = config.data.join("log");
        generated = write(&log, 8, Scale::TINY, Layout::Segments).unwrap().position;
    })
    .await;
    let cache = tempfile::tempdir().unwrap();
    let follower = until_position(open(cache.path()).await, &world, generated / 2).await;
    assert!(follower.position() >= generated / 2);
    world.restart().await;
    let follower = until_position(follower, &world, generated).await;
    follower.close().await.unwrap();
    append(&world, (1..=20).map(|build| result(build, 1, "passed")).collect()).await.unwrap();
    world.restart().await;
    let follower = until_position(open(cache.path()).await, &world, generated + 20).await;
    let live = (follower.corpus().counts(), follower.corpus().statistics());
    assert_eq!(follower.corpus().check(), Vec::<String>::new());
    follower.close().await.unwrap();
    world.stop_maintnerd().await;
    let (whole, replayed) = replay(&log).unwrap();
    assert_eq!(replayed.mutations, generated + 20);
    assert_eq!(live, (whole.counts(), whole.statistics()));
    assert!(frozen(&snapshot::open(cache.path()).unwrap().0) == frozen(&whole));
    world.end().await;
}
