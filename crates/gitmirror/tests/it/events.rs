//! Events of pubsubhelper wake mirrors. A fake of it serves the real protocol.

use std::{net::SocketAddr, pin::Pin};

use api::events::{
    Checkpoint, Event, GerritEvent, GithubEvent, WatchEventsRequest, WatchEventsResponse,
    event::Source,
    event_service_server::{EventService, EventServiceServer},
    watch_events_response,
};
use futures_util::{Stream, StreamExt};
use runtime::Tasks;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::{
    remotes::Daemon,
    world::{Origin, World},
};

/// Sends what a test tells it; positions that are not its own are expired.
struct FakeEvents(broadcast::Sender<WatchEventsResponse>);

#[tonic::async_trait]
impl EventService for FakeEvents {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let token = request.into_inner().resume_token;
        if !token.is_empty() {
            return Err(rpc::status(Code::OutOfRange, "RESUME_TOKEN_EXPIRED", "gone"));
        }
        let checkpoint = watch_events_response::Event::Checkpoint(Checkpoint {});
        let first = WatchEventsResponse { event: Some(checkpoint), resume_token: "1".into() };
        let events = BroadcastStream::new(self.0.subscribe()).map(|event| {
            // A test ends the stream by an event without content.
            event.map_err(|_| Status::internal("behind")).and_then(|event| match event.event {
                Some(_) => Ok(event),
                None => Err(Status::unavailable("cut")),
            })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter([Ok(first)]).chain(events))))
    }
}

fn push(owner: &str, repository: &str) -> WatchEventsResponse {
    happened(Source::Github(GithubEvent {
        kind: "push".into(),
        owner: owner.into(),
        repository: repository.into(),
        ..GithubEvent::default()
    }))
}

fn happened(source: Source) -> WatchEventsResponse {
    let event = Event { received: None, source: Some(source) };
    WatchEventsResponse {
        event: Some(watch_events_response::Event::Happened(event)),
        resume_token: "2".into(),
    }
}

/// A gitmirror with one repository that listens to a pubsubhelper, which says what it is told to.
async fn listening(
    tasks: &Tasks,
    config: gitmirror::RepositoryConfig,
    origin: &Origin,
) -> (World, crate::world::RefWatch, broadcast::Sender<WatchEventsResponse>) {
    let (send, _) = broadcast::channel(16);
    let mut world = World::new(vec![]).await;
    world.stop().await;
    let fake = EventServiceServer::new(FakeEvents(send.clone()));
    let server =
        rpc::Server::new("pubsubhelper", tasks.clone()).tls(&world.identity("pubsubhelper")).grpc(fake);
    let bound = server.bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let events: SocketAddr = bound.addr();
    bound.start();
    world.start(vec![config], |config| config.events = Some(format!("https://{events}"))).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    let deadline = tokio::time::Instant::now() + crate::world::DEADLINE;
    while send.receiver_count() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody listens");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    (world, watch, send)
}

#[tokio::test]
async fn an_event_of_a_change_brings_its_refs_and_no_others() {
    let origin = Origin::new();
    let change = |number: u32, what: &str| format!("refs/changes/{:02}/{number}/{what}", number % 100);
    let put = |number: u32, what: &str, commit: &str| {
        origin.git(["update-ref", &change(number, what), commit]);
    };
    let first = origin.head();
    for (number, what) in [(1207, "1"), (1207, "meta"), (12, "meta"), (7, "meta")] {
        put(number, what, &first);
    }
    let daemon = Daemon::start(origin.path(), None).await;
    let tasks = Tasks::new(CancellationToken::new());
    let config = gitmirror::RepositoryConfig {
        also: vec!["refs/changes/".into()],
        gerrit_project: Some("review.example.com/a/b".into()),
        poll: std::time::Duration::from_hours(1),
        ..daemon.config("one", ".git")
    };
    let (mut world, mut watch, send) = listening(&tasks, config, &origin).await;
    let at = |number: u32, what: &str| format!("one {}", change(number, what));
    watch.until_at(&at(1207, "meta"), &first).await;
    let event = |project: &str, change: u32, name: &str| {
        let (project, r#ref) = (project.to_owned(), name.to_owned());
        let event = GerritEvent { project, change, r#ref, ..GerritEvent::default() };
        send.send(happened(Source::Gerrit(event))).unwrap();
    };
    // What nobody tells of is not seen; what is told of is, a patch set that is gone included.
    let second = origin.commit("x", "1");
    put(7, "meta", &second);
    put(1207, "meta", &second);
    put(1207, "2", &second);
    origin.git(["update-ref", "-d", &change(1207, "1")]);
    event("a/other", 7, "");
    event("a/b", 1207, "");
    let (now, gone, new) = (at(1207, "meta"), at(1207, "1"), at(1207, "2"));
    watch
        .until(|refs| {
            refs.get(&now) == Some(&second) && refs.get(&new) == Some(&second) && !refs.contains_key(&gone)
        })
        .await;
    // A branch by itself; one that is gone makes us look at all.
    let main = "one refs/heads/main";
    watch.until(|refs| refs.get(main) == Some(&first) && refs.get(&at(7, "meta")) == Some(&first)).await;
    event("a/b", 0, "refs/heads/main");
    watch.until(|refs| refs.get(main) == Some(&second) && refs.get(&at(7, "meta")) == Some(&first)).await;
    event("a/b", 0, "refs/heads/never");
    watch.until_at(&at(7, "meta"), &second).await;
    // And what is not known better, too.
    put(12, "meta", &second);
    event("a/b", 0, "");
    watch.until_at(&at(12, "meta"), &second).await;
    world.stop().await;
    tasks.shutdown().cancel();
    tasks.finish(crate::world::DEADLINE).await.unwrap();
}

#[tokio::test]
async fn an_event_about_a_repository_wakes_it_and_so_does_lost_history() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("Golang")).unwrap();
    let origin = Origin::new();
    std::os::unix::fs::symlink(origin.path(), folder.path().join("Golang/go.git")).unwrap();
    let daemon = Daemon::start(folder.path(), None).await;
    let tasks = Tasks::new(CancellationToken::new());
    let (mut world, mut watch, send) =
        listening(&tasks, daemon.config("one", "Golang/go.git"), &origin).await;
    let next = origin.commit("x", "1");
    send.send(push("someone", "else")).unwrap();
    send.send(push("golang", "GO")).unwrap();
    watch.until_at("one refs/heads/main", &next).await;
    // The stream breaks, and its position is expired: what happened meanwhile is looked for.
    let missed = origin.commit("x", "2");
    send.send(WatchEventsResponse::default()).unwrap();
    watch.until_at("one refs/heads/main", &missed).await;
    world.stop().await;
    tasks.shutdown().cancel();
    tasks.finish(crate::world::DEADLINE).await.unwrap();
}
