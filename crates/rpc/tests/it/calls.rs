//! Calls over a dialled connection: deadlines, failures, health, reflection, limits.

use std::time::Duration;

use api::gitmirror::{
    ListCommitsRequest, ListRepositoriesRequest, ReadFilesRequest, TickleRequest, UploadBundleRequest,
    WatchRefsRequest, upload_bundle_request::Part,
};
use futures_util::stream;
use tokio::{io::AsyncReadExt as _, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::farm::{Client, Farm, loopback, start, within};

pub(crate) fn tickle(repository: &str) -> TickleRequest {
    TickleRequest { repository: repository.to_owned() }
}

#[tokio::test]
async fn a_late_answer_is_deadline_exceeded() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let mut client = farm.client(addr);
    let begun = Instant::now();
    let request = rpc::with_deadline(tickle("slow"), Duration::from_millis(100));
    let late = within(5, "the deadline", client.tickle(request)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    farm.finish().await;
}

/// A client that keeps no time of its own sees what the server answers: the code, not `CANCELLED`.
#[tokio::test]
async fn the_server_keeps_the_deadline_itself() {
    let farm = Farm::new();
    let server = rpc::Server::new("plain", farm.tasks.clone()).grpc(crate::farm::mirror()).plain_loopback();
    let addr = start(server, loopback()).await;
    let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    farm.tasks.job("client", async move { drop(connection.await) });
    // A gRPC frame: not compressed, and the message `TickleRequest { repository: "slow" }`.
    let frame: &'static [u8] = b"\0\0\0\0\x06\x0a\x04slow";
    let request = http::Request::post(format!("http://{addr}/farmer.gitmirror.v1.MirrorService/Tickle"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "50m")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(frame)))
        .unwrap();
    let response = within(5, "the deadline", sender.send_request(request)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    drop(sender);
    farm.finish().await;
}

#[tokio::test]
async fn unary_calls_have_a_deadline_without_asking_and_streams_have_none() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let mut client = farm.client(addr);
    let seconds = |client: &Client, request: Request<ListRepositoriesRequest>| {
        let mut client = client.clone();
        async move {
            let answer = client.list_repositories(request).await.unwrap().into_inner();
            answer.repositories[0].origin.parse::<u64>().unwrap()
        }
    };
    assert!(matches!(seconds(&client, Request::new(ListRepositoriesRequest {})).await, 8..10));
    let long = rpc::with_deadline(ListRepositoriesRequest {}, Duration::from_mins(2));
    assert!(matches!(seconds(&client, long).await, 110..120));

    let mut refs = client.watch_refs(WatchRefsRequest {}).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    farm.finish().await;
}

#[tokio::test]
async fn a_stream_with_a_deadline_ends_by_it() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let request = rpc::with_deadline(WatchRefsRequest {}, Duration::from_millis(300));
    let mut refs = farm.client(addr).watch_refs(request).await.unwrap().into_inner();
    assert!(refs.message().await.unwrap().is_some());
    let late = within(5, "the deadline", refs.message()).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    farm.finish().await;
}

#[tokio::test]
async fn a_panic_is_internal_and_the_server_lives() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let mut client = farm.client(addr);
    let failed = client.tickle(tickle("panic")).await.unwrap_err();
    assert_eq!((failed.code(), rpc::reason(&failed).as_deref()), (Code::Internal, Some("PANIC")));
    assert!(!failed.message().contains("on purpose"), "{failed}");
    client.tickle(tickle("ok")).await.unwrap();

    let request = ListCommitsRequest { repository: "panic".to_owned(), ..ListCommitsRequest::default() };
    let mut commits = client.list_commits(request).await.unwrap().into_inner();
    let failed = loop {
        match commits.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!((failed.code(), rpc::reason(&failed).as_deref()), (Code::Internal, Some("PANIC")));
    client.tickle(tickle("ok")).await.unwrap();
    farm.finish().await;
}

#[tokio::test]
async fn what_went_wrong_inside_is_not_sent() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let failed = farm.client(addr).tickle(tickle("internal")).await.unwrap_err();
    assert_eq!((failed.code(), rpc::reason(&failed).as_deref()), (Code::Internal, Some("STORE_FAILED")));
    assert!(!failed.message().contains("secret"), "{failed}");
    farm.finish().await;
}

#[tokio::test]
async fn health_tells_of_each_service_and_unknown_ones() {
    let farm = Farm::new();
    let bound = farm.server(&farm.tasks).bind(loopback()).await.unwrap();
    let (addr, health) = (bound.addr(), bound.health());
    bound.start();
    let client = HealthClient::new(farm.channel(addr));
    let check = |service: &str| {
        let (mut client, service) = (client.clone(), service.to_owned());
        async move { client.check(HealthCheckRequest { service }).await.map(|answer| answer.into_inner().status) }
    };
    assert_eq!(check("farmer.gitmirror.v1.MirrorService").await.unwrap(), 1);
    assert_eq!(check("").await.unwrap(), 1);
    assert_eq!(check("no.such.Service").await.unwrap_err().code(), Code::NotFound);
    health.set_serving(false).await;
    assert_eq!(check("farmer.gitmirror.v1.MirrorService").await.unwrap(), 2);
    farm.finish().await;
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_nothing_else() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(farm.channel(addr));
    let mut answers = reflection.server_reflection_info(stream::iter([question])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"farmer.gitmirror.v1.MirrorService"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("farmer.coordinator")), "{names:?}");
    farm.finish().await;
}

#[tokio::test]
async fn messages_up_to_the_limit_pass_and_no_larger_ones() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let mut client = farm.client(addr);
    let read =
        |size: usize| ReadFilesRequest { paths: vec![size.to_string()], ..ReadFilesRequest::default() };
    let answer = client.read_files(read(rpc::MAX_MESSAGE - 1024)).await.unwrap().into_inner();
    assert_eq!(answer.files[0].content.len(), rpc::MAX_MESSAGE - 1024);
    let refused = client.read_files(read(rpc::MAX_MESSAGE)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    farm.finish().await;
}

#[tokio::test]
async fn a_client_streams_what_it_likes() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let chunk = UploadBundleRequest { part: Some(Part::Chunk(vec![1; 1 << 20].into())) };
    let chunks = stream::iter(std::iter::repeat_n(chunk, 40));
    let answer = farm.client(addr).upload_bundle(chunks).await.unwrap().into_inner();
    assert_eq!(answer.r#ref, (40_usize << 20).to_string());
    farm.finish().await;
}

#[tokio::test]
async fn downloads_come_from_the_same_port() {
    let farm = Farm::new();
    let archive = axum::Router::new().route("/archive/{name}", axum::routing::get(async || vec![7; 1 << 20]));
    let addr = start(farm.server(&farm.tasks).http(archive), loopback()).await;
    let channel = farm.channel(addr);
    let answer = channel.get("/archive/go.tar").await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut bytes = Vec::new();
    answer.into_body().into_reader().read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, vec![7; 1 << 20]);
    assert_eq!(channel.get("/nothing").await.unwrap().status(), 404);
    assert_eq!(channel.get("no path").await.unwrap_err().code(), Code::InvalidArgument);
    farm.finish().await;
}

#[tokio::test]
async fn too_many_calls_are_told_to_come_again() {
    let farm = Farm::new();
    let addr = start(farm.server(&farm.tasks).concurrency(1), loopback()).await;
    let mut client = farm.client(addr);
    let mut waiting = client.clone();
    let held = CancellationToken::new();
    let release = held.clone();
    farm.tasks.job("slow call", async move {
        drop(release.run_until_cancelled(waiting.tickle(tickle("slow"))).await);
    });
    let busy = within(5, "a busy server", async {
        loop {
            if let Err(status) = client.tickle(tickle("ok")).await {
                return status;
            }
        }
    })
    .await;
    assert_eq!(rpc::reason(&busy).as_deref(), Some("SERVER_BUSY"));
    assert!(rpc::is_transient(&busy));
    held.cancel();
    within(5, "a free server", async { while client.tickle(tickle("ok")).await.is_err() {} }).await;
    farm.finish().await;
}

#[tokio::test]
async fn retries_reach_a_server_that_comes_later() {
    let farm = Farm::new();
    let listener = farm.server(&farm.tasks).bind(loopback()).await.unwrap();
    let addr = listener.addr();
    drop(listener);
    let client = farm.client(addr);
    let refused = client.clone().tickle(tickle("ok")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let policy = rpc::RetryPolicy { attempts: usize::MAX, ..rpc::RetryPolicy::default() };
    let (answer, ()) = tokio::join!(
        rpc::retry(policy, || {
            let mut client = client.clone();
            async move { client.tickle(tickle("ok")).await }
        }),
        async {
            start(farm.server(&farm.tasks), addr).await;
        }
    );
    answer.unwrap();
    farm.finish().await;
}
