//! Who may use the machine: pure decisions about leases and their fencing tokens.

use serde::{Deserialize, Serialize};
use types::{Fence, LeaseId};

/// The right to use the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// Its fencing token.
    pub fence: Fence,
}

/// Who holds the machine and who may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fencing {
    /// The highest token ever seen.
    highest: Option<Fence>,
    /// The holder.
    lease: Option<Lease>,
    /// The lease that comes next, once what is left of the last is gone.
    next: Option<Lease>,
    /// The last holder, whose end may be asked for again.
    last: Option<Lease>,
    /// Takes no further lease.
    pub draining: bool,
    /// Why it takes no lease: something of the last one is left.
    pub broken: Option<String>,
}

/// What a call under a lease wants of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To use it.
    Work,
    /// To end the lease. That is let in while the machine drains too: what holds it may be an older lease that was
    /// given up, which nobody else would end.
    End,
}

/// What a call under a lease finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The lease holds the machine.
    Holder,
    /// It is the newest of all: whatever holds the machine must end, then it holds it.
    Next,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A newer lease was seen, or this one has ended.
    #[error("lease `{lease}` with token {fence} is not the machine's: it has seen {highest}", lease = .lease.id, fence = .lease.fence)]
    Stale {
        /// Whose call it was.
        lease: Lease,
        /// The highest token that was seen.
        highest: Fence,
    },
    /// It ends with its lease.
    #[error("the machine is draining and takes no further lease")]
    Draining,
    /// Something of a lease is left.
    #[error("the machine takes no lease: {0}")]
    Broken(String),
}

impl Fencing {
    /// As a journal tells it.
    pub fn restored(highest: Option<Fence>, lease: Option<Lease>, next: Option<Lease>) -> Self {
        Self { highest, lease, next, last: lease, ..Self::default() }
    }

    /// The holder.
    pub fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Whether a call under a lease is let in.
    pub fn admit(&self, lease: Lease, purpose: Purpose) -> Result<Admission, Refusal> {
        if self.lease == Some(lease) {
            return Ok(Admission::Holder);
        }
        let old = self.highest.filter(|highest| lease.fence <= *highest && self.next != Some(lease));
        if let Some(highest) = old {
            return Err(Refusal::Stale { lease, highest });
        }
        if let Some(why) = &self.broken {
            return Err(Refusal::Broken(why.clone()));
        }
        if self.draining && purpose == Purpose::Work { Err(Refusal::Draining) } else { Ok(Admission::Next) }
    }

    /// Whether this lease held the machine last and has ended, so that ending it again changes nothing.
    pub fn has_ended(&self, lease: Lease) -> bool {
        self.lease.is_none() && self.last == Some(lease) && self.broken.is_none()
    }

    /// Says which lease, just admitted, comes next: no older one gets in any more.
    pub fn expect(&mut self, lease: Lease) {
        self.highest = self.highest.max(Some(lease.fence));
        self.next = Some(lease);
    }

    /// Gives the machine, which must be free, to a lease that was admitted.
    pub fn take(&mut self, lease: Lease) {
        self.expect(lease);
        self.next = None;
        self.lease = Some(lease);
        self.last = Some(lease);
    }

    /// The holder's time is over.
    pub fn release(&mut self) {
        self.lease = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(fence: u64) -> Lease {
        let id = LeaseId(uuid::Uuid::from_u128(u128::from(fence)));
        Lease { id, fence: Fence(fence) }
    }

    fn held(by: Lease) -> Fencing {
        let mut fencing = Fencing::default();
        fencing.take(by);
        fencing
    }

    #[test]
    fn the_highest_token_holds_the_machine() {
        let fencing = held(lease(5));
        assert_eq!(fencing.admit(lease(5), Purpose::Work), Ok(Admission::Holder));
        assert_eq!(fencing.admit(lease(6), Purpose::Work), Ok(Admission::Next));
        assert!(matches!(fencing.admit(lease(4), Purpose::Work), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn another_lease_with_the_same_token_is_stale() {
        let other = Lease { id: lease(1).id, fence: Fence(5) };
        assert!(matches!(held(lease(5)).admit(other, Purpose::Work), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn a_lease_that_ended_can_do_nothing_but_end_again() {
        let mut fencing = held(lease(5));
        assert!(!fencing.has_ended(lease(5)));
        fencing.release();
        assert!(fencing.has_ended(lease(5)));
        assert!(!fencing.has_ended(lease(4)));
        assert!(matches!(fencing.admit(lease(5), Purpose::Work), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn a_token_that_was_seen_shuts_older_ones_out_before_its_lease_begins() {
        let mut fencing = held(lease(5));
        fencing.release();
        fencing.expect(lease(9));
        assert!(matches!(fencing.admit(lease(8), Purpose::Work), Err(Refusal::Stale { .. })));
        // Its own calls, of which there may be many at once, all wait for it.
        assert_eq!(fencing.admit(lease(9), Purpose::Work), Ok(Admission::Next));
        fencing.expect(lease(10));
        assert!(matches!(fencing.admit(lease(9), Purpose::Work), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn a_machine_that_drains_or_is_not_clean_takes_no_lease_but_serves_its_holder() {
        let mut fencing = held(lease(5));
        fencing.draining = true;
        assert_eq!(fencing.admit(lease(5), Purpose::Work), Ok(Admission::Holder));
        assert_eq!(fencing.admit(lease(6), Purpose::Work), Err(Refusal::Draining));
        assert_eq!(fencing.admit(lease(6), Purpose::End), Ok(Admission::Next));
        fencing.broken = Some("a mount is left".to_owned());
        assert!(matches!(fencing.admit(lease(6), Purpose::Work), Err(Refusal::Broken(_))));
    }
}
