//! The data folder of a farm on one machine: who holds it, its version, its keys, its ports.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::farm::{RUNNING, Running, TOKEN};

/// The layout of the folder. A newer farmer may raise it; an older one then refuses to touch the folder.
const VERSION: u32 = 1;

/// An open data folder. It is ours until this is dropped.
pub(crate) struct DataFolder {
    root: PathBuf,
    _lock: File,
}

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another process has it.
    #[error(
        "the data folder `{0}` is held by process {1}: stop that one first, or choose another folder with --data"
    )]
    Held(PathBuf, String),
    /// A newer farmer made it.
    #[error(
        "the data folder `{0}` is of version {1}, this farmer knows {VERSION}: run the newer farmer, or choose another folder with --data"
    )]
    Newer(PathBuf, u32),
    /// The operating system refused.
    #[error("cannot use the data folder `{0}`: choose another with --data")]
    Io(PathBuf, #[source] std::io::Error),
}

/// The loopback ports of the services. Kept, so that addresses stay valid over restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ports {
    pub(crate) public: u16,
    pub(crate) coordinator: u16,
    pub(crate) ssh: u16,
    pub(crate) gitmirror: u16,
    pub(crate) maintnerd: u16,
    pub(crate) pubsubhelper: u16,
}

impl DataFolder {
    /// Opens the folder, and makes it if need be.
    pub(crate) fn open(root: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(root.to_owned(), error);
        std::fs::create_dir_all(root).map_err(io)?;
        let root = &root.canonicalize().map_err(io)?;
        std::fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(io)?;
        let lock = lock(root)?;
        check_version(root)?;
        Ok(Self { root: root.clone(), _lock: lock })
    }

    /// A folder in it, made if need be.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create `{}`", folder.display()))?;
        Ok(folder)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The bearer token of the public port, made at the first start.
    pub(crate) fn token(&self) -> anyhow::Result<String> {
        let file = self.root.join(TOKEN);
        if let Ok(token) = std::fs::read_to_string(&file) {
            return Ok(token.trim().to_owned());
        }
        let token = runtime::random_token();
        write_private(&file, format!("{token}\n").as_bytes())?;
        Ok(token)
    }

    /// The ports of the last run; zeros before the first.
    pub(crate) fn ports(&self) -> Ports {
        ports(&self.root)
    }

    /// Keeps the ports.
    pub(crate) fn keep_ports(&self, ports: Ports) -> anyhow::Result<()> {
        write_private(
            &self.root.join("ports.json"),
            &serde_json::to_vec_pretty(&ports).context("write JSON")?,
        )
    }

    /// Tells commands on this machine where the farm is.
    pub(crate) fn announce(&self, url: String) -> anyhow::Result<()> {
        let running = Running { url, pid: std::process::id() };
        write_private(&self.root.join(RUNNING), &serde_json::to_vec_pretty(&running).context("write JSON")?)
    }

    /// Takes that back: the farm stops.
    pub(crate) fn withdraw(&self) {
        // Nothing to do about an error: the next start overwrites the file.
        let _ = std::fs::remove_file(self.root.join(RUNNING));
    }
}

/// A port on this machine only.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The ports of the last run of the farm with this data folder; zeros before the first.
pub(crate) fn ports(root: &Path) -> Ports {
    let text = std::fs::read_to_string(root.join("ports.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io(root.to_owned(), error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(root.join("lock"))
        .map_err(io)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(io)?;
        return Err(OpenError::Held(root.to_owned(), holder.trim().to_owned()));
    }
    file.set_len(0).map_err(io)?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
    Ok(file)
}

fn check_version(root: &Path) -> Result<(), OpenError> {
    let file = root.join("version");
    match std::fs::read_to_string(&file).map(|text| text.trim().parse::<u32>()) {
        Ok(Ok(version)) if version > VERSION => Err(OpenError::Newer(root.to_owned(), version)),
        Ok(Ok(_)) => Ok(()),
        _ => std::fs::write(&file, format!("{VERSION}\n"))
            .map_err(|error| OpenError::Io(root.to_owned(), error)),
    }
}

fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let part = file.with_extension("part");
        let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        open.write_all(content)?;
        open.sync_all()?;
        std::fs::rename(&part, file)
    };
    write().with_context(|| format!("write `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataFolder::open(folder.path()).unwrap();
        let error = DataFolder::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_newer_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("version"), "2\n").unwrap();
        assert!(matches!(DataFolder::open(folder.path()), Err(OpenError::Newer(_, 2))));
    }

    #[test]
    fn token_and_ports_stay() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let token = data.token().unwrap();
        assert_eq!(data.token().unwrap(), token);
        let ports = Ports { public: 1, coordinator: 2, ssh: 6, gitmirror: 3, maintnerd: 4, pubsubhelper: 5 };
        data.keep_ports(ports).unwrap();
        assert_eq!(data.ports(), ports);
        let mode = std::fs::metadata(folder.path().join(TOKEN)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
