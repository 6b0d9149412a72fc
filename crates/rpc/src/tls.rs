//! Who is who on the wire: identities, the TLS settings made of them, and the peer read from its certificate.
//!
//! Every service's certificate carries the DNS name `farmer`, which is what clients verify, whatever address they
//! dialled; the certificate of a machine carries none and is good for clients only, so a machine cannot pass for a
//! service. Names are URIs: `farmer://service/NAME`, `farmer://machine/NAME?hosts=a,b`.

mod admission;
mod authority;
#[cfg(test)]
mod fuzz;
mod request;
mod seal;
mod trouble;

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use types::{HostType, MachineName};

pub use admission::Admission;
use admission::Admitting;
pub use authority::Authority;
pub use request::{KeyRequest, Signed};
pub use seal::is_sealed;
pub use trouble::Trouble;

/// The name that every service's certificate answers to.
const SERVICE_DNS_NAME: &str = "farmer";

/// A certificate, key or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There already is an authority, and making another would orphan its certificates.
    #[error("`{}` already holds a certificate authority", .0.display())]
    Exists(PathBuf),
    /// Not PEM of the wanted kind.
    #[error("no valid {0} in the PEM text")]
    Pem(&'static str),
    /// The name cannot stand in a certificate.
    #[error("`{0}` is not the name of a service: a-z, 0-9 and `-` only")]
    Name(String),
    /// The certificate could not be made.
    #[error("cannot make the certificate")]
    Make(#[from] rcgen::Error),
    /// The certificate, its key and its authority do not fit together.
    #[error("cannot use the certificate with its key and authority")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A certificate with its key, and the authority that both sides trust. All PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by intermediates if there are any.
    pub certificate_pem: String,
    /// Its private key: a secret.
    pub key_pem: String,
    /// The authority's certificates.
    pub ca_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Writes `NAME.pem`, `NAME.key` (readable by the owner only) and `ca.pem` into a folder.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn save(&self, dir: &Path, name: &str) -> Result<(), TlsError> {
        write(&dir.join(format!("{name}.key")), &self.key_pem, 0o600)?;
        write(&dir.join(format!("{name}.pem")), &self.certificate_pem, 0o644)?;
        write(&dir.join("ca.pem"), &self.ca_pem, 0o644)
    }

    /// Reads what [`Self::save`], cert-manager or an operator wrote. That the parts fit together is checked when
    /// they are used.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificate_pem: read(certificate)?, key_pem: read(key)?, ca_pem: read(ca)? })
    }

    /// Who this identity says it is, if it says so in our way.
    pub fn peer(&self) -> Option<Peer> {
        Peer::from_certificate(&CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?)
    }

    /// What a client needs to speak to services of the same authority.
    pub(crate) fn client_config(&self, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain()?, self.key()?)
            .map_err(unusable)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Arc::new(config))
    }

    /// What a server needs: clients without a certificate of the same authority are refused, unless guests are let in;
    /// so are those that the admission, if there is one, says no to.
    pub(crate) fn server_config(
        &self,
        guests: bool,
        admission: Option<Admission>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider());
        let builder = if guests { builder.allow_unauthenticated() } else { builder };
        let signatures = builder.build().map_err(unusable)?;
        let verifier: Arc<dyn ClientCertVerifier> = match admission {
            Some(admission) => Arc::new(Admitting { signatures, admission }),
            None => signatures,
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain()?, self.key()?)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session that is resumed shows no certificate: one that has expired or was revoked would still come in.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.certificate_pem, "certificate")
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| TlsError::Pem("private key"))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        roots(&self.ca_pem)
    }
}

/// What a client needs to speak to services of an authority while it has no certificate itself: as a guest.
pub(crate) fn guest_config(ca_pem: &str, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "authority certificate")? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

/// The other side of a connection, from its verified certificate. A server puts it into the extensions of each
/// request: see [`crate::peer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A service of the farm, by name.
    Service(String),
    /// A machine that builds.
    Machine {
        /// Its name.
        name: MachineName,
        /// What it may serve as.
        host_types: Vec<HostType>,
    },
}

impl Peer {
    /// Reads the name out of a certificate that was verified; none if it is not one of ours.
    pub(crate) fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Self::from_uri(uri),
            _ => None,
        })
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("farmer://")?;
        if let Some(name) = rest.strip_prefix("service/") {
            return is_service_name(name).then(|| Self::Service(name.to_owned()));
        }
        let machine = rest.strip_prefix("machine/")?;
        let (name, hosts) = machine.split_once("?hosts=").unwrap_or((machine, ""));
        let host_types = hosts.split(',').filter(|host| !host.is_empty()).map(str::parse);
        Some(Self::Machine {
            name: name.parse().ok()?,
            host_types: host_types.collect::<Result<_, _>>().ok()?,
        })
    }

    /// The URI that stands in a certificate.
    fn uri(&self) -> String {
        match self {
            Self::Service(name) => format!("farmer://service/{name}"),
            Self::Machine { name, host_types } => {
                let hosts: Vec<_> = host_types.iter().map(HostType::as_str).collect();
                format!("farmer://machine/{name}?hosts={}", hosts.join(","))
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Machine { name, .. } => write!(f, "machine {name}"),
        }
    }
}

/// The name that clients verify.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVICE_DNS_NAME).expect("a constant DNS name")
}

/// ring, with AES-128 before AES-256: bulk streams are bound by it, and 128 bits are enough.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn is_service_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|list| !list.is_empty()).ok_or(TlsError::Pem(what))
}

fn unusable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::Unusable(source.into())
}

fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Writes beside the place and renames, so that a crash leaves the old file or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let temporary = path.with_extension("new");
    let result = (|| {
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        // Elsewhere a file has the rights of its folder.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    result.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<&str>) {
        assert_eq!(Peer::from_uri(uri).map(|peer| peer.uri()).as_deref(), expected, "{uri}");
    }

    #[test]
    fn uris_name_services_and_machines_and_nothing_else() {
        check("farmer://service/coordinator", Some("farmer://service/coordinator"));
        check(
            "farmer://machine/m1?hosts=linux-amd64,linux-arm",
            Some("farmer://machine/m1?hosts=linux-amd64,linux-arm"),
        );
        check("farmer://machine/m1", Some("farmer://machine/m1?hosts="));
        check("farmer://service/", None);
        check("farmer://service/a/b", None);
        check("farmer://machine/UPPER", None);
        check("farmer://machine/m1?hosts=A b", None);
        check("spiffe://service/coordinator", None);
    }

    #[test]
    fn an_identity_does_not_print_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Authority::create(dir.path()).unwrap().issue_service("gitmirror").unwrap();
        let text = format!("{identity:?}");
        assert!(text.contains("gitmirror") && !text.contains("PRIVATE"), "{text}");
    }

    #[test]
    fn an_identity_reads_back_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let identity = Authority::create(dir.path()).unwrap().issue_service("devapp").unwrap();
        identity.save(dir.path(), "devapp").unwrap();
        let path = |name: &str| dir.path().join(name);
        let read = Identity::load(&path("devapp.pem"), &path("devapp.key"), &path("ca.pem")).unwrap();
        assert_eq!(read, identity);
        for key in ["devapp.key", "ca.key"] {
            assert_eq!(std::fs::metadata(path(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
