//! Builds from the push to the result.

use api::coordinator::{
    CancelBuildRequest, GetFarmRequest, ListBuildsRequest, Outcome, RequestBuildsRequest, SubmitTryRequest,
    TryHeader, WatchBuildsRequest, submit_try_request::Part, watch_builds_response::Event,
};
use tonic::Code;

use crate::farm::TestFarm;

pub(crate) const PLAIN: &str = r#"
[[builders]]
name = "linux"
host = "local"
make = ["echo made $FARMER_COMMIT"]
[builders.tests]
run = "echo tested"
"#;

pub(crate) const SHARDED: &str = r#"
[[builders]]
name = "linux"
host = "local"
make = ["echo made"]
[builders.tests]
list = "printf 'a\nb\nc\nd\n'"
run = "for t in {tests}; do echo ran $t; done"
shard_seconds = 1.0
helpers = 1
[builders.snapshot]
movable = true
"#;

#[tokio::test]
async fn a_pushed_commit_is_built_and_its_result_reaches_the_mutation_log() {
    let farm = TestFarm::start().await;
    let machine = farm.machine("m1");
    farm.connect(&machine).await;
    let commit = farm.project.push('a', None, PLAIN);
    let build = farm.ended(1).await;
    assert_eq!(build.outcome(), Outcome::Passed, "{build:?}");
    assert_eq!((build.builder.as_str(), build.subject.as_str()), ("linux", "Commit aaaa"));
    assert_eq!(farm.log(1, false).await, format!("made {commit}\ntested\n"));
    assert_eq!(farm.results(1).await, ["passed"]);
    assert_eq!((machine.started(), machine.fetched().len()), (2, 1));
    farm.finish().await;
}

#[tokio::test]
async fn every_commit_of_a_push_is_built_once() {
    let farm = TestFarm::start().await;
    farm.project.push('a', None, PLAIN);
    farm.until(1, |build| build.waits_for.as_ref().is_some_and(|reason| reason.code == "NO_MACHINE")).await;
    farm.project.push('b', Some('a'), PLAIN);
    farm.project.push('c', Some('b'), PLAIN);
    farm.connect(&farm.machine("m1")).await;
    for number in 1..=3 {
        farm.ended(number).await;
    }
    assert_eq!(farm.results(3).await.len(), 3);
    assert_eq!(farm.builds().await.len(), 3);
    farm.finish().await;
}

#[tokio::test]
async fn a_push_of_more_commits_than_are_built_says_so_and_builds_the_newest() {
    let farm = TestFarm::start_with(2).await;
    let first = farm.project.push('a', None, PLAIN);
    farm.until(1, |_| true).await;
    let hashes: Vec<String> = (1..=5).map(|n| format!("{n:040x}")).collect();
    farm.project.push_all(first, &hashes, PLAIN);
    farm.connect(&farm.machine("m1")).await;
    for number in 1..=4 {
        farm.ended(number).await;
    }
    let builds = farm.builds().await;
    assert_eq!(builds.len(), 4, "the oldest two have none: {builds:?}");
    let of = |hash: &String| builds.iter().find(|build| build.commit == *hash).unwrap();
    let skipped = of(&hashes[2]);
    assert_eq!(skipped.outcome(), Outcome::Skipped);
    assert!(skipped.reason.contains("up to its newest 2 commits (`push_builds`)"), "{}", skipped.reason);
    assert_eq!([of(&hashes[3]).outcome(), of(&hashes[4]).outcome()], [Outcome::Passed; 2]);
    let problems = farm.farm_client().get_farm(GetFarmRequest {}).await.unwrap().into_inner().problems;
    assert!(problems.iter().any(|problem| problem.contains("push_builds")), "{problems:?}");
    // Somebody asks for the one that was skipped: it is built.
    let request = RequestBuildsRequest {
        repository: "example".to_owned(),
        revision: hashes[2].clone(),
        builders: vec!["linux".to_owned()],
        request_id: runtime::new_id().to_string(),
        ..RequestBuildsRequest::default()
    };
    farm.client().request_builds(request).await.unwrap();
    assert_eq!(farm.ended(5).await.outcome(), Outcome::Passed);
    farm.project.push_hash(&"b".repeat(40), hashes.last().map(String::as_str), PLAIN);
    assert_eq!(farm.ended(6).await.outcome(), Outcome::Passed);
    let problems = farm.farm_client().get_farm(GetFarmRequest {}).await.unwrap().into_inner().problems;
    assert!(problems.is_empty(), "the next push is an ordinary one: {problems:?}");
    farm.finish().await;
}

#[tokio::test]
async fn shards_run_on_two_machines_and_their_output_is_merged_in_list_order() {
    let farm = TestFarm::start().await;
    let machines = [farm.machine("m1"), farm.machine("m2")];
    for machine in &machines {
        farm.connect(machine).await;
    }
    farm.project.push('a', None, SHARDED);
    let followed = {
        farm.until(1, |_| true).await;
        farm.log(1, true).await
    };
    let build = farm.ended(1).await;
    assert_eq!(build.outcome(), Outcome::Passed, "{build:?}");
    assert_eq!((build.shards_done, build.shards_total), (4, 4));
    assert_eq!(followed, "made\nran a\nran b\nran c\nran d\n");
    assert_eq!(farm.log(1, false).await, followed);
    assert!(machines.iter().any(|m| m.fetched().iter().any(|url| url.contains("/snapshot/"))));
    farm.finish().await;
}

#[tokio::test]
async fn a_farmer_toml_that_is_wrong_is_a_failed_build_with_the_line() {
    let farm = TestFarm::start().await;
    farm.project.push('a', None, "[[builders]]\nname = 'linux'\nhost = 'moon'\n");
    let build = farm.ended(1).await;
    assert_eq!((build.outcome(), build.builder.as_str()), (Outcome::Failed, "farmer.toml"));
    assert!(build.reason.contains("farmer.toml:3:") && build.reason.contains("moon"), "{}", build.reason);
    let response = farm.farm_client().get_farm(GetFarmRequest {}).await.unwrap().into_inner();
    assert!(response.problems.iter().any(|problem| problem.contains("moon")), "{:?}", response.problems);
    assert_eq!(farm.results(1).await, ["failed"]);
    farm.finish().await;
}

#[tokio::test]
async fn a_request_is_answered_with_what_exists_and_repeated_without_effect() {
    let farm = TestFarm::start().await;
    farm.project.push('a', None, PLAIN);
    farm.until(1, |_| true).await;
    let request = RequestBuildsRequest {
        repository: "example".to_owned(),
        revision: "main".to_owned(),
        builders: vec!["linux".to_owned()],
        request_id: runtime::new_id().to_string(),
        ..RequestBuildsRequest::default()
    };
    for _ in 0..2 {
        let answer = farm.client().request_builds(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.builds.iter().map(|build| build.number).collect::<Vec<_>>(), [1]);
    }
    let unknown = RequestBuildsRequest {
        builders: vec!["mars".to_owned()],
        request_id: runtime::new_id().to_string(),
        ..request
    };
    let refused = farm.client().request_builds(unknown).await.unwrap_err();
    assert_eq!((refused.code(), rpc::reason(&refused).as_deref()), (Code::NotFound, Some("UNKNOWN_BUILDER")));
    farm.finish().await;
}

#[tokio::test]
async fn a_try_is_built_and_a_build_can_be_called_off() {
    let farm = TestFarm::start().await;
    let header = TryHeader {
        request_id: runtime::new_id().to_string(),
        commit: "d".repeat(40),
        stop_after_make: true,
        ..TryHeader::default()
    };
    let parts = || {
        let part = |part| SubmitTryRequest { part: Some(part) };
        futures_util::stream::iter([
            part(Part::Header(header.clone())),
            part(Part::Chunk(PLAIN.to_owned().into())),
        ])
    };
    let first = farm.client().submit_try(parts()).await.unwrap().into_inner().builds;
    let again = farm.client().submit_try(parts()).await.unwrap().into_inner().builds;
    assert_eq!((first.len(), first[0].number, first[0].is_try), (1, again[0].number, true));
    farm.client().cancel_build(CancelBuildRequest { number: 1 }).await.unwrap();
    assert_eq!(farm.ended(1).await.outcome(), Outcome::Cancelled);
    let unknown = farm.client().cancel_build(CancelBuildRequest { number: 9 }).await.unwrap_err();
    assert_eq!(rpc::reason(&unknown).as_deref(), Some("UNKNOWN_BUILD"));
    farm.finish().await;
}

#[tokio::test]
async fn a_watch_delivers_what_is_then_a_checkpoint_then_changes() {
    let farm = TestFarm::start().await;
    farm.project.push('a', None, PLAIN);
    farm.until(1, |_| true).await;
    let mut watch = farm.client().watch_builds(WatchBuildsRequest::default()).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, Event::Build(build) if build.number == 1 && build.waits_for.is_some()));
    let second = watch.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(second, Event::Checkpoint(_)));
    farm.connect(&farm.machine("m1")).await;
    loop {
        let event = watch.message().await.unwrap().unwrap().event.unwrap();
        if matches!(event, Event::Build(build) if build.outcome() == Outcome::Passed) {
            break;
        }
    }
    drop(watch);
    farm.finish().await;
}

#[tokio::test]
async fn lists_come_in_pages_newest_first() {
    let farm = TestFarm::start().await;
    let mut parent = None;
    for (index, digit) in ['a', 'b', 'c'].into_iter().enumerate() {
        farm.project.push(digit, parent, PLAIN);
        parent = Some(digit);
        farm.until(index as u64 + 1, |_| true).await;
    }
    let mut numbers = Vec::new();
    let mut request = ListBuildsRequest { page_size: 2, active: true, ..ListBuildsRequest::default() };
    loop {
        let page = farm.client().list_builds(request.clone()).await.unwrap().into_inner();
        numbers.extend(page.builds.iter().map(|build| build.number));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, [3, 2, 1]);
    let by_commit = ListBuildsRequest { commit: "bbbbbbb".to_owned(), ..ListBuildsRequest::default() };
    let found = farm.client().list_builds(by_commit).await.unwrap().into_inner().builds;
    assert_eq!(found.iter().map(|build| build.number).collect::<Vec<_>>(), [2]);
    farm.finish().await;
}
