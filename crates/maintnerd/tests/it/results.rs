//! Results of builds.

use api::{
    maintner::{AppendBuildResultsRequest, GetLogStatusRequest},
    maintpb::BuildResult,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{World, all_words, within};

pub(crate) fn result(build: u64, attempt: u32, outcome: &str) -> BuildResult {
    BuildResult {
        build,
        attempt,
        builder: "linux".into(),
        repository: "one".into(),
        commit: format!("{build:040x}"),
        outcome: outcome.into(),
        ..Default::default()
    }
}

pub(crate) async fn append(world: &World, results: Vec<BuildResult>) -> Result<(), tonic::Status> {
    within(world.client().append_build_results(AppendBuildResultsRequest { results })).await.map(|_| ())
}

#[tokio::test]
async fn a_result_is_appended_once_however_often_it_is_sent() {
    let mut world = World::start().await;
    append(&world, vec![result(1, 1, "failed"), result(1, 1, "failed"), result(1, 2, "passed")])
        .await
        .unwrap();
    append(&world, vec![result(1, 2, "passed"), result(2, 1, "timed_out")]).await.unwrap();
    world.restart().await;
    append(&world, vec![result(2, 1, "passed")]).await.unwrap();
    let (all, _) = world.watch("").await.take(3).await;
    assert_eq!(all_words(&all), ["build 1.1 failed", "build 1.2 passed", "build 2.1 timed_out"]);
    let status = world.client().get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.position, 3);
    assert!(status.log_bytes > 100);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_results_from_many_at_once_are_appended_once() {
    let world = std::sync::Arc::new(World::start().await);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let world = std::sync::Arc::clone(&world);
        callers.spawn(async move {
            for build in 1..=50 {
                append(&world, vec![result(build, 1, "passed")]).await.unwrap();
                let status =
                    world.client().get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
                assert!(status.position >= build, "answered before it was durable");
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let (all, _) = world.watch("").await.take(50).await;
    let expected: Vec<String> = (1..=50).map(|build| format!("build {build}.1 passed")).collect();
    assert_eq!(all_words(&all), expected);
    std::sync::Arc::into_inner(world).unwrap().end().await;
}

#[tokio::test]
async fn results_that_make_no_sense_are_refused_together_with_their_request() {
    let world = World::start().await;
    let good = result(1, 1, "passed");
    for (bad, says) in [
        (BuildResult { build: 0, ..good.clone() }, "result 1 has no build or no attempt"),
        (BuildResult { builder: "Li nux".into(), ..good.clone() }, "result 1 has a bad name"),
        (BuildResult { commit: "HEAD".into(), ..good.clone() }, "result 1 has a bad commit"),
        (BuildResult { outcome: "fine".into(), ..good.clone() }, "result 1 has a bad outcome"),
    ] {
        let status = append(&world, vec![good.clone(), bad]).await.unwrap_err();
        assert_eq!(
            (status.code(), rpc::reason(&status).as_deref()),
            (Code::InvalidArgument, Some("BAD_RESULT"))
        );
        assert!(status.message().starts_with(says), "{status}");
    }
    let many = (1..=1001).map(|build| result(build, 1, "passed")).collect();
    let status = append(&world, many).await.unwrap_err();
    assert_eq!(rpc::reason(&status).as_deref(), Some("TOO_MANY_RESULTS"));
    append(&world, vec![good]).await.unwrap();
    assert_eq!(all_words(&world.watch("").await.take(1).await.0), ["build 1.1 passed"]);
    world.end().await;
}
