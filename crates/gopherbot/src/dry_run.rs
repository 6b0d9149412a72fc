//! A host that nobody hears: it remembers what it was told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tracing::info;

use crate::{Host, HostError, Target};

/// How many comments are kept.
const KEPT: usize = 200;

/// Says in the log what it would do, and keeps it for whoever wants to see. Clones are the same host.
#[derive(Debug, Clone, Default)]
pub struct DryRun(Arc<Mutex<VecDeque<(Target, String)>>>);

impl DryRun {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Target, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last comments, oldest first.
    pub fn comments(&self) -> Vec<(Target, String)> {
        self.lock().iter().cloned().collect()
    }
}

#[async_trait]
impl Host for DryRun {
    async fn has_comment(&self, target: &Target, text: &str) -> Result<bool, HostError> {
        Ok(self.lock().iter().any(|(at, body)| at == target && body.contains(text)))
    }

    async fn comment(&self, target: &Target, body: &str) -> Result<(), HostError> {
        info!(commit.hash = %target.commit, "dry run: would comment on {target}: {body}");
        let mut comments = self.lock();
        comments.push_back((target.clone(), body.to_owned()));
        if comments.len() > KEPT {
            comments.pop_front();
        }
        Ok(())
    }

    fn is_rehearsal(&self) -> bool {
        true
    }
}
