//! The listener for people: pages open to this machine, gRPC for who has the token.

use std::net::SocketAddr;

use axum::{Router, routing::get};
use rpc::{Channel, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    calls::tickle,
    farm::{Farm, client, loopback, mirror, start, within},
};

async fn public(farm: &Farm) -> SocketAddr {
    let pages = Router::new()
        .route("/", get(async || "the grid"))
        .route("/panic", get(async || -> &'static str { panic!("a page panics on purpose") }));
    let server = Server::new("public", farm.tasks.clone())
        .plain_loopback()
        .allowed_hosts(["farm.test".to_owned()])
        .grpc(mirror())
        .grpc_auth(rpc::bearer("the-token"))
        .http(pages);
    start(server, loopback()).await
}

async fn get_page(addr: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(5, "an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn pages_are_open_to_this_machine_under_its_own_names() {
    let farm = Farm::new();
    let addr = public(&farm).await;
    for ours in [addr.to_string(), format!("localhost:{}", addr.port()), "farm.test".to_owned()] {
        let answer = get_page(addr, "/", &ours).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the grid"), "{ours}: {answer}");
    }
    for foreign in ["evil.test", "127.0.0.1.evil.test"] {
        let answer = get_page(addr, "/", foreign).await;
        assert!(answer.starts_with("HTTP/1.1 421") && !answer.contains("grid"), "{foreign}: {answer}");
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_page_that_panics_is_an_error_and_the_server_lives() {
    let farm = Farm::new();
    let addr = public(&farm).await;
    let answer = get_page(addr, "/panic", "localhost").await;
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("on purpose"), "{answer}");
    assert!(get_page(addr, "/", "localhost").await.starts_with("HTTP/1.1 200"));
    farm.finish().await;
}

#[tokio::test]
async fn calls_need_the_token() {
    let farm = Farm::new();
    let addr = public(&farm).await;
    let channel = || rpc::connect(&format!("http://{addr}"), None).unwrap();
    let call = async |channel: Channel| client(channel).tickle(tickle("ok")).await;
    call(channel().with_bearer("the-token")).await.unwrap();
    for wrong in [channel(), channel().with_bearer("another"), channel().with_bearer("\n")] {
        let refused = call(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert_eq!(rpc::reason(&refused).as_deref(), Some("BAD_TOKEN"));
    }
    HealthClient::new(channel()).check(HealthCheckRequest::default()).await.unwrap();
    farm.finish().await;
}
