//! A TLS stream with nothing above it, as the measure of what a connection could carry.

use std::sync::Arc;

use runtime::Tasks;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

const NAME: &str = "localhost";

/// Sends so many chunks of a length over loopback; returns MB/s.
pub(crate) async fn stream(length: usize, count: usize) -> f64 {
    let (connector, acceptor) = ends();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let tasks = Tasks::new(CancellationToken::new());
    tasks.job("sender", async move {
        let (tcp, _) = listener.accept().await.expect("somebody dials");
        tcp.set_nodelay(true).expect("TCP can do without delay");
        let mut stream = acceptor.accept(tcp).await.expect("both have the same versions");
        let chunk = vec![7; length];
        for _ in 0..count {
            stream.write_all(&chunk).await.expect("somebody reads");
        }
        stream.shutdown().await.expect("somebody reads");
    });
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from(NAME).expect("it is a name");
    let mut stream = connector.connect(name, tcp).await.expect("both have the same versions");
    let begun = Instant::now();
    let (mut buffer, mut total) = (vec![0; length], 0);
    while total < length * count {
        total += match stream.read(&mut buffer).await.expect("somebody sends") {
            0 => panic!("the stream ends early"),
            read => read,
        };
    }
    total as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

fn ends() -> (TlsConnector, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a key can be made");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let certificate = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server.expect("they fit"))))
}
