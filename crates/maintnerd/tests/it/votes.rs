//! Gerrit's own word on votes, by a REST API that says what the test wants.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    apipb::{GerritTryWorkItem, GoFindTryWorkRequest, maintner_service_client::MaintnerServiceClient},
    maintner::{GetLogStatusRequest, SourceStatus},
};
use axum::{Router, extract::State, routing::get};
use maintnerd::Limits;
use serde_json::{Value, json};

use crate::{PATIENCE, World, within};

const PROJECT: &str = "go.googlesource.com/go";
const PEOPLE: &str = "Gerrit User 7 <7@server>";

/// What Gerrit answers, and how often it was asked.
#[derive(Clone, Default)]
struct FakeGerrit(Arc<Mutex<(Value, usize)>>);

impl FakeGerrit {
    async fn start(&self, world: &World) {
        let answer = async |State(FakeGerrit(state)): State<FakeGerrit>| {
            let mut state = state.lock().unwrap();
            state.1 += 1;
            format!(")]}}'\n{}", state.0)
        };
        let router = Router::new().route("/changes/", get(answer)).with_state(self.clone());
        let server = rpc::Server::new("gerrit", world.others.clone())
            .plain_loopback()
            .http(router)
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        world.mirror.set_gerrit_url(&format!("http://{}", server.addr()));
        server.start();
    }

    /// From now on it says of a change that it is in this state and has this vote on Run-TryBot.
    fn say(&self, state: &str, vote: i32) {
        let labels = json!({ "Run-TryBot": { "all": [{ "_account_id": 7, "value": vote }] } });
        self.0.lock().unwrap().0 = json!([
            { "project": "go", "_number": 5, "status": "NEW", "meta_rev_id": state, "labels": labels }
        ]);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

/// A Go project with a change that waits for a try. Answers its state.
fn go_project(world: &World) -> String {
    let mirror = &world.mirror;
    mirror.set_gerrit("go", PROJECT);
    for release in ["go1.20", "go1.21"] {
        mirror.push("go", &format!("refs/heads/release-branch.{release}"), &mirror.commit(&[]));
        mirror.push("go", &format!("refs/tags/{release}.1"), &mirror.commit(&[]));
    }
    mirror.push("go", "refs/heads/master", &mirror.commit(&[]));
    let change = mirror.commit_saying(&[], "Ada <a@b.c>", &format!("a change\n\nChange-Id: I{:040x}", 5));
    mirror.push("go", "refs/changes/05/5/1", &change);
    let footers = format!("Patch-set: 1\nBranch: refs/heads/master\nStatus: new\nCommit: {change}");
    let made = format!("Create change\n\nUploaded patch set 1.\n\n{footers}");
    let made = mirror.commit_saying(&[], PEOPLE, &made);
    say(world, &made, "Patch Set 1: Run-TryBot+1", "\nLabel: Run-TryBot=+1")
}

/// Something is said of the change. Answers its state then.
fn say(world: &World, before: &str, text: &str, footer: &str) -> String {
    let message = format!("Update patch set 1\n\n{text}\n\nPatch-set: 1{footer}");
    let state = world.mirror.commit_saying(&[before], PEOPLE, &message);
    world.mirror.push("go", "refs/changes/05/5/meta", &state);
    state
}

/// Waits until the status of the project is as wanted.
async fn status(world: &World, wanted: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let mut client = world.client();
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = client.get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
            let name = format!("gerrit/{PROJECT}");
            let source = status.sources.into_iter().find(|one| one.source == name && wanted(one));
            match source {
                Some(source) => return source,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    asked.await.expect("the status is never as wanted")
}

/// Waits until the work is as wanted.
async fn work(world: &World, wanted: impl Fn(&[GerritTryWorkItem]) -> bool) {
    let mut client = MaintnerServiceClient::new(world.channel());
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            // There are no releases before they are in the log.
            if let Ok(found) = client.go_find_try_work(GoFindTryWorkRequest::default()).await
                && wanted(&found.into_inner().waiting)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    asked.await.expect("the work is never as wanted");
}

#[tokio::test]
async fn where_gerrit_counts_other_votes_its_word_counts_and_the_status_says_so() {
    let pause = Duration::from_millis(100);
    let world = World::with(|config| config.limits = Limits { votes: pause, ..config.limits }).await;
    let gerrit = FakeGerrit::default();
    gerrit.start(&world).await;
    let waiting = go_project(&world);
    gerrit.say(&waiting, 1);
    work(&world, |work| work.len() == 1).await;
    let agreed = status(&world, |status| status.votes_compared_at.is_some()).await;
    assert_eq!((agreed.vote_disagreements, agreed.error.as_str()), (0, ""));
    // What Gerrit says of another state is not compared.
    gerrit.say(&format!("{:040x}", 1), 0);
    let compared = agreed.votes_compared_at;
    let later =
        status(&world, |status| status.votes_compared_at.map(|at| at.nanos) != compared.map(|at| at.nanos));
    assert_eq!(later.await.vote_disagreements, 0);
    gerrit.say(&waiting, 0);
    let differs = status(&world, |status| status.vote_disagreements > 0).await;
    let both = "change 5 waits for a try by the log (Run-TryBot+1 by 7@server), and does not wait for a try by Gerrit \
                (no votes)";
    assert_eq!(differs.error, both);
    work(&world, <[GerritTryWorkItem]>::is_empty).await;
    // However many ask, Gerrit is asked once in a while; and the same is counted once.
    let (asked, begun) = (gerrit.asked(), tokio::time::Instant::now());
    for _ in 0..50 {
        let mut client = MaintnerServiceClient::new(world.channel());
        within(client.go_find_try_work(GoFindTryWorkRequest::default())).await.unwrap();
    }
    let rounds = begun.elapsed().as_millis() / pause.as_millis() + 2;
    assert!((gerrit.asked() - asked) as u128 <= rounds, "Gerrit is asked by each who asks");
    assert_eq!(status(&world, |_| true).await.vote_disagreements, 1);
    // The change goes on, and so do we.
    let next = say(&world, &waiting, "Patch Set 1:\n\nmore", "");
    work(&world, |work| work.len() == 1).await;
    gerrit.say(&next, 1);
    assert_eq!(status(&world, |status| status.error.is_empty()).await.vote_disagreements, 1);
    world.end().await;
}
