//! Replicas of which one leads: the others hand on whoever comes.

use api::gitmirror::ListRepositoriesRequest;
use http::StatusCode;
use rpc::{
    Channel, Listener, Server,
    relay::{self, Way},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::farm::{Farm, client, loopback, mirror, start, within};

const PATIENCE: u64 = 60;

/// Who answers there, and whom it takes us for; asked until somebody does.
async fn whom_it_sees(channel: Channel) -> String {
    let mut client = client(channel);
    let asked = async {
        loop {
            if let Ok(answer) = client.list_repositories(ListRepositoriesRequest {}).await {
                return answer.into_inner().repositories[0].name.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    within(PATIENCE, "an answer", asked).await
}

/// Asks for a page that is not there.
async fn ask(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    within(PATIENCE, "a page", stream.read_to_string(&mut text)).await.unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn whoever_comes_to_a_follower_is_at_the_leader_until_the_follower_leads_itself() {
    let farm = Farm::new();
    let plain = || Server::new("pages", farm.tasks.clone()).plain_loopback().grpc(mirror());
    let pages = start(plain(), loopback()).await;
    let server = Server::new("coordinator", farm.tasks.clone())
        .tls(&farm.identity("coordinator"))
        .grpc(mirror())
        .http(relay::router("coordinator", vec![("pages", pages)]));
    let leading = start(server, loopback()).await;

    let (leader, known) = watch::channel(String::new());
    let until = CancellationToken::new();
    let through = Way::through(known.clone(), "pages", &farm.identity("coordinator")).unwrap();
    let mut handing_on = JoinSet::new();
    let mut addresses = Vec::new();
    for (at, way) in [Way::direct(known), through].into_iter().enumerate() {
        let mut listener = Listener::bind(loopback()).await.unwrap();
        addresses.push(listener.addr());
        let until = until.clone();
        handing_on.spawn(async move {
            listener.hand_on(way, until).await;
            (at, listener)
        });
    }

    // Who comes while nobody leads is held until somebody does.
    let early = ask(addresses[1]).await;
    leader.send_replace(leading.to_string());
    assert_eq!(answer(early).await, "HTTP/1.1 404 Not Found");
    // TLS is between the client and the leader, which sees the client's own certificate.
    assert_eq!(whom_it_sees(farm.channel(addresses[0])).await, "service coordinator");
    let to_pages = |address| rpc::connect(&format!("http://{address}"), None).unwrap();
    assert_eq!(whom_it_sees(to_pages(addresses[1])).await, "", "who needs no certificate shows none");

    // A leader that is gone, and then this one: who reached the old one is cut off, who did not is served.
    let mut cut = TcpStream::connect(addresses[0]).await.unwrap();
    leader.send_replace(String::new());
    let held = ask(addresses[1]).await;
    until.cancel();
    let mut listeners = within(PATIENCE, "the end of handing on", handing_on.join_all()).await;
    listeners.sort_by_key(|(at, _)| *at);
    plain().on(listeners.remove(1).1).unwrap().start();
    assert_eq!(answer(held).await, "HTTP/1.1 404 Not Found");
    drop(listeners);
    let end = within(PATIENCE, "the end of a connection", cut.read(&mut [0; 1])).await;
    assert!(!matches!(end, Ok(1)), "{end:?}");
    farm.finish().await;
}

#[tokio::test]
async fn only_replicas_are_brought_to_a_listener_in_the_clear() {
    let farm = Farm::new();
    let server = Server::new("coordinator", farm.tasks.clone())
        .tls(&farm.identity("coordinator"))
        .http(relay::router("coordinator", vec![("pages", loopback())]));
    let address = start(server, loopback()).await;
    for (name, expected) in
        [("gitmirror", StatusCode::FORBIDDEN), ("coordinator", StatusCode::UPGRADE_REQUIRED)]
    {
        let url = format!("https://{address}");
        let channel = rpc::connect(&url, Some(&farm.identity(name))).unwrap();
        assert_eq!(channel.get("/relay/pages").await.unwrap().status(), expected, "{name}");
    }
    farm.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_gone_is_passed_over() {
    let farm = Farm::new();
    let gone = Listener::bind(loopback()).await.unwrap().addr();
    let there = farm.serve().await;
    let urls = format!("https://{gone}, https://{there}");
    let channel = rpc::connect(&urls, Some(&farm.identity("coordinator"))).unwrap();
    assert_eq!(whom_it_sees(channel).await, "service coordinator");
    farm.finish().await;
}
