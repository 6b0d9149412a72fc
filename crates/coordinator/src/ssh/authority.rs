//! The keys of the farm for SSH: one signs people's certificates, one is the server's own. Both are made at the first
//! start and stay; coordinators that share records need the same.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use russh::keys::{
    Algorithm, Certificate, HashAlg, PrivateKey, PublicKey,
    ssh_key::{
        LineEnding,
        certificate::{Builder, CertType},
        private::Ed25519Keypair,
    },
};
use types::{SessionName, Timestamp};

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_mins(1);

/// Why the keys cannot be used, or a certificate not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A key cannot be read or written.
    #[error("the SSH key `{}` cannot be read or made", .0.display())]
    Key(PathBuf, #[source] std::io::Error),
    /// A file is no key.
    #[error("`{}` is no SSH key", .0.display())]
    NoKey(PathBuf, #[source] russh::keys::ssh_key::Error),
    /// Somebody's key is none.
    #[error("that is no public key of OpenSSH")]
    BadPublicKey(#[source] russh::keys::ssh_key::Error),
    /// Somebody's key is of a kind that is not taken.
    #[error("keys of kind `{0}` are not taken: make one of kind `ssh-ed25519`")]
    OtherKind(String),
    /// It cannot be signed.
    #[error("the certificate cannot be signed")]
    Sign(#[source] russh::keys::ssh_key::Error),
}

/// Why a certificate is refused. Not told to who shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is a host's.
    #[error("it is no certificate of a person")]
    NotAPersons,
    /// Another authority signed it, or its time is over or has not come.
    #[error("it is foreign, expired or not valid yet")]
    Invalid,
    /// It is for another session.
    #[error("it is for another session")]
    OtherPrincipal,
    /// It has a condition that is not known here.
    #[error("it has a condition that is not known here")]
    UnknownCondition,
}

/// Signs and checks certificates.
pub(crate) struct SshAuthority {
    signer: PrivateKey,
    host: PrivateKey,
}

impl SshAuthority {
    /// Reads the keys in a folder, or makes them.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuthorityError> {
        std::fs::create_dir_all(folder).map_err(|error| AuthorityError::Key(folder.to_owned(), error))?;
        Ok(Self { signer: key(&folder.join("authority"))?, host: key(&folder.join("host"))? })
    }

    /// The server's own key.
    pub(super) fn host_key(&self) -> &PrivateKey {
        &self.host
    }

    /// The server's own public key, as `known_hosts` has it.
    pub(crate) fn host_public_key(&self) -> Result<String, AuthorityError> {
        self.host.public_key().to_openssh().map_err(AuthorityError::Sign)
    }

    /// A certificate with which the holder of a key may use a session for so long.
    pub(crate) fn sign(
        &self,
        public_key: &str,
        session: &SessionName,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let key = PublicKey::from_openssh(public_key.trim()).map_err(AuthorityError::BadPublicKey)?;
        if !matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) {
            return Err(AuthorityError::OtherKind(key.algorithm().to_string()));
        }
        let nonce = blake3::hash(runtime::random_token().as_bytes()).as_bytes().to_vec();
        let (from, until) = (seconds(now).saturating_sub(SKEW.as_secs()), seconds(now + lifetime));
        let build = || {
            let mut builder = Builder::new(nonce, key.key_data().clone(), from, until)?;
            builder.cert_type(CertType::User)?;
            builder.key_id(format!("session {session}"))?;
            builder.valid_principal(session.as_str())?;
            for allowed in ["permit-port-forwarding", "permit-pty"] {
                builder.extension(allowed, "")?;
            }
            builder.sign(&self.signer)?.to_openssh()
        };
        build().map_err(AuthorityError::Sign)
    }

    /// Whether a certificate, whose key its holder has, is for this session now.
    pub(super) fn check(&self, user: &str, certificate: &Certificate, now: Timestamp) -> Result<(), Refusal> {
        if certificate.cert_type() != CertType::User {
            return Err(Refusal::NotAPersons);
        }
        let ours = self.signer.public_key().fingerprint(HashAlg::Sha256);
        let valid = certificate.validate_at(seconds(now), [&ours]);
        if valid.is_err() || certificate.signature_key() != self.signer.public_key().key_data() {
            return Err(Refusal::Invalid);
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err(Refusal::UnknownCondition);
        }
        // None at all would mean all, as OpenSSH has it: never here.
        if !certificate.valid_principals().iter().any(|principal| principal == user) {
            return Err(Refusal::OtherPrincipal);
        }
        Ok(())
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.0 / 1_000_000).unwrap_or(0)
}

/// A key in a file, made if it is not there.
fn key(file: &Path) -> Result<PrivateKey, AuthorityError> {
    let io = |error| AuthorityError::Key(file.to_owned(), error);
    let bad = |error| AuthorityError::NoKey(file.to_owned(), error);
    match std::fs::read(file) {
        Ok(text) => return PrivateKey::from_openssh(text).map_err(bad),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let seed = blake3::hash(runtime::random_token().as_bytes());
    let made = PrivateKey::from(Ed25519Keypair::from_seed(seed.as_bytes()));
    let text = made.to_openssh(LineEnding::LF).map_err(bad)?;
    write_private(file, text.as_bytes()).map_err(io)?;
    Ok(made)
}

/// Whole or not at all, and only for its owner.
fn write_private(file: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = file.with_extension("part");
    let mut open = std::fs::OpenOptions::new();
    let mut new = open.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    new.write_all(content)?;
    new.sync_all()?;
    std::fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn person() -> String {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        key.public_key().to_openssh().unwrap()
    }

    fn signed(authority: &SshAuthority, session: &str) -> Certificate {
        let text = authority.sign(&person(), &session.parse().unwrap(), now(), DAY).unwrap();
        Certificate::from_openssh(&text).unwrap()
    }

    #[test]
    fn a_certificate_is_for_one_session_and_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let authority = SshAuthority::open(folder.path()).unwrap();
        let certificate = signed(&authority, "ada-linux-0");
        assert_eq!(authority.check("ada-linux-0", &certificate, now()), Ok(()));
        assert_eq!(authority.check("bob-linux-0", &certificate, now()), Err(Refusal::OtherPrincipal));
        assert_eq!(authority.check("ada-linux-0", &certificate, now() + DAY), Err(Refusal::Invalid));
        let early = Timestamp(now().0 - 3_600_000_000);
        assert_eq!(authority.check("ada-linux-0", &certificate, early), Err(Refusal::Invalid));
    }

    #[test]
    fn a_certificate_of_another_farm_is_refused_and_keys_stay() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let foreign = signed(&SshAuthority::open(theirs.path()).unwrap(), "ada-linux-0");
        let authority = SshAuthority::open(ours.path()).unwrap();
        assert_eq!(authority.check("ada-linux-0", &foreign, now()), Err(Refusal::Invalid));
        let again = SshAuthority::open(ours.path()).unwrap();
        assert_eq!(again.host_public_key().unwrap(), authority.host_public_key().unwrap());
        assert_eq!(again.check("ada-linux-0", &signed(&authority, "ada-linux-0"), now()), Ok(()));
    }

    #[test]
    fn what_is_no_key_is_not_signed() {
        let folder = tempfile::tempdir().unwrap();
        let authority = SshAuthority::open(folder.path()).unwrap();
        let signed = authority.sign("ssh-ed25519 AAAA", &"a-0".parse().unwrap(), now(), DAY);
        assert!(matches!(signed, Err(AuthorityError::BadPublicKey(_))));
    }
}
