//! What becomes of deliveries.

use crate::world::{GERRIT_SECRET, World, sign};

const PUSH: &[u8] = include_bytes!("fixtures/push.json");
const PULL_REQUEST: &[u8] = include_bytes!("fixtures/pull_request.json");
const ISSUE_COMMENT: &[u8] = include_bytes!("fixtures/issue_comment.json");
const PING: &[u8] = include_bytes!("fixtures/ping.json");

#[tokio::test]
async fn deliveries_become_events() {
    let world = World::new().await;
    let mut reader = world.reader().await;
    assert_eq!(world.deliver("push", "d1", PUSH).await, 200);
    let event = reader.event().await;
    assert_eq!((event.kind.as_str(), event.action.as_str(), event.number), ("push", "", 0));
    assert_eq!((event.owner.as_str(), event.repository.as_str()), ("golang", "go"));
    assert_eq!((event.r#ref.as_str(), event.delivery_id.as_str()), ("refs/heads/master", "d1"));
    assert_eq!(world.deliver("pull_request", "d2", PULL_REQUEST).await, 200);
    let event = reader.event().await;
    assert_eq!(
        (event.kind.as_str(), event.action.as_str(), event.number),
        ("pull_request", "synchronize", 4711)
    );
    assert_eq!(world.deliver("issue_comment", "d3", ISSUE_COMMENT).await, 200);
    let event = reader.event().await;
    assert_eq!((event.kind.as_str(), event.action.as_str(), event.number), ("issue_comment", "created", 42));
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_right_is_answered_all_the_same_and_published_to_nobody() {
    let world = World::new().await;
    let mut reader = world.reader().await;
    let right = sign(PUSH);
    let wrong = sign(b"other");
    let (kind, delivery) = (("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "d1"));
    let signature = |value| ("X-Hub-Signature-256", value);
    let short = &right[..right.len() - 1];
    for headers in [
        vec![kind, delivery],
        vec![kind, delivery, signature(wrong.as_str())],
        vec![kind, delivery, signature(short)],
        vec![kind, delivery, ("X-Hub-Signature", right.as_str())],
        vec![kind, signature(&right)],
        vec![delivery, signature(&right)],
    ] {
        assert_eq!(world.post("/github-webhook", &headers, PUSH).await, 200, "{headers:?}");
    }
    for body in [&b"not json"[..], b"payload=%7B%7D", b"", b"[]", PING] {
        assert_eq!(world.deliver("push", "d2", body).await, 200);
    }
    let large = format!("{}{}", str::from_utf8(PUSH).unwrap(), " ".repeat(5 << 20));
    assert_eq!(world.deliver("push", "d3", large.as_bytes()).await, 200);
    // The first that is published is the first that is right.
    assert_eq!(world.deliver("push", "d4", PUSH).await, 200);
    assert_eq!(reader.event().await.delivery_id, "d4");
    world.stop().await;
}

#[tokio::test]
async fn a_delivery_that_comes_again_is_published_once() {
    let world = World::new().await;
    let mut reader = world.reader().await;
    for delivery in ["d1", "d1", "d2", "d1"] {
        assert_eq!(world.deliver("push", delivery, PUSH).await, 200);
    }
    world.deliver("push", "last", PUSH).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|delivery| delivery != "last") {
        seen.push(reader.event().await.delivery_id);
    }
    assert_eq!(seen, ["d1", "d2", "last"]);
    world.stop().await;
}

#[tokio::test]
async fn nothing_else_is_served_to_the_world() {
    let world = World::new().await;
    let headers = [("X-GitHub-Event", "push")];
    assert_eq!(world.post("/", &headers, PUSH).await, 404);
    assert_eq!(world.post("/github-webhook/x", &headers, PUSH).await, 404);
    world.stop().await;
}

#[tokio::test]
async fn without_a_secret_there_is_no_webhook() {
    let world = World::with(|config| (config.webhook_secret, config.gerrit_secret) = (None, None)).await;
    assert_eq!(world.public(), None);
    world.reader().await;
    world.stop().await;
}

#[tokio::test]
async fn gerrit_posts_to_an_address_that_nobody_else_knows() {
    const VOTE: &[u8] = br#"{"author":{"username":"bob"},"approvals":[{"type":"Code-Review","value":"1"}],
        "patchSet":{"number":1,"ref":"refs/changes/07/7/1"},"change":{"project":"a/b","branch":"main","number":7},
        "project":"a/b","refName":"refs/heads/main","type":"comment-added","eventCreatedOn":1795305600}"#;
    let world = World::new().await;
    let mut watch = world.watch("").await.unwrap();
    watch.next().await;
    let right = format!("/gerrit-webhook/{GERRIT_SECRET}");
    for wrong in ["/gerrit-webhook", "/gerrit-webhook/", "/gerrit-webhook/x", &right[..right.len() - 1]] {
        assert_eq!(world.post(wrong, &[], VOTE).await, 404, "{wrong}");
    }
    for nonsense in [&b"not json"[..], b"{}", b"[]", b""] {
        assert_eq!(world.post(&right, &[], nonsense).await, 200);
    }
    assert_eq!(world.post(&right, &[], VOTE).await, 200);
    let event = watch.gerrit().await;
    assert_eq!((&*event.kind, &*event.project, event.change, &*event.r#ref), ("comment-added", "a/b", 7, ""));
    // Another may look the same.
    assert_eq!(world.post(&right, &[], VOTE).await, 200);
    assert_eq!(watch.gerrit().await.change, 7);
    let merged = br#"{"type":"ref-updated","refUpdate":{"project":"a/b","refName":"refs/heads/main"}}"#;
    assert_eq!(world.post(&right, &[], merged).await, 200);
    assert_eq!(watch.gerrit().await.r#ref, "refs/heads/main");
    world.stop().await;
}
