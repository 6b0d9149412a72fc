//! The reversed connection: a machine dials, and then answers.

use std::{sync::Arc, time::Duration};

use api::gitmirror::{
    ListRepositoriesRequest, UploadBundleRequest, WatchRefsRequest, upload_bundle_request::Part,
};
use futures_util::{future::join_all, stream};
use rpc::{
    Peer, ProxyError, Server, Trouble,
    reverse::{self, DialError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    calls::tickle,
    farm::{Farm, client, loopback, proxy, start, within},
};

#[tokio::test]
async fn calls_and_streams_pass_over_the_reversed_connection() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let _serving = farm.dial(addr, CancellationToken::new()).await;
    let incoming = within(5, "a machine", connected.recv()).await.unwrap();
    assert!(matches!(&incoming.peer, Peer::Machine { name, host_types }
        if name.as_str() == "m1" && host_types[0].as_str() == "linux-amd64"));
    assert_eq!(incoming.version, "1.2.3");
    let mut client = client(incoming.channel.clone());

    let listed = client.list_repositories(ListRepositoriesRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.repositories[0].name, "service coordinator");
    let mut refs = client.watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    let chunk = UploadBundleRequest { part: Some(Part::Chunk(vec![1; 1 << 20].into())) };
    let chunks = stream::iter(std::iter::repeat_n(chunk, 20));
    let uploaded = client.upload_bundle(chunks).await.unwrap().into_inner();
    assert_eq!(uploaded.r#ref, (20_usize << 20).to_string());
    let mut health = HealthClient::new(incoming.channel);
    let service = "farmer.gitmirror.v1.MirrorService".to_owned();
    let healthy = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
    assert_eq!(healthy.status, 1);
    drop(health);
    let failed = client.tickle(tickle("panic")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal);
    let late =
        client.tickle(rpc::with_deadline(tickle("slow"), Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    drop((client, refs));
    farm.finish().await;
}

#[tokio::test]
async fn a_hundred_calls_pass_at_the_same_time() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let _serving = farm.dial(addr, CancellationToken::new()).await;
    let client = client(within(5, "a machine", connected.recv()).await.unwrap().channel);
    let calls = (0..100).map(|_| {
        let mut client = client.clone();
        async move { client.tickle(tickle("ok")).await }
    });
    for answer in within(10, "a hundred answers", join_all(calls)).await {
        answer.unwrap();
    }
    drop(client);
    farm.finish().await;
}

#[tokio::test]
async fn a_machine_that_leaves_is_unavailable_at_once() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let cancel = CancellationToken::new();
    let serving = farm.dial(addr, cancel.clone()).await;
    let incoming = within(5, "a machine", connected.recv()).await.unwrap();
    let mut client = client(incoming.channel);
    client.tickle(tickle("ok")).await.unwrap();
    cancel.cancel();
    within(5, "the end of the machine", serving.ended).await.unwrap().unwrap();
    within(1, "the word that it is gone", incoming.closed.cancelled()).await;
    let gone = within(1, "an error", client.tickle(tickle("ok"))).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable, "{gone}");
    farm.finish().await;
}

#[tokio::test]
async fn a_call_in_progress_ends_when_its_machine_dies() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let stream = reverse::dial(&format!("https://{addr}"), &farm.machine("m2"), http::HeaderMap::new(), None)
        .await
        .unwrap();
    let incoming = within(5, "a machine", connected.recv()).await.unwrap();
    let mut client = client(incoming.channel);
    // The machine answers nothing, and then dies.
    let calling = client.tickle(rpc::with_deadline(tickle("ok"), Duration::from_mins(1)));
    let (answer, ()) = tokio::join!(within(2, "an error", calling), async { drop(stream) });
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    within(1, "the word that it is gone", incoming.closed.cancelled()).await;
    farm.finish().await;
}

#[tokio::test]
async fn silence_is_noticed_on_both_sides() {
    let farm = Farm::new();
    let (target, mut connected) = farm.coordinator().await;
    let (addr, silent) = proxy(&farm.tasks, target).await;
    let serving = farm.dial(addr, CancellationToken::new()).await;
    let incoming = within(5, "a machine", connected.recv()).await.unwrap();
    let mut client = client(incoming.channel);
    client.tickle(tickle("ok")).await.unwrap();
    silent.cancel();
    let waiting = client.tickle(rpc::with_deadline(tickle("slow"), Duration::from_mins(1)));
    let (call, (), ended) =
        within(10, "silence", async { tokio::join!(waiting, incoming.closed.cancelled(), serving.ended) })
            .await;
    assert_eq!(call.unwrap_err().code(), Code::Unavailable);
    assert!(ended.unwrap().is_err(), "the machine must know that it lost the coordinator");
    farm.finish().await;
}

#[tokio::test]
async fn the_connection_closes_when_nobody_holds_its_channel() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let serving = farm.dial(addr, CancellationToken::new()).await;
    drop(within(5, "a machine", connected.recv()).await.unwrap());
    // In order, or in the middle of a write of ours: either way it must end.
    let _ = within(5, "the end", serving.ended).await.unwrap();
    farm.finish().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_whoever_holds_a_stream_of_a_machine() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let serving = farm.dial(addr, CancellationToken::new()).await;
    let mut client = client(within(5, "a machine", connected.recv()).await.unwrap().channel);
    let mut refs = client.watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    farm.tasks.shutdown().cancel();
    let ended = within(5, "the end of the stream", refs.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    let _ = within(5, "the end", serving.ended).await.unwrap();
    farm.finish().await;
}

#[tokio::test]
async fn only_machines_may_dial_in() {
    let farm = Farm::new();
    let (addr, _connected) = farm.coordinator().await;
    let service = farm.identity("gitmirror");
    let refused =
        reverse::dial(&format!("https://{addr}"), &service, http::HeaderMap::new(), None).await.unwrap_err();
    assert!(matches!(&refused, DialError::Refused { status, .. } if *status == 403), "{refused}");
    assert!(!refused.is_transient());
    farm.finish().await;
}

#[tokio::test]
async fn a_machine_answers_only_its_own_farm() {
    let (farm, other) = (Farm::new(), Farm::new());
    let (addr, _connected) = other.coordinator().await;
    let refused =
        reverse::dial(&format!("https://{addr}"), &farm.machine("m1"), http::HeaderMap::new(), None)
            .await
            .unwrap_err();
    assert!(matches!(refused, DialError::Certificate { trouble: Trouble::TheirsForeign, .. }), "{refused}");

    // A certificate of its own farm, but of no service.
    let impostor = Server::new("impostor", farm.tasks.clone())
        .http(reverse::router(Arc::new(|_| {})))
        .tls(&farm.machine("m2"));
    let addr = start(impostor, loopback()).await;
    reverse::dial(&format!("https://{addr}"), &farm.machine("m1"), http::HeaderMap::new(), None)
        .await
        .unwrap_err();
    farm.finish().await;
    other.finish().await;
}

/// An HTTP proxy that lets through who knows the password; answers with the request it got.
async fn http_proxy(
    farm: &Farm,
    code: &'static str,
) -> (std::net::SocketAddr, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (told, request) = tokio::sync::oneshot::channel();
    farm.tasks.job("http proxy", async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        told.send(head).unwrap();
        near.write_all(format!("HTTP/1.1 {code}\r\n\r\n").as_bytes()).await.unwrap();
        if code.starts_with("200") {
            let mut far = TcpStream::connect(target).await.unwrap();
            let _ = copy_bidirectional(&mut near, &mut far).await;
        }
    });
    (addr, request)
}

#[tokio::test]
async fn a_machine_behind_an_http_proxy_connects_through_it() {
    let farm = Farm::new();
    let (addr, mut connected) = farm.coordinator().await;
    let (proxy, request) = http_proxy(&farm, "200 Connection established").await;
    let url = format!("https://{addr}");
    let proxy = format!("http://user:secret@{proxy}");
    let stream =
        reverse::dial(&url, &farm.machine("m1"), http::HeaderMap::new(), Some(&proxy)).await.unwrap();
    within(5, "a machine", connected.recv()).await.unwrap();
    drop(stream);
    let request = request.await.unwrap();
    assert!(request.starts_with(&format!("CONNECT {addr} HTTP/1.1\r\n")), "{request}");
    assert!(request.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{request}");
    farm.finish().await;
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let farm = Farm::new();
    let (proxy, _request) = http_proxy(&farm, "407 Proxy Authentication Required").await;
    let proxy = format!("http://{proxy}");
    let refused =
        reverse::dial("https://farm.test", &farm.machine("m1"), http::HeaderMap::new(), Some(&proxy))
            .await
            .unwrap_err();
    assert!(
        matches!(&refused, DialError::Proxy(ProxyError::Refused { answer, .. }) if answer.contains("407")),
        "{refused}"
    );
    assert!(refused.is_transient());
    farm.finish().await;
}
