//! Events of pubsubhelper wake mirrors. A fake of it serves the real protocol.

use std::{net::SocketAddr, pin::Pin};

use api::events::{
    Checkpoint, Event, GithubEvent, WatchEventsRequest, WatchEventsResponse,
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
    let event = GithubEvent {
        kind: "push".into(),
        owner: owner.into(),
        repository: repository.into(),
        ..GithubEvent::default()
    };
    let event = Event { received: None, source: Some(Source::Github(event)) };
    WatchEventsResponse {
        event: Some(watch_events_response::Event::Happened(event)),
        resume_token: "2".into(),
    }
}

#[tokio::test]
async fn an_event_about_a_repository_wakes_it_and_so_does_lost_history() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("Golang")).unwrap();
    let origin = Origin::new();
    std::os::unix::fs::symlink(origin.path(), folder.path().join("Golang/go.git")).unwrap();
    let daemon = Daemon::start(folder.path(), None).await;
    let (send, _) = broadcast::channel(16);
    let tasks = Tasks::new(CancellationToken::new());
    let mut events: Option<SocketAddr> = None;
    let mut world = World::new(vec![]).await;
    world.stop().await;
    let fake = EventServiceServer::new(FakeEvents(send.clone()));
    let server =
        rpc::Server::new("pubsubhelper", tasks.clone()).tls(&world.identity("pubsubhelper")).grpc(fake);
    let bound = server.bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    events.replace(bound.addr());
    bound.start();
    world
        .start(vec![daemon.config("one", "Golang/go.git")], |config| {
            config.events = events.map(|address| format!("https://{address}"));
        })
        .await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &origin.head()).await;
    let deadline = tokio::time::Instant::now() + crate::world::DEADLINE;
    while send.receiver_count() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody listens");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
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
