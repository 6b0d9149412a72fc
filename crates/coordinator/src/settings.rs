//! The operator's file as it applies now. An edit replaces it whole, or not at all.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use buildspec::Farm;
use runtime::{SharedClock, Tasks};
use tracing::{error, info, warn};
use types::HostType;

use crate::shell::Hub;

/// What applies. Clones see the same edits.
#[derive(Clone)]
pub(crate) struct Settings {
    farm: Arc<RwLock<Arc<Farm>>>,
    path: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn new(farm: Farm, path: Option<PathBuf>) -> Self {
        Self { farm: Arc::new(RwLock::new(Arc::new(farm))), path }
    }

    /// The file's content as it applies.
    pub(crate) fn farm(&self) -> Arc<Farm> {
        self.farm.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it comes from.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    fn replace(&self, farm: Arc<Farm>) {
        *self.farm.write().unwrap_or_else(PoisonError::into_inner) = farm;
    }

    /// How much a command may write on a host.
    pub(crate) fn output_bytes(&self, host: &HostType) -> Option<u64> {
        self.farm().host(host).map(|host| host.limits.output_bytes)
    }

    /// What a host adds to the environment of every command.
    pub(crate) fn host_environment(&self, host: &HostType) -> Vec<(String, String)> {
        self.farm().host(host).map(|host| host.environment.clone()).unwrap_or_default()
    }

    /// Secrets by name. One that cannot be read is left out, and said so.
    pub(crate) fn secrets(&self, names: &[String]) -> Vec<(String, String)> {
        let farm = self.farm();
        let read = |name: &String| {
            let path = farm.secrets.get(name)?;
            match std::fs::read_to_string(path) {
                Ok(secret) => Some((name.clone(), secret.trim_end().to_owned())),
                Err(error) => {
                    error!("secret `{name}` cannot be read from `{}`: {error}", path.display());
                    None
                }
            }
        };
        names.iter().filter_map(read).collect()
    }

    /// Follows edits of the file. A wrong one keeps what applies, and is shown until it is mended.
    pub(crate) fn follow(&self, tasks: &Tasks, hub: &Hub, clock: &SharedClock) {
        let Some(path) = self.path.clone() else { return };
        let mut reload = match runtime::config::watch(&path, self.farm(), tasks) {
            Ok(reload) => reload,
            Err(error) => return warn!("edits of `{}` are not seen: {error}", path.display()),
        };
        let (settings, hub, clock, shutdown) = (self.clone(), hub.clone(), clock.clone(), tasks.shutdown());
        tasks.job("configuration", async move {
            loop {
                let changed = tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = reload.changed() => changed,
                };
                match changed {
                    Ok(farm) => {
                        info!("`{}` has changed and applies", path.display());
                        settings.replace(farm);
                        hub.solved("configuration");
                    }
                    Err(errors) => {
                        error!(
                            "`{}` has changed and is wrong, what was before applies: {errors}",
                            path.display()
                        );
                        let text = format!("{errors}");
                        hub.problem(
                            "configuration",
                            text,
                            "mend the file: until then what was before applies",
                            clock.now(),
                        );
                    }
                }
            }
        });
    }
}
