//! What is known about machines at a handshake: in memory, because nothing may wait there.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use rpc::Peer;
use tokio::sync::watch;
use types::MachineName;

/// Refuses machines that were shut out, and certificates of those who had a name before. Clones are the same gate.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    rules: RwLock<HashMap<MachineName, Rule>>,
    changes: watch::Sender<()>,
}

/// What applies to a machine that has a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is shut out.
    Revoked,
    /// Certificates with this serial number and later ones count: earlier ones were another's.
    From(Vec<u8>),
    /// It has no row, and was here with a certificate from elsewhere.
    Elsewhere,
}

impl Gate {
    pub(crate) fn new(rules: impl IntoIterator<Item = (MachineName, Rule)>) -> Self {
        let rules = RwLock::new(rules.into_iter().collect());
        Self(Arc::new(Inner { rules, changes: watch::channel(()).0 }))
    }

    /// Sets what applies to a machine from now on.
    pub(crate) fn set(&self, name: &MachineName, rule: Rule) {
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.insert(name.clone(), rule);
        drop(rules);
        self.0.changes.send_replace(());
    }

    /// For servers that machines connect to.
    pub(crate) fn admission(&self) -> rpc::Admission {
        let gate = self.clone();
        Arc::new(move |peer, serial| match peer {
            Peer::Service(_) => true,
            Peer::Machine { name, .. } => gate.admits(name, serial),
        })
    }

    /// A machine without a row has its certificate from elsewhere, as those of `farmer up` have. Its name is taken from
    /// now on.
    fn admits(&self, name: &MachineName, serial: &[u8]) -> bool {
        match self.rule(name) {
            None => {
                let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
                // Somebody may have enrolled under that name a moment ago.
                *rules.entry(name.clone()).or_insert(Rule::Elsewhere) == Rule::Elsewhere
            }
            Some(Rule::Elsewhere) => true,
            Some(Rule::Revoked) => false,
            // Ours all have the same length, so that their order is that of their bytes.
            Some(Rule::From(first)) => serial.len() == first.len() && serial >= first.as_slice(),
        }
    }

    /// Whether a machine has come with a certificate from elsewhere since the coordinator runs.
    pub(crate) fn has_from_elsewhere(&self, name: &MachineName) -> bool {
        self.rule(name) == Some(Rule::Elsewhere)
    }

    fn rule(&self, name: &MachineName) -> Option<Rule> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Returns once a machine is shut out.
    pub(crate) async fn revoked(&self, name: &MachineName) {
        let mut changes = self.0.changes.subscribe();
        loop {
            // The sender lives in `self`, so waiting never fails.
            if self.rule(name) == Some(Rule::Revoked) || changes.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_name_admits_its_own_certificates_only() {
        let gate = Gate::new([(name("old"), Rule::From(vec![5, 0]))]);
        assert!(!gate.has_from_elsewhere(&name("stranger")));
        assert!(gate.admits(&name("stranger"), &[1, 2, 3]) && gate.admits(&name("stranger"), &[0]));
        assert!(gate.has_from_elsewhere(&name("stranger")) && !gate.has_from_elsewhere(&name("old")));
        assert!(gate.admits(&name("old"), &[5, 0]) && gate.admits(&name("old"), &[6, 0]));
        assert!(!gate.admits(&name("old"), &[4, 9]) && !gate.admits(&name("old"), &[9, 9, 9]));
        let waiting = gate.clone();
        let revoked = async move { waiting.revoked(&name("old")).await };
        let ((), ()) = tokio::join!(revoked, async { gate.set(&name("old"), Rule::Revoked) });
        assert!(!gate.admits(&name("old"), &[6, 0]));
        let service = Peer::Service("coordinator".to_owned());
        assert!(gate.admission()(&service, &[]));
    }
}
