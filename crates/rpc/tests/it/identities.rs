//! Who may connect, and who the other side turns out to be.

use api::gitmirror::{ListRepositoriesRequest, TickleRequest};
use rpc::{BindError, Identity, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::farm::{Farm, client, loopback, mirror, start, within};

#[tokio::test]
async fn each_side_knows_the_other_by_its_certificate() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let listed = farm.client(addr).list_repositories(ListRepositoriesRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().repositories[0].name, "service coordinator");

    let machine = rpc::connect(&format!("https://{addr}"), Some(&farm.machine("m1"))).unwrap();
    let listed = client(machine).list_repositories(ListRepositoriesRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().repositories[0].name, "machine m1");
    farm.finish().await;
}

async fn is_refused(farm: Farm, identity: &Identity) {
    let addr = farm.serve().await;
    let mut stranger = client(rpc::connect(&format!("https://{addr}"), Some(identity)).unwrap());
    let refused = within(5, "a refusal", stranger.tickle(TickleRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    farm.finish().await;
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (farm, other) = (Farm::new(), Farm::new());
    // It trusts our server, so that only the server can refuse.
    let mut stranger = other.identity("coordinator");
    stranger.ca_pem = farm.authority.certificate_pem().to_owned();
    is_refused(farm, &stranger).await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (farm, other) = (Farm::new(), Farm::new());
    let mut victim = farm.identity("coordinator");
    victim.ca_pem = other.authority.certificate_pem().to_owned();
    is_refused(farm, &victim).await;
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let mut plain = TcpStream::connect(addr).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within(5, "a closed connection", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let refused = without_certificate(&farm, addr).await;
    assert!(refused.to_string().to_lowercase().contains("certificate"), "{refused}");
    farm.finish().await;
}

/// Speaks TLS to the server, trusting it, but shows no certificate.
async fn without_certificate(farm: &Farm, addr: std::net::SocketAddr) -> std::io::Error {
    use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    let authority = farm.authority.certificate_pem();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    runtime::install_crypto();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("farmer").unwrap();
    // In TLS 1.3 the client is done before the server looks: the refusal arrives with the first read.
    match connector.connect(name, tcp).await {
        Err(refused) => refused,
        Ok(mut stream) => within(5, "a refusal", stream.read_u8()).await.unwrap_err(),
    }
}

#[tokio::test]
async fn a_machine_cannot_pass_for_a_service() {
    let farm = Farm::new();
    let server = Server::new("impostor", farm.tasks.clone()).grpc(mirror()).tls(&farm.machine("m1"));
    let addr = start(server, loopback()).await;
    let refused = farm.client(addr).tickle(TickleRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    farm.finish().await;
}

#[tokio::test]
async fn nothing_is_served_in_the_clear_beyond_this_machine() {
    let farm = Farm::new();
    let server = || Server::new("pages", farm.tasks.clone());
    let everywhere = ([0, 0, 0, 0], 0).into();
    let refused = server().plain_loopback().bind(everywhere).await.unwrap_err();
    assert!(matches!(refused, BindError::PlainNotLoopback(addr) if addr == everywhere), "{refused}");
    let refused = server().bind(loopback()).await.unwrap_err();
    assert!(matches!(refused, BindError::NoIdentity(_)), "{refused}");
    farm.finish().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let refused = farm.server(&farm.tasks).bind(addr).await.unwrap_err();
    assert!(matches!(refused, BindError::InUse(taken) if taken == addr), "{refused}");
    assert!(refused.to_string().contains(&addr.to_string()));
    farm.finish().await;
}
