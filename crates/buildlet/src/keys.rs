//! Where a machine keeps its key and certificate, and which of them count now.
//!
//! The key is made once and stays; the certificate is replaced whole when it is renewed, so a crash leaves a pair that
//! fits. Everything lies in a folder that only the buildlet's user can read.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rpc::{Identity, KeyRequest};
use runtime::SharedClock;
use types::{MachineName, Timestamp};

use crate::platform;

/// A certificate begins a day before it was signed, because clocks differ.
const BACKDATED: Duration = Duration::from_hours(24);

/// The files of a machine's key and certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
    /// Where the coordinator's URL is noted, if `enroll` did.
    coordinator: Option<PathBuf>,
}

impl Keys {
    /// Where `enroll` puts them.
    pub(crate) fn in_state(state: &Path) -> Self {
        let folder = state.join("identity");
        Self {
            certificate: folder.join("machine.pem"),
            key: folder.join("machine.key"),
            authority: folder.join("ca.pem"),
            coordinator: Some(folder.join("coordinator")),
        }
    }

    /// As `--identity` names them.
    pub(crate) fn named(paths: &[PathBuf]) -> Option<Self> {
        let [certificate, key, authority] = paths else { return None };
        Some(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            authority: authority.clone(),
            coordinator: None,
        })
    }

    /// Whether there is a certificate.
    pub(crate) fn exist(&self) -> bool {
        self.certificate.exists()
    }

    pub(crate) fn load(&self) -> Result<Identity, rpc::TlsError> {
        Identity::load(&self.certificate, &self.key, &self.authority)
    }

    /// The coordinator that `enroll` noted.
    pub(crate) fn coordinator(&self) -> Option<String> {
        Some(fs::read_to_string(self.coordinator.as_ref()?).ok()?.trim().to_owned())
    }

    /// The request for the key that is here, which is made if there is none.
    pub(crate) fn request(&self, name: &MachineName) -> anyhow::Result<KeyRequest> {
        if let Some(folder) = self.key.parent() {
            platform::make_private_folder(folder).with_context(|| format!("make `{}`", folder.display()))?;
        }
        match fs::read_to_string(&self.key) {
            Ok(key) => {
                KeyRequest::again(name, &key).with_context(|| format!("use the key `{}`", self.key.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let request = KeyRequest::make(name).context("make a key")?;
                write(&self.key, request.key_pem.as_bytes(), 0o600)
                    .with_context(|| format!("write `{}`", self.key.display()))?;
                Ok(request)
            }
            Err(error) => Err(error).with_context(|| format!("read `{}`", self.key.display())),
        }
    }

    /// Keeps a certificate for the key that is here.
    pub(crate) fn keep(&self, certificate_pem: &str, authority_pem: &str) -> anyhow::Result<()> {
        for (path, text) in [(&self.authority, authority_pem), (&self.certificate, certificate_pem)] {
            write(path, text.as_bytes(), 0o644).with_context(|| format!("write `{}`", path.display()))?;
        }
        Ok(())
    }

    /// Notes the coordinator that the machine is enrolled at.
    pub(crate) fn note_coordinator(&self, url: &str) -> anyhow::Result<()> {
        let Some(path) = &self.coordinator else { return Ok(()) };
        write(path, url.as_bytes(), 0o644).with_context(|| format!("write `{}`", path.display()))
    }
}

/// Writes beside the place and renames, so that a crash leaves the old file or the new one.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let part = path.with_extension("part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = platform::with_mode(options.write(true).create_new(true), mode).open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

/// The identity as it counts now. Clones see the same renewals.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    identity: RwLock<(u64, Identity)>,
    /// How far the coordinator's clock is ahead of ours, in microseconds.
    ahead: AtomicI64,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.current()).finish()
    }
}

impl Credentials {
    /// Begins with an identity.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(Inner { identity: RwLock::new((0, identity)), ahead: AtomicI64::new(0) }))
    }

    /// The identity.
    pub fn current(&self) -> Identity {
        self.versioned().1
    }

    /// The identity, and how often it was renewed.
    pub(crate) fn versioned(&self) -> (u64, Identity) {
        self.0.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, identity: Identity) {
        let mut held = self.0.identity.write().unwrap_or_else(PoisonError::into_inner);
        *held = (held.0 + 1, identity);
    }

    /// Notes what time it is where the coordinator is; answers how wrong our clock is.
    pub(crate) fn note_time(&self, theirs: Timestamp, clock: &SharedClock) -> Duration {
        let ahead = theirs.0.saturating_sub(clock.now().0);
        self.0.ahead.store(ahead, Ordering::Relaxed);
        Duration::from_micros(ahead.unsigned_abs())
    }

    /// How long until the certificate is to be renewed, by the coordinator's clock: when half of its life has passed.
    pub(crate) fn until_renewal(&self, clock: &SharedClock) -> Option<Duration> {
        let (from, to) = self.current().validity()?;
        let now = Timestamp(clock.now().0.saturating_add(self.0.ahead.load(Ordering::Relaxed)));
        let life = to.since(from + BACKDATED);
        Some((to - life / 2).since(now))
    }
}

#[cfg(test)]
mod tests {
    use runtime::FakeClock;

    use super::*;

    fn enrolled(state: &Path, lifetime: Duration) -> (Keys, Credentials) {
        let authority = rpc::Authority::open_or_create(&state.join("ca")).unwrap();
        let keys = Keys::in_state(state);
        let name: MachineName = "m1".parse().unwrap();
        let request = keys.request(&name).unwrap();
        let signed = authority.sign_machine(&request.csr_pem, &name, &[], lifetime).unwrap();
        keys.keep(&signed.certificate_pem, authority.certificate_pem()).unwrap();
        let credentials = Credentials::new(keys.load().unwrap());
        (keys, credentials)
    }

    #[test]
    fn the_key_is_made_once_and_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (keys, credentials) = enrolled(folder.path(), Duration::from_hours(1));
        let again = keys.request(&"m1".parse().unwrap()).unwrap();
        assert_eq!(again.key_pem, credentials.current().key_pem);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys.key), mode(keys.key.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_by_the_farms_clock() {
        let folder = tempfile::tempdir().unwrap();
        let (_, credentials) = enrolled(folder.path(), Duration::from_hours(10));
        let clock = FakeClock::new(runtime::system_clock().now());
        let close =
            |left: Duration, hours: u64| left.abs_diff(Duration::from_hours(hours)) < Duration::from_mins(1);
        assert!(close(credentials.until_renewal(&clock.shared()).unwrap(), 5));
        // Our clock runs a day ahead: only the farm's counts.
        let theirs = clock.shared().now();
        clock.advance(Duration::from_hours(24));
        assert_eq!(credentials.until_renewal(&clock.shared()), Some(Duration::ZERO));
        assert_eq!(credentials.note_time(theirs, &clock.shared()), Duration::from_hours(24));
        assert!(close(credentials.until_renewal(&clock.shared()).unwrap(), 5));
    }
}
