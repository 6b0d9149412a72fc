//! The end of a buildlet, or of its machine, because the coordinator wants it.

use std::{sync::Arc, time::Duration};

use super::{CallError, Machine};
use crate::keeper::StopReason;

/// The answer to the call goes out before.
const FAREWELL: Duration = Duration::from_millis(200);

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HaltKind {
    /// The buildlet.
    Exit,
    /// The machine, which comes back.
    Reboot,
    /// The machine, which does not.
    PowerOff,
}

impl Machine {
    /// Ends all execs, and then the buildlet or the machine, if its owner said how that is done.
    pub(crate) fn halt(self: &Arc<Self>, kind: HaltKind) -> Result<(), CallError> {
        let command = match kind {
            HaltKind::Exit => None,
            HaltKind::Reboot => Some(self.parts.reboot.clone().ok_or(CallError::NotAllowed("rebooted"))?),
            HaltKind::PowerOff => {
                Some(self.parts.power_off.clone().ok_or(CallError::NotAllowed("switched off"))?)
            }
        };
        self.state().fencing.draining = true;
        let machine = self.clone();
        self.parts.tasks.job("halt", async move {
            tokio::time::sleep(FAREWELL).await;
            machine.stop_all(StopReason::Cancelled).await;
            match command {
                None => machine.parts.tasks.shutdown().cancel(),
                Some(command) => run(&command).await,
            }
        });
        Ok(())
    }
}

/// Runs what ends the machine; that ends this process too, in time.
async fn run(command: &[String]) {
    tracing::info!("running `{}`", command.join(" "));
    let [program, arguments @ ..] = command else { return };
    match tokio::process::Command::new(program).args(arguments).status().await {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::error!("`{}`: {status}", command.join(" ")),
        Err(error) => tracing::error!("cannot run `{program}`: {error}"),
    }
}
