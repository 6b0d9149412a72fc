//! How a machine gets a certificate: it makes a key that never leaves it, sends a request that proves that it has it, and
//! the authority signs what it may be, never what the request asks to be.

use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyPair,
    PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;

use types::{HostType, MachineName, Timestamp};

use super::{Authority, Identity, Peer, TlsError, authority::params};

/// A machine's key and the request for its certificate. All PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The private key: a secret that stays on the machine.
    pub key_pem: String,
    /// The request, to be given to the farm.
    pub csr_pem: String,
}

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}

impl KeyRequest {
    /// Makes a key, and a request for a machine of this name.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn make(name: &MachineName) -> Result<Self, TlsError> {
        Self::with_key(name, &KeyPair::generate()?)
    }

    /// A request for a key that the machine has already.
    ///
    /// # Errors
    /// [`TlsError::Make`] if the key cannot be read.
    pub fn again(name: &MachineName, key_pem: &str) -> Result<Self, TlsError> {
        Self::with_key(name, &KeyPair::from_pem(key_pem)?)
    }

    fn with_key(name: &MachineName, key: &KeyPair) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        let csr_pem = params.serialize_request(key)?.pem()?;
        Ok(Self { key_pem: key.serialize_pem(), csr_pem })
    }

    /// Checks that whoever made a request has the key, and answers the SHA-256 of that key in hexadecimal: the name of
    /// the key, which people can compare.
    ///
    /// # Errors
    /// [`TlsError::Make`] if it is no request, or not signed by its key.
    pub fn key_digest(csr_pem: &str) -> Result<String, TlsError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        Ok(hexadecimal(&Sha256::digest(request.public_key.subject_public_key_info())))
    }

    /// The common name that a request carries, if it is a machine's. Only a proposal.
    pub fn proposed_name(csr_pem: &str) -> Option<MachineName> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).ok()?;
        let name = match request.params.distinguished_name.get(&DnType::CommonName)? {
            rcgen::DnValue::Utf8String(text) => text.clone(),
            rcgen::DnValue::PrintableString(text) => text.as_str().to_owned(),
            _ => return None,
        };
        name.parse().ok()
    }
}

/// A certificate that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate.
    pub certificate_pem: String,
    /// Its serial number. Of two that the same farm signed, the later has the higher one.
    pub serial: [u8; 16],
    /// When it ends.
    pub expires: Timestamp,
}

impl Authority {
    /// Signs the key of a request, as that of a machine with these host types.
    ///
    /// # Errors
    /// [`TlsError::Make`] if the request is none, or not signed by its key.
    pub fn sign_machine(
        &self,
        csr_pem: &str,
        name: &MachineName,
        host_types: &[HostType],
        lifetime: Duration,
    ) -> Result<Signed, TlsError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let mut params = params(name.as_str(), lifetime);
        // A UUIDv7: it begins with the time, and its first byte keeps the number positive until the year 2527.
        let serial = *runtime::new_id().as_bytes();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let expires = Timestamp::from_seconds(params.not_after.unix_timestamp());
        let peer = Peer::Machine { name: name.clone(), host_types: host_types.to_vec() };
        let certificate_pem = self.sign(params, &request.public_key, &peer)?;
        Ok(Signed { certificate_pem, serial, expires })
    }
}

impl Identity {
    /// From when until when the certificate is good, if it can be read.
    pub fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate).ok()?;
        let validity = parsed.validity();
        Some((
            Timestamp::from_seconds(validity.not_before.timestamp()),
            Timestamp::from_seconds(validity.not_after.timestamp()),
        ))
    }
}

/// The serial number of a certificate.
pub(super) fn serial(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    Some(parsed.raw_serial().to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    #[test]
    fn a_signed_request_is_what_the_farm_says_and_not_what_it_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let request = KeyRequest::make(&name("proud")).unwrap();
        assert_eq!(KeyRequest::proposed_name(&request.csr_pem), Some(name("proud")));
        let hosts: Vec<HostType> = vec!["linux-amd64".parse().unwrap()];
        let day = Duration::from_hours(24);
        let signed = authority.sign_machine(&request.csr_pem, &name("humble"), &hosts, day).unwrap();
        let identity = Identity {
            certificate_pem: signed.certificate_pem,
            key_pem: request.key_pem.clone(),
            ca_pem: authority.certificate_pem().to_owned(),
        };
        assert_eq!(identity.peer(), Some(Peer::Machine { name: name("humble"), host_types: hosts }));
        assert_eq!(identity.validity().unwrap().1, signed.expires);
        identity.client_config(b"h2").unwrap();
        let again = KeyRequest::again(&name("humble"), &request.key_pem).unwrap();
        assert_eq!(
            KeyRequest::key_digest(&again.csr_pem).unwrap(),
            KeyRequest::key_digest(&request.csr_pem).unwrap()
        );
    }

    #[test]
    fn later_certificates_have_higher_serial_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let request = KeyRequest::make(&name("m")).unwrap();
        let sign = || authority.sign_machine(&request.csr_pem, &name("m"), &[], Duration::from_hours(1));
        let serials: Vec<_> = (0..10).map(|_| sign().unwrap().serial).collect();
        assert!(serials.is_sorted());
        let certificate = sign().unwrap();
        let der = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap();
        assert_eq!(serial(&der).unwrap(), certificate.serial);
    }

    #[test]
    fn a_request_that_was_changed_on_the_way_is_refused() {
        let request = KeyRequest::make(&name("m")).unwrap();
        let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes())
            .unwrap();
        let mut bytes = der.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let changed = rustls_pki_types::CertificateSigningRequestDer::from(bytes);
        assert!(CertificateSigningRequestParams::from_der(&changed).is_err());
        assert!(KeyRequest::key_digest("no request").is_err());
    }
}
