//! Who is refused at the handshake although a certificate is good: machines that were revoked.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Peer, request};

/// Says whether a peer, whose certificate with this serial number the authority has signed, may still connect. It is
/// asked in the middle of each handshake, so it must not block.
pub type Admission = Arc<dyn Fn(&Peer, &[u8]) -> bool + Send + Sync>;

/// Asks the authority's signature first, then the admission.
pub(super) struct Admitting {
    pub(super) signatures: Arc<dyn ClientCertVerifier>,
    pub(super) admission: Admission,
}

impl std::fmt::Debug for Admitting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitting").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Admitting {
    fn offer_client_auth(&self) -> bool {
        self.signatures.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.signatures.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signatures.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.signatures.verify_client_cert(certificate, intermediates, now)?;
        let peer = Peer::from_certificate(certificate);
        let serial = request::serial(certificate).unwrap_or_default();
        match peer {
            Some(peer) if !(self.admission)(&peer, &serial) => {
                Err(Error::InvalidCertificate(CertificateError::Revoked))
            }
            _ => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::{Authority, tls::server_name};

    async fn is_let_in(connector: &TlsConnector, acceptor: &TlsAcceptor) -> bool {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let client = async {
            let mut stream = connector.connect(server_name(), ours).await?;
            stream.read_u8().await
        };
        let server = async {
            let mut stream = acceptor.accept(theirs).await?;
            stream.write_u8(1).await?;
            stream.shutdown().await
        };
        let (read, served) = tokio::join!(client, server);
        served.is_ok() && read.is_ok()
    }

    #[tokio::test]
    async fn a_revoked_machine_cannot_resume_an_earlier_session() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let asked = open.clone();
        let admission: Admission = Arc::new(move |_, _| asked.load(Ordering::Relaxed));
        let server = authority.issue_service("coordinator").unwrap();
        let acceptor = TlsAcceptor::from(server.server_config(false, Some(admission)).unwrap());
        let machine = authority.issue_machine(&"m1".parse().unwrap(), &[]).unwrap();
        // One configuration for all connections: what it remembers of a session it may use for the next.
        let connector = TlsConnector::from(machine.client_config(b"h2").unwrap());
        assert!(is_let_in(&connector, &acceptor).await && is_let_in(&connector, &acceptor).await);
        open.store(false, Ordering::Relaxed);
        assert!(!is_let_in(&connector, &acceptor).await);
    }
}
