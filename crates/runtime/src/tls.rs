//! Which cryptography TLS uses.

/// Makes ring the provider of rustls for the whole process. Call it first in every `main` and test; repeats change nothing.
pub fn install_crypto() {
    // The error means that a provider is installed already, and the only one in the tree is ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn crypto_may_be_installed_twice() {
        super::install_crypto();
        super::install_crypto();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
