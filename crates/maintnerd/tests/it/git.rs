//! From refs at gitmirror to mutations.

use std::time::Duration;

use api::{
    events::{
        Event, GithubEvent, WatchEventsRequest, WatchEventsResponse,
        event::Source,
        event_service_server::{EventService, EventServiceServer},
        watch_events_response::Event as Happened,
    },
    maintner::{GetLogStatusRequest, SourceStatus},
};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use runtime::Tasks;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{World, all_words, within, words};

const MAIN: &str = "refs/heads/main";

fn short(commit: &str) -> &str {
    &commit[..8]
}

async fn sources(world: &World) -> Vec<SourceStatus> {
    within(world.client().get_log_status(GetLogStatusRequest {})).await.unwrap().into_inner().sources
}

/// Asks until the sources are as they should be.
async fn sources_become(world: &World, is: impl Fn(&[SourceStatus]) -> bool) {
    let settled = async {
        while !is(&sources(world).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(settled).await;
}

#[tokio::test]
async fn a_push_becomes_its_commits_and_then_the_ref() {
    let world = World::start().await;
    let line = world.mirror.line(None, 3);
    world.mirror.push("one", MAIN, &line[2]);
    let mut watch = world.watch("").await;
    let (first, _) = watch.take(4).await;
    let [a, b, c] = [&line[0], &line[1], &line[2]].map(|one| short(one));
    assert_eq!(
        all_words(&first),
        [format!("commit {a}"), format!("commit {b}"), format!("commit {c}"), format!("one: {MAIN}={c}")]
    );
    assert_eq!(first[0].git.as_ref().unwrap().repo.as_ref().unwrap().go_repo, "one");
    let next = world.mirror.commit(&[&line[2]]);
    world.mirror.push("one", MAIN, &next);
    let (second, _) = watch.take(2).await;
    assert_eq!(words(&second[0]), format!("commit {}", short(&next)), "only the new commit is appended");
    world.mirror.push("one", "refs/tags/v1", &line[1]);
    let lists = world.mirror.lists();
    assert_eq!(words(&watch.take(1).await.0[0]), format!("one: refs/tags/v1={b}"));
    assert_eq!(world.mirror.lists(), lists, "what the log holds is not asked for");
    world.mirror.delete("one", "refs/tags/v1");
    assert_eq!(words(&watch.take(1).await.0[0]), "one: refs/tags/v1 gone");
    world.end().await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_doubled_and_what_was_missed_is_caught_up() {
    let mut world = World::start().await;
    let line = world.mirror.line(None, 2);
    world.mirror.push("one", MAIN, &line[1]);
    let (_, token) = world.watch("").await.take(3).await;
    world.mirror.push("one", "refs/heads/old", &line[0]);
    let (_, token) = world.watch(&token).await.take(1).await;
    world.stop_maintnerd().await;
    let next = world.mirror.commit(&[&line[1]]);
    world.mirror.push("one", MAIN, &next);
    world.mirror.delete("one", "refs/heads/old");
    world.restart().await;
    let (missed, _) = world.watch(&token).await.take(2).await;
    let expected =
        [format!("commit {}", short(&next)), format!("one: {MAIN}={}, refs/heads/old gone", short(&next))];
    assert_eq!(all_words(&missed), expected);
    world.end().await;
}

#[tokio::test]
async fn refs_of_a_mirror_that_is_being_cloned_again_are_not_taken_for_deleted() {
    let mut world = World::start().await;
    let line = world.mirror.line(None, 1);
    world.mirror.push("one", MAIN, &line[0]);
    world.mirror.push("two", MAIN, &line[0]);
    // Each repository is imported by itself, so both may bring the commit; the log holds it once.
    let (_, token) = world.watch("").await.take(3).await;
    world.stop_maintnerd().await;
    world.mirror.set_incomplete("one");
    world.mirror.delete("two", MAIN);
    world.restart().await;
    let (after, _) = world.watch(&token).await.take(1).await;
    assert_eq!(words(&after[0]), format!("two: {MAIN} gone"));
    sources_become(&world, |sources| sources.len() == 2).await;
    world.end().await;
}

#[tokio::test]
async fn a_long_history_is_streamed_and_an_interrupted_import_goes_on() {
    let mut world = World::start().await;
    let line = world.mirror.line(None, 2600);
    world.mirror.push("one", MAIN, line.last().unwrap());
    let mut watch = world.watch("").await;
    // The import is cut off somewhere in the middle, or just done: both must end the same.
    watch.next().await;
    world.restart().await;
    let (all, _) = world.watch("").await.take(2601).await;
    let expected: Vec<String> = line.iter().map(|one| format!("commit {}", short(one))).collect();
    assert_eq!(all_words(&all[..2600]), expected);
    assert_eq!(words(&all[2600]), format!("one: {MAIN}={}", short(line.last().unwrap())));
    world.end().await;
}

#[tokio::test]
async fn a_ref_whose_commits_cannot_be_had_holds_up_no_other_and_shows_in_the_status() {
    let world = World::start().await;
    let good = world.mirror.commit(&[]);
    world.mirror.push("one", "refs/heads/a", &"0".repeat(40));
    world.mirror.push("one", "refs/heads/b", &good);
    let (mutations, _) = world.watch("").await.take(2).await;
    assert_eq!(words(&mutations[1]), format!("one: refs/heads/b={}", short(&good)));
    sources_become(&world, |sources| {
        sources.len() == 1 && sources[0].source == "git/one" && sources[0].error.contains("no commit `0000")
    })
    .await;
    world.mirror.delete("one", "refs/heads/a");
    sources_become(&world, |sources| sources[0].error.is_empty() && sources[0].fresh_at.is_some()).await;
    world.end().await;
}

#[tokio::test]
async fn a_commit_that_is_not_what_its_name_says_never_enters_the_log() {
    let world = World::start().await;
    let (bad, good) = (world.mirror.commit(&[]), world.mirror.commit(&[]));
    world.mirror.damage(&bad);
    world.mirror.push("bad", MAIN, &bad);
    sources_become(&world, |sources| {
        sources.iter().any(|one| one.error.contains("content of another commit"))
    })
    .await;
    world.mirror.push("good", MAIN, &good);
    let (mutations, _) = world.watch("").await.take(2).await;
    assert_eq!(words(&mutations[1]), format!("good: {MAIN}={}", short(&good)));
    world.end().await;
}

#[tokio::test]
async fn a_gitmirror_that_is_gone_shows_in_the_status() {
    let mut world = World::with(|config| config.gitmirror = "https://127.0.0.1:1".into()).await;
    assert_eq!(sources(&world).await, []);
    world.stop_maintnerd().await;
}

/// Says one push, then nothing.
struct OnePush;

#[tonic::async_trait]
impl EventService for OnePush {
    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        if !request.get_ref().resume_token.is_empty() {
            return Ok(Response::new(stream::pending().boxed()));
        }
        let github = GithubEvent {
            kind: "push".into(),
            owner: "Example".into(),
            repository: "two".into(),
            ..Default::default()
        };
        let event = Event { received: None, source: Some(Source::Github(github)) };
        let response =
            WatchEventsResponse { event: Some(Happened::Happened(event)), resume_token: "1".into() };
        Ok(Response::new(stream::iter([Ok(response)]).chain(stream::pending()).boxed()))
    }
}

#[tokio::test]
async fn an_event_tickles_the_repository_that_it_is_about() {
    let tasks = Tasks::new(CancellationToken::new());
    let mut world = World::start().await;
    world.mirror.push("one", MAIN, &world.mirror.commit(&[]));
    world.mirror.push("two", MAIN, &world.mirror.commit(&[]));
    let events = rpc::Server::new("pubsubhelper", tasks.clone())
        .tls(&world.identity)
        .grpc(EventServiceServer::new(OnePush))
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    world.config.pubsubhelper = Some(format!("https://{}", events.addr()));
    events.start();
    world.restart().await;
    let told = async {
        while world.mirror.tickled().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(told).await;
    assert_eq!(world.mirror.tickled(), ["two"]);
    world.end().await;
}
