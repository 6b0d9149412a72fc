//! What either side of a connection that is being reversed, and a proxy between them, may say, changed at random: whatever
//! it is, there is an answer or an end, soon, and no panic.

use std::sync::mpsc;

use futures_util::future::join;
use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use types::MachineName;

use super::{dial::testing, *};
use crate::{Proxy, Server, Service};

/// How long the end of anything may take.
const BOUND: Duration = Duration::from_mins(1);
/// More than any input.
const BUFFER: usize = 1 << 20;

/// HTTP/2 as a client begins it: the preface, settings, a request with its headers.
const CLIENT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\
    \x00\x00\x0d\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x08farm.inv\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x09";
/// As a server begins it: settings, their acknowledgement, a ping, the end.
const SERVER: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x01\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00\
    \x00\x00\x08\x06\x00\x00\x00\x00\x0012345678\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

fn then(text: &str, bytes: &[u8]) -> Vec<u8> {
    [text.replace('\n', "\r\n").as_bytes(), bytes].concat()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn service(on_connect: OnConnect) -> (Service, Tasks) {
    let tasks = Tasks::new(CancellationToken::new());
    (Server::new("fuzzed", tasks.clone()).http(router(on_connect)).service(), tasks)
}

/// Says something and nothing more, and hears the other side out.
async fn speak(stream: DuplexStream, input: &[u8]) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // The other side may have left before it heard all.
    let _ = writer.write_all(input).await;
    let _ = writer.shutdown().await;
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(BOUND, work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}

#[test]
fn whatever_dials_in_is_answered_or_left() {
    let upgrade = |offer: &str, more: &str| {
        format!("GET /reverse HTTP/1.1\nHost: farm.invalid\nConnection: upgrade\nUpgrade: {offer}\n{more}\n")
    };
    let examples = [
        then(&upgrade(PROTOCOL, "farmer-version: 0.1.0\nfarmer-instance: x\n"), SERVER),
        then(&upgrade("buildlet-grpc/7, buildlet-grpc/2", ""), b""),
        then(&upgrade("websocket", "X-Go-Host-Type: host-linux\n"), b""),
        CLIENT.to_vec(),
    ];
    let runtime = runtime();
    let _inside = runtime.enter();
    let (sender, connected) = mpsc::channel();
    let (service, tasks) = service(Arc::new(move |incoming| sender.send(incoming).unwrap_or_default()));
    let name: MachineName = "m1".parse().unwrap();
    let peer = Peer::Machine { name, host_types: Vec::new() };
    let server = transport::auto_server();
    let mut reversed = 0;
    testkit::fuzz("upgrades", &std::env::temp_dir(), &examples, |input| {
        let (ours, theirs) = duplex(BUFFER);
        let (service, peer) = (service.clone(), peer.clone());
        let answer = service_fn(move |request| service.clone().answer(request, Some(peer.clone())));
        runtime.block_on(soon("a connection", async {
            let serving = server.serve_connection_with_upgrades(TokioIo::new(theirs), answer);
            let _ = join(serving, speak(ours, input)).await;
            for incoming in connected.try_iter() {
                reversed += 1;
                incoming.closed.cancelled().await;
            }
        }));
    });
    assert!(reversed > 0, "no input came as far as it should");
    tasks.shutdown().cancel();
    runtime.block_on(tasks.finish(BOUND)).unwrap();
}

#[test]
fn whatever_a_farm_answers_is_taken_or_refused() {
    let switch = "HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nupgrade: buildlet-grpc/1\n";
    let examples = [
        then(&format!("{switch}farmer-time: 1700000000000000\n\n"), CLIENT),
        then(
            "HTTP/1.1 307 Temporary Redirect\nlocation: https://other.invalid:1/x\ncontent-length: 0\n\n",
            b"",
        ),
        then("HTTP/1.1 426 Upgrade Required\ncontent-length: 8\n\n", b"too old\n"),
        then("HTTP/1.1 503 Service Unavailable\ntransfer-encoding: chunked\n\n4\nbusy\n0\n\n", b""),
    ];
    let runtime = runtime();
    let _inside = runtime.enter();
    let (service, _tasks) = service(Arc::new(|_| {}));
    let mut reversed = 0;
    testkit::fuzz("answers", &std::env::temp_dir(), &examples, |input| {
        let (ours, mut theirs) = duplex(BUFFER);
        let farm = async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(theirs.read_u8().await.unwrap());
            }
            speak(theirs, input).await;
        };
        let machine = async {
            if let Some(stream) = testing::upgrade(ours, HeaderMap::new()).await {
                reversed += 1;
                let _ = serve(stream, service.clone(), CancellationToken::new()).await;
            }
        };
        runtime.block_on(soon("a connection", join(machine, farm)));
    });
    assert!(reversed > 0, "no input came as far as it should");
}

#[test]
fn whatever_a_proxy_answers_there_is_a_tunnel_or_none() {
    let examples = [
        then("HTTP/1.1 200 Connection established\n\n", CLIENT),
        then("HTTP/1.0 407 Proxy Authentication Required\nProxy-Authenticate: Basic\n\n", b"no"),
    ];
    let runtime = runtime();
    let proxy = Proxy::parse("http://user:secret@proxy.invalid:3128").unwrap();
    testkit::fuzz("proxies", &std::env::temp_dir(), &examples, |input| {
        let (ours, theirs) = duplex(BUFFER);
        let through = async {
            if let Ok(mut stream) = proxy.through(ours, "farm.invalid:443").await {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                assert!(input.ends_with(&rest), "the tunnel begins after a blank line");
            }
        };
        runtime.block_on(soon("a tunnel", join(through, speak(theirs, input))));
        let _ = Proxy::parse(&String::from_utf8_lossy(input));
    });
}
