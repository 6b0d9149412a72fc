//! Makes a machine ready for its session: takes it by the first call under the session's lease, and puts there what the
//! session is to find. Every step may be done again from the start.

use buildlet_client::Lease;
use tracing::{info, warn};

use super::{
    command::Broken,
    perform::{Line, Worker},
    runner::describe,
};
use crate::core::{Event, Preparation, Ready, Repeated};

/// Makes a machine ready. When the connection goes, it ends without a word: the machine's own event decides.
pub(super) async fn prepare(worker: Worker, line: Line, preparation: Preparation) {
    let name = &preparation.session;
    let result = match put(&worker, &line, &preparation).await {
        Ok(ready) => {
            info!(session.name = %name, machine.name = %preparation.machine, "session {name} has its machine");
            Ok(ready)
        }
        Err(Broken::Gone) => return,
        Err(broken) if line.is_closing(&broken).await => return,
        Err(broken) => {
            let what = describe(&broken);
            warn!(session.name = %name, machine.name = %preparation.machine, "session {name} cannot begin: {what}");
            Err(format!("its machine `{}` could not be made ready: {what}", preparation.machine))
        }
    };
    // Shutting down: whoever starts next prepares again.
    let _ = worker.handle.tell(Event::SessionPrepared { lease: preparation.lease, result }).await;
}

/// Puts all there, and answers what that is.
async fn put(worker: &Worker, line: &Line, preparation: &Preparation) -> Result<Ready, Broken> {
    let lease = Lease { id: preparation.lease, fence: preparation.fence };
    line.buildlet.empty(lease).await?;
    let Some(repeated) = &preparation.setting.repeats else {
        return Ok(Ready { found: "an empty work folder".to_owned(), made: false });
    };
    let what = format!("{} at {}", repeated.repository, repeated.commit.short());
    if snapshot(worker, line, lease, repeated, preparation.fits).await? {
        return Ok(Ready { found: format!("what make left of {what}"), made: true });
    }
    let url = worker.source_url(&repeated.repository, repeated.commit);
    line.fetch(lease, &url, &preparation.setting.source_folder).await?;
    Ok(Ready { found: format!("the source of {what}, not made"), made: false })
}

/// Puts the snapshot there that the build's machines began with. False if it had none that can be used.
async fn snapshot(
    worker: &Worker,
    line: &Line,
    lease: Lease,
    repeated: &Repeated,
    fits: bool,
) -> Result<bool, Broken> {
    let Some(key) = repeated.snapshot.as_ref().filter(|_| fits) else { return Ok(false) };
    match line.fetch(lease, &worker.snapshot_url(key), "").await {
        Ok(_) => Ok(true),
        Err(Broken::Gone) => Err(Broken::Gone),
        Err(broken) if line.is_closing(&broken).await => Err(Broken::Gone),
        // It has been removed to make room, for example: then make is run again.
        Err(_) => {
            line.buildlet.empty(lease).await?;
            Ok(false)
        }
    }
}
