//! Texts that the farm's authority has signed, such as what a buildlet's binary is. Whoever trusts the authority can check
//! them, wherever they come from.

use rcgen::SigningKey as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::FromDer as _;

use super::{Authority, TlsError, provider};

/// Stands before each text, so that a signature for one use is good for no other.
const PREFIX: &[u8] = b"farmer seal 1\0";

impl Authority {
    /// Signs a text.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn seal(&self, text: &[u8]) -> Result<Vec<u8>, TlsError> {
        Ok(self.key().sign(&[PREFIX, text].concat())?)
    }
}

/// Whether one of these authorities (PEM) has signed a text.
pub fn is_sealed(ca_pem: &str, text: &[u8], signature: &[u8]) -> bool {
    let message = [PREFIX, text].concat();
    let mut authorities = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten();
    authorities.any(|authority| verifies(&authority, &message, signature))
}

fn verifies(authority: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, parsed)) = x509_parser::certificate::X509Certificate::from_der(authority) else {
        return false;
    };
    let key = &parsed.public_key().subject_public_key.data;
    // An algorithm that is not the key's cannot read the key, and says no.
    let provider = provider();
    let mut algorithms = provider.signature_verification_algorithms.all.iter();
    algorithms.any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authority_can_seal() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::create(&folder.path().join("ours")).unwrap();
        let other = Authority::create(&folder.path().join("other")).unwrap();
        let seal = ours.seal(b"text").unwrap();
        assert!(is_sealed(ours.certificate_pem(), b"text", &seal));
        let both = format!("{}{}", other.certificate_pem(), ours.certificate_pem());
        assert!(is_sealed(&both, b"text", &seal));
        assert!(!is_sealed(other.certificate_pem(), b"text", &seal));
        assert!(!is_sealed(ours.certificate_pem(), b"texts", &seal));
        assert!(!is_sealed(ours.certificate_pem(), b"text", &seal[1..]));
        assert!(!is_sealed("", b"text", &seal) && !is_sealed("nonsense", b"text", b""));
    }
}
