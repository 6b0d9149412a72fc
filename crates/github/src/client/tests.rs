use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
    routing::get,
};
use runtime::{Tasks, system_clock};
use tokio_util::sync::CancellationToken;

use super::*;

async fn serve(router: Router) -> (String, Tasks) {
    runtime::install_crypto();
    let tasks = Tasks::new(CancellationToken::new());
    let server = rpc::Server::new("github", tasks.clone()).plain_loopback().http(router);
    let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", bound.addr());
    bound.start();
    (url, tasks)
}

fn client(url: &str, token: Token) -> Client {
    let patience = Duration::from_secs(20);
    let (pace, reserve, agent) = (Duration::ZERO, None, "test");
    let options = Options { url: url.into(), token, agent, patience, pace, reserve, clock: system_clock() };
    Client::new(options).unwrap()
}

#[tokio::test]
async fn the_token_is_read_again_after_it_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let whoami = |headers: HeaderMap| async move {
        let right = headers["authorization"] == "Bearer right";
        if right { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    };
    let (url, _tasks) = serve(Router::new().route("/who", get(whoami))).await;
    let client = client(&url, Token::File(file.clone()));
    assert!(matches!(client.fetch("/who").await, Err(Error::Token { .. })));
    for bad in ["", " \n", "two words", "ti\u{e9}s"] {
        std::fs::write(&file, bad).unwrap();
        let error = client.fetch("/who").await.unwrap_err();
        assert!(matches!(&error, Error::Token { reason, .. } if reason == "it holds no token"), "{error}");
    }
    std::fs::write(&file, "wrong\n").unwrap();
    let error = client.fetch("/who").await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized(_)) && !error.to_string().contains("wrong"));
    std::fs::write(&file, "right\n").unwrap();
    client.fetch("/who").await.unwrap();
}

#[tokio::test]
async fn who_was_told_to_wait_does_not_ask() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let limited = || async {
        ASKED.fetch_add(1, Ordering::SeqCst);
        (StatusCode::FORBIDDEN, [("retry-after", "30")], "{\"message\":\"slow\"}").into_response()
    };
    let (url, _tasks) = serve(Router::new().route("/x", get(limited))).await;
    let client = client(&url, Token::None);
    for asker in [client.clone(), client.clone(), client] {
        let Err(Error::Limited { after }) = asker.fetch("/x").await else { panic!("it is limited") };
        assert!(after > Duration::from_secs(20) && after <= Duration::from_secs(30), "{after:?}");
    }
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_not_followed() {
    let lies = || async { [("link", "<https://evil.example/x?page=2>; rel=\"next\""), ("etag", "\"1\"")] };
    let same = || async { StatusCode::NOT_MODIFIED };
    let moved = || async { (StatusCode::MOVED_PERMANENTLY, [("location", "https://evil.example/y")]) };
    let router = Router::new().route("/x", get(lies)).route("/same", get(same)).route("/moved", get(moved));
    let (url, _tasks) = serve(router).await;
    let client = client(&url, Token::None);
    let reply = client.fetch("/x").await.unwrap();
    assert_eq!((reply.next, reply.etag.as_deref()), (None, Some("\"1\"")));
    assert!(reply.body.is_empty());
    assert!(matches!(client.get("/same", Some("\"1\"")).await, Ok(Fetched::Same)));
    let Err(Error::Moved { to }) = client.fetch("/moved").await else { panic!("it has moved") };
    assert!(matches!(client.fetch(&to).await, Err(Error::Failed(_))), "the token would go there");
    assert!(matches!(client.fetch(&format!("{url}.evil.example/")).await, Err(Error::Failed(_))));
}

#[test]
fn names_cannot_leave_their_part_of_the_path() {
    assert_eq!(segment("go-1.2_x").to_string(), "go-1.2_x");
    assert_eq!(segment("a/../b?c").to_string(), "a%2F..%2Fb%3Fc");
}

#[test]
fn an_http_date_is_read() {
    assert_eq!(date("Tue, 15 Nov 1994 08:12:31 GMT"), Some(784_887_151));
    assert_eq!(date("yesterday"), None);
}
