//! Recorded traffic: what GitHub itself answered, page for page (the npm package `@octokit/fixtures`), if it is here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Response, Uri},
};
use github::{Options, Token};
use runtime::{Tasks, system_clock};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::github::parse;

const HOST: &str = "https://api.github.com";

/// The exchanges of a scenario.
fn scenario(name: &str) -> Option<Vec<Value>> {
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/farmer-real/octokit-fixtures"));
    let folder = std::env::var_os("FARMER_OCTOKIT_FIXTURES").map(PathBuf::from).or_else(usual)?;
    let file = folder.join("scenarios/api.github.com").join(name).join("normalized-fixture.json");
    let Ok(text) = std::fs::read(file) else {
        let how = "npm install @octokit/fixtures, and let FARMER_OCTOKIT_FIXTURES name its folder";
        testkit::skipped("recorded traffic of GitHub", "fixtures", how);
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

async fn answer(State(recorded): State<Arc<Vec<Value>>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let asked = uri.to_string();
    let is = |one: &&Value| {
        let path = one["path"].as_str().unwrap();
        // The first page is asked for with parameters of ours.
        let is_first = !path.contains("&page=") && path.split('?').next() == Some(uri.path());
        one["method"] == "get" && (path == asked || is_first)
    };
    let Some(found) = recorded.iter().find(is) else {
        return Response::builder().status(404).body(Body::empty()).unwrap();
    };
    let here = format!("http://{}", headers["host"].to_str().unwrap());
    let mut response = Response::builder().status(u16::try_from(found["status"].as_u64().unwrap()).unwrap());
    for name in [
        "date",
        "etag",
        "link",
        "location",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ] {
        if let Some(value) = found["headers"][name].as_str() {
            response = response.header(name, value.replace(HOST, &here));
        }
    }
    response.body(Body::from(found["response"].to_string())).unwrap()
}

async fn replay(recorded: Vec<Value>) -> (Client, Tasks) {
    runtime::install_crypto();
    let tasks = Tasks::new(CancellationToken::new());
    let router = Router::new().fallback(answer).with_state(Arc::new(recorded));
    let server = rpc::Server::new("github", tasks.clone()).plain_loopback().http(router);
    let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let options = Options {
        url: format!("http://{}", bound.addr()),
        token: Token::None,
        agent: "test",
        patience: Duration::from_secs(20),
        pace: Duration::ZERO,
        reserve: Some(10),
        clock: system_clock(),
    };
    bound.start();
    (Client::new(options).unwrap(), tasks)
}

#[tokio::test]
async fn recorded_pages_are_followed_to_their_end() {
    let Some(recorded) = scenario("paginate-issues") else { return };
    let (client, _tasks) = replay(recorded).await;
    let listed = whole(&client, "/repos/octokit-fixture-org/paginate-issues/issues", 1).await.unwrap();
    let numbers: BTreeSet<i32> =
        listed.items.iter().map(|item| parse::issue(item).unwrap().0.number).collect();
    assert_eq!((listed.pages.len(), listed.items.len(), numbers.len()), (5, 13, 13));
}

#[tokio::test]
async fn recorded_labels_are_understood_and_a_recorded_rename_is_told() {
    let (Some(labels), Some(renamed)) = (scenario("labels"), scenario("rename-repository")) else { return };
    let (client, _tasks) = replay(labels).await;
    let listed = whole(&client, "/repos/octokit-fixture-org/labels/labels", 1).await.unwrap();
    assert_eq!(listed.items.iter().filter(|item| parse::label(item).is_ok()).count(), 9);
    let (client, _tasks) = replay(renamed).await;
    let Err(Error::Moved { to }) = client.fetch("/repos/octokit-fixture-org/rename-repository").await else {
        panic!("it was renamed");
    };
    let now = client.fetch(&to).await.unwrap().json().unwrap();
    assert!(now["full_name"].is_string(), "{now}");
}
