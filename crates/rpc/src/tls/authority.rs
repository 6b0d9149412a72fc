//! The farm's own certificate authority: made in the data folder at the first start, replaced by yours in production.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};

use types::{HostType, MachineName};

use super::{Identity, Peer, SERVICE_DNS_NAME, TlsError, is_service_name, read, write};

const DAY: Duration = Duration::from_hours(24);

/// Ten years. What is issued is replaced by issuing again, not by waiting for its end.
const LIFETIME: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// Issues the certificates of one farm. Whoever holds its folder can pass for any service.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority: `ca.pem` and `ca.key` (readable by the owner only) in the folder, which is made if needed.
    ///
    /// # Errors
    /// [`TlsError::Exists`] if the folder holds one, [`TlsError::File`] if it cannot be written.
    pub fn create(dir: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = paths(dir);
        if certificate.exists() {
            return Err(TlsError::Exists(dir.to_owned()));
        }
        std::fs::create_dir_all(dir).map_err(|source| TlsError::File { path: dir.to_owned(), source })?;
        let key_pair = KeyPair::generate()?;
        let mut params = params("Farmer authority", LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key_pair)?.pem();
        // The certificate last: while it is missing, nothing was issued and the key may be made anew.
        write(&key, &key_pair.serialize_pem(), 0o600)?;
        write(&certificate, &certificate_pem, 0o644)?;
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key_pair) })
    }

    /// Opens an authority that [`Self::create`] made.
    ///
    /// # Errors
    /// [`TlsError::File`] if there is none, [`TlsError::Make`] if its files are damaged.
    pub fn open(dir: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = paths(dir);
        Self::load(&certificate, &key)
    }

    /// Opens the authority of a folder, or makes it.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        if paths(dir).0.exists() { Self::open(dir) } else { Self::create(dir) }
    }

    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// An identity for a service, good as client and as server.
    ///
    /// # Errors
    /// [`TlsError::Name`] if the name cannot stand in a certificate.
    pub fn issue_service(&self, name: &str) -> Result<Identity, TlsError> {
        if !is_service_name(name) {
            return Err(TlsError::Name(name.to_owned()));
        }
        let mut params = params(name, LIFETIME);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![
            SanType::DnsName(SERVICE_DNS_NAME.try_into()?),
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        ];
        self.issue(params, &Peer::Service(name.to_owned()))
    }

    /// An identity for a machine, good as client only, with the hosts it may serve as.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn issue_machine(&self, name: &MachineName, host_types: &[HostType]) -> Result<Identity, TlsError> {
        let mut params = params(name.as_str(), LIFETIME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, &Peer::Machine { name: name.clone(), host_types: host_types.to_vec() })
    }

    fn issue(&self, params: CertificateParams, peer: &Peer) -> Result<Identity, TlsError> {
        let key = KeyPair::generate()?;
        Ok(Identity {
            certificate_pem: self.sign(params, &key, peer)?,
            key_pem: key.serialize_pem(),
            ca_pem: self.certificate_pem.clone(),
        })
    }

    /// The certificate of a key, as that of a peer.
    pub(super) fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        peer: &Peer,
    ) -> Result<String, TlsError> {
        params.subject_alt_names.push(SanType::URI(peer.uri().try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    /// What it signs with.
    pub(super) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// Opens an authority by the paths of its certificate and key, as cert-manager or an operator wrote them.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificate_pem = read(certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, KeyPair::from_pem(&read(key)?)?)?;
        Ok(Self { certificate_pem, issuer })
    }
}

fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ca.pem"), dir.join("ca.key"))
}

/// A name and a life that began yesterday: the clocks of machines differ.
pub(super) fn params(name: &str, lifetime: Duration) -> CertificateParams {
    let now = runtime::system_clock().now().seconds();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - DAY;
    params.not_after = now + lifetime;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_opened_after() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::open_or_create(dir.path()).unwrap();
        let opened = Authority::open_or_create(dir.path()).unwrap();
        assert_eq!(made.certificate_pem(), opened.certificate_pem());
        assert!(matches!(Authority::create(dir.path()), Err(TlsError::Exists(_))));
    }

    #[test]
    fn a_key_without_certificate_is_a_broken_start_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.key"), "half").unwrap();
        Authority::open_or_create(dir.path()).unwrap();
        Authority::open(dir.path()).unwrap().issue_service("coordinator").unwrap();
    }

    #[test]
    fn names_read_back_from_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let hosts: Vec<HostType> = vec!["linux-amd64".parse().unwrap(), "linux-386".parse().unwrap()];
        let name: MachineName = "m.1".parse().unwrap();
        let machine = authority.issue_machine(&name, &hosts).unwrap();
        assert_eq!(machine.peer(), Some(Peer::Machine { name, host_types: hosts }));
        let service = authority.issue_service("gitmirror").unwrap();
        assert_eq!(service.peer(), Some(Peer::Service("gitmirror".to_owned())));
        assert!(matches!(authority.issue_service("a b"), Err(TlsError::Name(_))));
    }
}
