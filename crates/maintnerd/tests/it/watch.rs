//! The stream: tokens, checkpoints, slow readers.

use std::time::Duration;

use api::{
    maintner::{MutationFilter, MutationKind, WatchMutationsRequest, watch_mutations_response::Event},
    maintpb::BuildResult,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    World, all_words,
    results::{append, result},
    within,
};

async fn refused(world: &World, resume_token: &str, from_now: bool) -> (Code, Option<String>) {
    let request = WatchMutationsRequest { resume_token: resume_token.into(), from_now, filter: None };
    let status = world.client().watch_mutations(request).await.unwrap_err();
    (status.code(), rpc::reason(&status))
}

#[tokio::test]
async fn a_reader_goes_on_from_any_token_also_after_a_restart() {
    let mut world = World::start().await;
    for build in 1..=20 {
        append(&world, vec![result(build, 1, "passed")]).await.unwrap();
    }
    let mut watch = world.watch("").await;
    let mut tokens = vec![watch.take(20).await.1];
    for build in 101..=120 {
        append(&world, vec![result(build, 1, "failed")]).await.unwrap();
        tokens.push(watch.take(1).await.1);
    }
    world.restart().await;
    for (at, token) in tokens.iter().enumerate() {
        let rest = tokens.len() - 1 - at;
        if rest > 0 {
            let (mutations, end) = world.watch(token).await.take(rest).await;
            assert_eq!(all_words(&mutations)[0], format!("build {}.1 failed", 101 + at));
            assert_eq!(end, tokens[tokens.len() - 1]);
        }
    }
    world.end().await;
}

#[tokio::test]
async fn tokens_of_another_log_are_expired_and_nonsense_is_refused() {
    let (world, other) = (World::start().await, World::start().await);
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    append(&other, vec![result(1, 1, "passed")]).await.unwrap();
    let (_, token) = world.watch("").await.take(1).await;
    let expired = (Code::OutOfRange, Some("RESUME_TOKEN_EXPIRED".to_owned()));
    assert_eq!(refused(&other, &token, false).await, expired);
    let beyond = format!("{token}ff");
    assert_eq!(refused(&world, &beyond, false).await, expired);
    let bad = |reason: &str| (Code::InvalidArgument, Some(reason.to_owned()));
    assert_eq!(refused(&world, "17", false).await, bad("BAD_RESUME_TOKEN"));
    assert_eq!(refused(&world, &token, true).await, bad("TOKEN_AND_NOW"));
    world.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_reader_hears_when_it_has_caught_up_and_that_we_are_alive() {
    let world = World::with(|config| config.limits.checkpoint = Duration::from_millis(50)).await;
    let mut empty = world.watch("").await;
    for _ in 0..3 {
        let response = empty.next().await;
        assert!(matches!(&response.event, Some(Event::Checkpoint(one)) if one.position == 0), "{response:?}");
        assert!(!response.resume_token.is_empty());
    }
    append(&world, vec![result(1, 1, "passed"), result(2, 1, "passed")]).await.unwrap();
    let mut late = world.watch("").await;
    assert!(matches!(late.next().await.event, Some(Event::Batch(batch)) if batch.mutations.len() == 2));
    let caught_up = late.next().await;
    assert!(matches!(caught_up.event, Some(Event::Checkpoint(one)) if one.position == 2));
    let request = WatchMutationsRequest { from_now: true, ..WatchMutationsRequest::default() };
    let mut now = world.client().watch_mutations(request).await.unwrap().into_inner();
    let first = within(now.message()).await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Checkpoint(one)) if one.position == 2));
    append(&world, vec![result(3, 1, "passed")]).await.unwrap();
    loop {
        let response = within(now.message()).await.unwrap().unwrap();
        if let Some(Event::Batch(batch)) = response.event {
            assert_eq!(all_words(&batch.mutations), ["build 3.1 passed"]);
            break;
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_filter_lets_through_what_was_asked_for_from_files_and_live() {
    let mut world = World::with(|config| {
        config.limits.checkpoint = Duration::from_millis(50);
        config.log.recent_bytes = 2_000;
        config.log.max_segment_bytes = 5_000;
    })
    .await;
    let of = |build: u64| {
        let repository = ["one", "two", "three"][build as usize % 3].to_owned();
        BuildResult { repository, ..result(build, 1, "passed") }
    };
    let filter = |repositories: &[&str], kinds: &[MutationKind]| {
        let repositories = repositories.iter().map(ToString::to_string).collect();
        let kinds = kinds.iter().map(|kind| *kind as i32).collect();
        Some(MutationFilter { repositories, projects: vec![], kinds })
    };
    for build in 1..=300 {
        append(&world, vec![of(build)]).await.unwrap();
    }
    let expected = |builds: std::ops::RangeInclusive<u64>| -> Vec<String> {
        builds.filter(|build| build % 3 != 0).map(|build| format!("build {build}.1 passed")).collect()
    };
    let two_and_three = filter(&["two", "three"], &[MutationKind::BuildResult]);
    let mut watch = world.watch_filtered("", two_and_three.clone()).await;
    let (history, _) = watch.take(200).await;
    assert_eq!(all_words(&history), expected(1..=300));
    let mut nothing = world.watch_filtered("", filter(&[], &[MutationKind::GitCommit])).await;
    for build in 301..=330 {
        append(&world, vec![of(build)]).await.unwrap();
    }
    let (live, token) = watch.take(20).await;
    assert_eq!(all_words(&live), expected(301..=330));
    // The token moves on over what the filter leaves out.
    loop {
        let response = nothing.next().await;
        match response.event {
            Some(Event::Batch(batch)) => assert_eq!(batch.mutations, vec![]),
            Some(Event::Checkpoint(checkpoint)) if checkpoint.position == 330 => break,
            _ => {}
        }
    }
    world.restart().await;
    append(&world, vec![of(331)]).await.unwrap();
    let (rest, _) = world.watch_filtered(&token, two_and_three).await.take(1).await;
    assert_eq!(all_words(&rest), expected(331..=331));
    world.end().await;
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_refused() {
    let world = World::start().await;
    let filter = Some(MutationFilter { kinds: vec![99], ..MutationFilter::default() });
    let request = WatchMutationsRequest { filter, ..WatchMutationsRequest::default() };
    let status = world.client().watch_mutations(request).await.unwrap_err();
    assert_eq!((status.code(), rpc::reason(&status).as_deref()), (Code::InvalidArgument, Some("BAD_FILTER")));
    world.end().await;
}

/// Results with reasons so long that they fill every buffer between us and a reader that does not read.
async fn flood(world: &World, builds: std::ops::Range<u64>) {
    for build in builds {
        let long = BuildResult { reason: "x".repeat(100_000), ..result(build, 1, "failed") };
        append(world, vec![long]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_stops_is_cut_off_and_no_other_notices() {
    let world = World::with(|config| config.limits.slow_reader = Duration::from_millis(300)).await;
    let mut stopped = world.watch("").await;
    stopped.next().await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let mut watch = world.watch("").await;
        readers.spawn(async move { watch.take(200).await.0.len() });
    }
    flood(&world, 1..201).await;
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap(), 200);
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (mut last, mut seen) = (String::new(), 0);
    let status = loop {
        match within(stopped.stream.message()).await {
            Ok(Some(response)) => {
                last = response.resume_token;
                if let Some(Event::Batch(batch)) = response.event {
                    seen += batch.mutations.len();
                }
            }
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), rpc::reason(&status).as_deref()),
        (Code::ResourceExhausted, Some("SLOW_READER")),
        "{status}"
    );
    assert!(seen < 200, "it was not slow: {seen}");
    let (rest, _) = world.watch(&last).await.take(200 - seen).await;
    assert_eq!(rest.len() + seen, 200);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_readers_see_the_same_order_while_many_append() {
    let world = std::sync::Arc::new(World::start().await);
    let mut readers = JoinSet::new();
    for _ in 0..5 {
        let mut watch = world.watch("").await;
        readers.spawn(async move { all_words(&watch.take(400).await.0) });
    }
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let world = std::sync::Arc::clone(&world);
        writers.spawn(async move {
            for build in 1..=100 {
                append(&world, vec![result(writer * 100 + build, 1, "passed")]).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let order = all_words(&world.watch("").await.take(400).await.0);
    while let Some(seen) = readers.join_next().await {
        assert_eq!(seen.unwrap(), order);
    }
    std::sync::Arc::into_inner(world).unwrap().end().await;
}
