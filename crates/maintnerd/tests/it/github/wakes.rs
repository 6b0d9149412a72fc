//! What pubsubhelper hears makes us look at once, and at nothing else.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use api::events::{
    Event, GithubEvent, WatchEventsRequest, WatchEventsResponse,
    event::Source,
    event_service_server::{EventService, EventServiceServer},
    watch_events_response::Event as Happened,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use runtime::Tasks;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Follower, GO, some};
use crate::{World, fake_github::head};

const TOOLS: &str = "golang/tools";

/// A pubsubhelper that says what it is told to.
#[derive(Clone)]
struct Events {
    said: broadcast::Sender<GithubEvent>,
    /// What was said before anybody listened.
    early: Arc<Mutex<Vec<GithubEvent>>>,
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let response = |github| {
            let event = Event { received: None, source: Some(Source::Github(github)) };
            Ok(WatchEventsResponse { event: Some(Happened::Happened(event)), resume_token: "1".into() })
        };
        let later = BroadcastStream::new(self.said.subscribe()).map(move |said| response(said.unwrap()));
        let early: Vec<_> = self.early.lock().unwrap().drain(..).map(response).collect();
        Ok(Response::new(futures_util::stream::iter(early).chain(later).boxed()))
    }
}

impl Events {
    /// Starts it, and tells maintnerd when that is started again.
    async fn start(tasks: &Tasks, world: &mut World) -> Self {
        let events = Self { said: broadcast::channel(100).0, early: Arc::default() };
        let server = rpc::Server::new("pubsubhelper", tasks.clone())
            .tls(&world.identity)
            .grpc(EventServiceServer::new(events.clone()))
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        world.config.pubsubhelper = Some(format!("https://{}", server.addr()));
        server.start();
        events
    }

    fn say(&self, key: &str, kind: &str, number: i64) {
        let (owner, name) = key.split_once('/').unwrap();
        let event = GithubEvent {
            kind: kind.into(),
            owner: owner.to_uppercase(),
            repository: name.into(),
            number,
            ..GithubEvent::default()
        };
        self.say_so(event);
    }

    /// A check of a commit is over.
    fn say_of_commit(&self, key: &str, commit: &str) {
        let (owner, name) = key.split_once('/').unwrap();
        self.say_so(GithubEvent {
            kind: "check_run".into(),
            owner: owner.into(),
            repository: name.into(),
            commit: commit.into(),
            ..GithubEvent::default()
        });
    }

    fn say_so(&self, event: GithubEvent) {
        if self.said.send(event.clone()).is_err() {
            self.early.lock().unwrap().push(event);
        }
    }
}

/// Two repositories that are asked for news once an hour.
async fn hourly(tasks: &Tasks) -> (Follower, Events) {
    let change = |config: &mut maintnerd::Config, _: &_| {
        config.github.iter_mut().for_each(|one| one.poll = Duration::from_hours(1));
    };
    let fill = |github: &crate::fake_github::FakeGithub| {
        some(github);
        github.open(TOOLS, "a tool");
    };
    let mut follower = Follower::with(&[GO, TOOLS], change, fill).await;
    let events = Events::start(tasks, &mut follower.world).await;
    follower.restart().await;
    follower.settles().await;
    follower.settles_in(TOOLS).await;
    follower.status_becomes(|status| status.fresh_at.is_some()).await;
    (follower, events)
}

#[tokio::test]
async fn an_event_of_an_issue_brings_that_issue_and_nothing_else() {
    let tasks = Tasks::new(CancellationToken::new());
    let (mut follower, events) = hourly(&tasks).await;
    follower.github.comment(GO, 4, "look at this");
    follower.github.comment(GO, 5, "and not at this");
    let served = follower.github.served().len();
    events.say(GO, "issue_comment", 4);
    let has = |corpus: &maintner::Corpus| {
        let issue = corpus.github().repository("golang", "go").and_then(|known| known.issue(4));
        issue.is_some_and(|issue| issue.comments().any(|comment| comment.body() == "look at this"))
    };
    follower.until(GO, has, "the comment").await;
    let asked = follower.github.served()[served..].to_vec();
    assert!(asked.iter().all(|(path, _)| path.contains("/issues/4")), "{asked:?}");
    events.say(GO, "label", 0);
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn an_event_that_comes_before_its_change_is_remembered() {
    let tasks = Tasks::new(CancellationToken::new());
    let (mut follower, events) = hourly(&tasks).await;
    events.say(GO, "issues", 4);
    follower.asked(3).await;
    follower.github.close(GO, 4);
    follower.settles().await;
    let served = follower.github.served().len();
    follower.github.delete(GO, 4);
    events.say(GO, "issues", 4);
    follower.settles().await;
    let repository = follower.corpus().github().repository("golang", "go").unwrap();
    assert_eq!(repository.why_gone(4), Some(maintner::core::Gone::Deleted));
    assert!(follower.github.served().len() < served + 20);
    follower.end().await;
}

#[tokio::test]
async fn an_event_of_a_commit_brings_its_checks_and_nothing_else() {
    let tasks = Tasks::new(CancellationToken::new());
    let (mut follower, events) = hourly(&tasks).await;
    follower.github.check(GO, 13, "build", Some("success"));
    follower.github.comment(GO, 5, "nobody is to look at this");
    let served = follower.github.served().len();
    // Of a commit that is nobody's head, too.
    events.say_of_commit(GO, &head(77, 1));
    events.say_of_commit(GO, &head(13, 1));
    let has = |corpus: &maintner::Corpus| {
        let issue = corpus.github().repository("golang", "go").and_then(|known| known.issue(13));
        issue.and_then(|issue| issue.checks()).is_some_and(|checks| checks.checks.len() == 1)
    };
    follower.until(GO, has, "the check").await;
    let asked = follower.github.served()[served..].to_vec();
    assert!(asked.iter().all(|(path, _)| path.contains(&format!("/commits/{}/", head(13, 1)))), "{asked:?}");
    follower.end().await;
}

#[tokio::test]
async fn an_event_amid_a_first_import_is_not_lost_and_does_not_wait_for_its_end() {
    let tasks = Tasks::new(CancellationToken::new());
    let change = |config: &mut maintnerd::Config, _: &_| {
        config.github.iter_mut().for_each(|one| one.poll = Duration::from_hours(1));
    };
    let mut follower = Follower::with(&[GO], change, |_| ()).await;
    let events = Events::start(&tasks, &mut follower.world).await;
    follower.stop().await;
    for n in 0..150 {
        let number = follower.github.open(GO, &format!("issue {n}"));
        follower.github.comment(GO, number, "first");
    }
    // What is at the end of the import is told at its beginning: when the first comments are read.
    let said = events.clone();
    follower.github.after("/issues/1/comments", move |github| {
        github.comment(GO, 149, "at once");
        said.say(GO, "issue_comment", 149);
    });
    follower.world.start_maintnerd().await;
    let issue = |corpus: &maintner::Corpus, number: i32, text: &str| {
        let issue = corpus.github().repository("golang", "go").and_then(|known| known.issue(number));
        issue.is_some_and(|issue| issue.comments().any(|comment| comment.body() == text))
    };
    follower.until(GO, |corpus| issue(corpus, 149, "at once"), "the comment that was told").await;
    assert!(!issue(follower.corpus(), 140, "first"), "the import was over");
    // And the import goes on.
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.status_becomes(|status| status.fresh_at.is_some() && status.error.is_empty()).await;
    follower.end().await;
}
