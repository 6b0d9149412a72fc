//! Shutdown: calls finish, streams are told, the health service says so, and nobody waits long.

use std::{sync::Arc, time::Duration};

use api::gitmirror::WatchRefsRequest;
use axum::{Router, body::Body, routing::get};
use futures_util::{StreamExt as _, stream};
use runtime::Tasks;
use tokio::{io::AsyncReadExt as _, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::farm::{Farm, loopback, start, within};

#[tokio::test]
async fn streams_are_told_and_the_server_ends_at_once() {
    let farm = Farm::new();
    let tasks = Tasks::new(CancellationToken::new());
    let addr = start(farm.server(&tasks), loopback()).await;
    let mut refs = farm.client(addr).watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    let begun = Instant::now();
    tasks.shutdown().cancel();
    let told = within(2, "the word", refs.message()).await.unwrap_err();
    assert_eq!((told.code(), rpc::reason(&told).as_deref()), (Code::Unavailable, Some("SHUTTING_DOWN")));
    tasks.finish(Duration::from_secs(5)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    farm.finish().await;
}

/// Server-sent events never end by themselves: they must not hold up the end.
#[tokio::test]
async fn events_are_cut_and_downloads_finish() {
    let farm = Farm::new();
    let tasks = Tasks::new(CancellationToken::new());
    let (asked, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asking, release) = (asked.clone(), released.clone());
    let events = async || {
        let endless = stream::iter([Ok::<_, std::io::Error>("data: 1\n\n")]).chain(stream::pending());
        ([("content-type", "text/event-stream")], Body::from_stream(endless))
    };
    let download = async move || {
        asking.notify_one();
        release.notified().await;
        "whole"
    };
    let pages = Router::new().route("/events", get(events)).route("/download", get(download));
    let addr = start(farm.server(&tasks).http(pages), loopback()).await;
    let channel = farm.channel(addr);
    let mut events = channel.get("/events").await.unwrap().into_body().into_reader();
    assert_eq!(events.read_u8().await.unwrap(), b'd');

    let downloading = async { channel.get("/download").await.unwrap().into_body().into_reader() };
    let ending = async {
        asked.notified().await;
        tasks.shutdown().cancel();
        let mut rest = Vec::new();
        within(2, "the end of the events", events.read_to_end(&mut rest)).await.unwrap();
        released.notify_one();
    };
    let (mut download, ()) = tokio::join!(downloading, ending);
    let mut text = String::new();
    download.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "whole");
    within(2, "the end of the server", tasks.finish(Duration::from_secs(5))).await.unwrap();
    farm.finish().await;
}
