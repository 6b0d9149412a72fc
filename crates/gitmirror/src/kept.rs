//! Since when we keep refs of our own. Git does not remember it, so there is a small file for each ref beside the
//! mirror; a ref without one begins its time when we first see it.

use std::{fs, io, path::PathBuf, time::Duration};

use types::Timestamp;

/// The memory of one mirror.
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// In a folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// From now on.
    pub(crate) fn note(&self, name: &str, now: Timestamp) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.path(name), now.seconds().to_string())
    }

    /// Whether a ref has been kept for so long; one that is not known yet becomes known.
    pub(crate) fn is_over(&self, name: &str, now: Timestamp, keep: Duration) -> io::Result<bool> {
        let noted = fs::read_to_string(self.path(name)).ok().and_then(|text| text.parse().ok());
        match noted {
            Some(seconds) => Ok(now.since(Timestamp::from_seconds(seconds)) >= keep),
            None => self.note(name, now).map(|()| false),
        }
    }

    /// The ref is gone.
    pub(crate) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Our refs end in an id or a commit, which no two share.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.rsplit('/').next().unwrap_or(name))
    }
}
