//! Says what was planned: one thing after the other, each at most once.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Host, HostError,
    intents::{Intent, IntentError, Intents, Outcome},
};

pub(crate) struct Actor {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) intents: Intents,
    pub(crate) planned: Arc<Notify>,
    /// The first pause after the host failed.
    pub(crate) retry: Duration,
    /// The longest.
    pub(crate) longest_retry: Duration,
}

impl Actor {
    /// Works until cancelled. What is on its way when cancelled is looked for by the next process.
    pub(crate) async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            failed = self.work() => Err(failed.into()),
        }
    }

    async fn work(&self) -> IntentError {
        let mut pause = self.retry;
        loop {
            match self.one().await {
                Ok(None) => self.planned.notified().await,
                Ok(Some(Ok(()))) => pause = self.retry,
                Ok(Some(Err(error))) => {
                    let wait = match error {
                        HostError::Limited { after } => after.max(pause),
                        _ => pause,
                    };
                    warn!("will try again in {} s: {error}", wait.as_secs_f32());
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(self.longest_retry);
                }
                Err(error) => return error,
            }
        }
    }

    /// Says the next thing; nothing if there is none. The inner error is one that may pass.
    async fn one(&self) -> Result<Option<Result<(), HostError>>, IntentError> {
        let Some(intent) = self.intents.next().await? else { return Ok(None) };
        let (outcome, detail) = match self.say(&intent).await {
            Ok(()) if self.host.is_rehearsal() => (Outcome::Rehearsed, String::new()),
            Ok(()) => (Outcome::Done, String::new()),
            Err(error) if error.is_transient() => return Ok(Some(Err(error))),
            Err(error @ HostError::Gone(_)) => (Outcome::Gone, error.to_string()),
            Err(error) => (Outcome::Refused, error.to_string()),
        };
        if detail.is_empty() {
            info!(commit.hash = %intent.target.commit, "commented on {}", intent.target);
        } else {
            warn!(commit.hash = %intent.target.commit, "will not comment on {}: {detail}", intent.target);
        }
        self.intents.settle(&intent.key, outcome, &detail).await?;
        Ok(Some(Ok(())))
    }

    /// An earlier process, or an earlier try whose answer was lost, may have said it.
    async fn say(&self, intent: &Intent) -> Result<(), HostError> {
        if self.host.has_comment(&intent.target, &intent.key).await? {
            return Ok(());
        }
        self.host.comment(&intent.target, &intent.body).await
    }
}
