//! The end of a lease: everything of it goes, and that is proven rather than assumed.

use std::{path::Path, sync::Arc, time::Duration};

use super::{CallError, Machine};
use crate::{
    Reuse, environment::HOME, exec::Exec, folder::WorkFolder, journal::Entry, keeper::StopReason, platform,
    tree,
};

impl Machine {
    /// Ends the execs, empties the work folder, and proves that no process, file or mount is left. Called with the gate
    /// held alone. If something is left, the machine takes no further lease.
    pub(super) async fn clean(self: &Arc<Self>) -> Result<u32, CallError> {
        let cleaned = self.try_clean().await;
        let mut state = self.state();
        match cleaned {
            Ok(leftovers) => {
                state.fencing.release();
                state.fencing.broken = None;
                Ok(leftovers)
            }
            Err(error) => {
                let why = match &error {
                    CallError::NotClean(why) => why.clone(),
                    other => other.to_string(),
                };
                tracing::error!("the machine is not clean and takes no further lease: {why}");
                state.fencing.broken = Some(why.clone());
                Err(CallError::NotClean(why))
            }
        }
    }

    async fn try_clean(self: &Arc<Self>) -> Result<u32, CallError> {
        let execs = std::mem::take(&mut self.state().execs);
        let ended = self.end_execs(&execs).await;
        if let Err(error) = ended {
            // What runs must stay known, so that it is ended by the next attempt.
            self.state().execs = execs;
            return Err(error);
        }
        let proof = self.parts.keeper.prove().await?;
        if proof.remaining > 0 {
            return Err(CallError::NotClean(format!("{} processes cannot be ended", proof.remaining)));
        }
        let keep: &'static [&'static str] = if self.parts.reuse == Reuse::Shared { &[HOME] } else { &[] };
        let folder = self.parts.folder.clone();
        let renew = keep.is_empty() && self.parts.view.follows;
        let wiped = tokio::task::spawn_blocking(move || {
            wipe(&folder, keep)?;
            Ok(renew && folder.renew())
        });
        let wiped = wiped.await.unwrap_or_else(|_| Err("the wiping failed".to_owned()));
        if wiped.map_err(CallError::NotClean)? {
            self.parts.keeper.follow().await?;
        }
        for exec in &execs {
            exec.spool.remove();
        }
        if self.state().fencing.lease().is_some() {
            self.note(&Entry::Released);
        }
        let left_by = |exec: &Arc<Exec>| exec.progress().borrow().end.as_ref().map_or(0, |end| end.leftovers);
        Ok(proof.strays + execs.iter().map(left_by).sum::<u32>())
    }

    /// Ends execs at once and waits until they have ended.
    async fn end_execs(&self, execs: &[Arc<Exec>]) -> Result<(), CallError> {
        for exec in execs {
            exec.stop(StopReason::Cancelled, Duration::ZERO).await;
        }
        for exec in execs {
            if tokio::time::timeout(Duration::from_secs(30), exec.wait()).await.is_err() {
                return Err(CallError::NotClean(format!("exec `{}` does not end", exec.id)));
            }
        }
        let stuck = self.stuck().take();
        stuck.map_or(Ok(()), |why| Err(CallError::NotClean(why)))
    }
}

/// Empties a work folder and looks whether that worked. The error says what is left.
fn wipe(folder: &WorkFolder, keep: &[&str]) -> Result<(), String> {
    let path = Path::new(folder.path());
    unmount(path)?;
    tree::empty(&*folder.dir(), keep).map_err(|error| error.to_string())?;
    let entries = folder.dir().entries().map_err(|error| format!("cannot list the work folder: {error}"))?;
    for entry in entries {
        let name = entry.map_err(|error| format!("cannot list the work folder: {error}"))?.file_name();
        if !keep.iter().any(|kept| name == **kept) {
            return Err(format!("`{}` is left in the work folder", name.to_string_lossy()));
        }
    }
    match mounts(path)?.first() {
        None => Ok(()),
        Some(mount) => Err(format!("`{}` is still mounted", mount.display())),
    }
}

fn mounts(folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    platform::mounts_below(folder).map_err(|error| format!("cannot list mounts: {error}"))
}

/// Removes mounts below the folder: what lies in them is no file of the folder, and must not be wiped as such.
fn unmount(folder: &Path) -> Result<(), String> {
    for mount in mounts(folder)? {
        platform::unmount(&mount)
            .map_err(|error| format!("cannot unmount `{}`: {error}", mount.display()))?;
    }
    Ok(())
}
