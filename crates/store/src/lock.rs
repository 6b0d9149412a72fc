//! The lock that keeps two processes off one database. The kernel gives it up when its holder dies, however it dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::OpenError;

/// How long a database that this process is still closing is waited for.
const HANDOVER: Duration = Duration::from_secs(5);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock beside `database`, or says who has it.
    pub(crate) async fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let deadline = Instant::now() + HANDOVER;
        loop {
            match try_take(&path) {
                Ok(Ok(lock)) => return Ok(lock),
                Ok(Err(Some(pid))) if pid == std::process::id() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(Err(pid)) => {
                    let by = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                    return Err(OpenError::Locked { path: database.to_owned(), by });
                }
                Err(source) => return Err(OpenError::Unwritable { path: database.to_owned(), source }),
            }
        }
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The lock, or the process id that its holder wrote, if it did.
fn try_take(path: &Path) -> std::io::Result<Result<Lock, Option<u32>>> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Ok(Lock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Err(text.trim().parse().ok()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}
