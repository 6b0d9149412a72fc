//! Connections that break, and peers that fall silent.

use std::time::Duration;

use api::gitmirror::{UploadBundleRequest, WatchRefsRequest, upload_bundle_request::Part};
use futures_util::stream;
use runtime::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    calls::tickle,
    farm::{Farm, loopback, proxy, start, within},
};

#[tokio::test]
async fn a_server_that_starts_again_is_found_without_an_error() {
    let farm = Farm::new();
    let first = Tasks::new(CancellationToken::new());
    let addr = start(farm.server(&first), loopback()).await;
    let mut client = farm.client(addr);
    for _ in 0..3 {
        client.tickle(tickle("ok")).await.unwrap();
    }
    first.shutdown().cancel();
    first.finish(Duration::from_secs(5)).await.unwrap();
    start(farm.server(&farm.tasks), addr).await;
    client.tickle(tickle("ok")).await.unwrap();
    farm.finish().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_at_once() {
    let farm = Farm::new();
    let first = Tasks::new(CancellationToken::new());
    let addr = start(farm.server(&first), loopback()).await;
    let mut client = farm.client(addr);
    client.tickle(tickle("ok")).await.unwrap();
    first.shutdown().cancel();
    first.finish(Duration::from_secs(5)).await.unwrap();
    for _ in 0..5 {
        let gone = within(1, "an error", client.tickle(tickle("ok"))).await.unwrap_err();
        assert_eq!(gone.code(), Code::Unavailable, "{gone}");
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_silent_server_is_noticed() {
    let farm = Farm::new();
    let target = farm.serve().await;
    let (addr, silent) = proxy(&farm.tasks, target).await;
    let mut client = farm.client(addr);
    let mut refs = client.watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    let begun = Instant::now();
    silent.cancel();
    let waiting = rpc::with_deadline(tickle("slow"), Duration::from_mins(1));
    let (stream, call) =
        within(10, "silence", async { tokio::join!(refs.message(), client.tickle(waiting)) }).await;
    assert_eq!(stream.unwrap_err().code(), Code::Unavailable);
    assert_eq!(call.unwrap_err().code(), Code::Unavailable);
    assert!(begun.elapsed() > Duration::from_secs(1), "something else broke the connection");
    farm.finish().await;
}

/// What is being sent fills all buffers, so that no word of the transport passes either.
#[tokio::test]
async fn a_server_that_stops_reading_is_noticed() {
    let farm = Farm::new();
    let target = farm.serve().await;
    let (addr, silent) = proxy(&farm.tasks, target).await;
    let mut client = farm.client(addr);
    let chunk = UploadBundleRequest { part: Some(Part::Chunk(vec![1; 1 << 20].into())) };
    let upload = client.upload_bundle(stream::repeat(chunk));
    let later = async {
        let mut client = farm.client(target);
        client.tickle(tickle("ok")).await.unwrap();
        silent.cancel();
    };
    let (uploaded, ()) = within(15, "silence", async { tokio::join!(upload, later) }).await;
    assert_eq!(uploaded.unwrap_err().code(), Code::Unavailable);
    farm.finish().await;
}
