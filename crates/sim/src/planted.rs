//! Bugs that are put in on purpose, each with the invariant that it breaks: what shows that the simulator would find one.

use coordinator::core::Mutation;

use crate::judge::Invariant;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// In the coordinator, at a named site.
    Coordinator(Mutation),
    /// The buildlet lets everybody in.
    DropFencing,
}

impl Planted {
    /// All, each with the invariants of which it breaks one.
    pub fn all() -> Vec<(Self, &'static [Invariant])> {
        let of = |mutation: Mutation| match mutation {
            Mutation::ForgetRequeue
            | Mutation::ForgetPreempted
            | Mutation::ReportTwice
            | Mutation::CursorFirst
            | Mutation::OutboxFirst => &[Invariant::Once, Invariant::Drains][..],
            Mutation::TwoLeases => &[Invariant::Lease][..],
            Mutation::ReuseFence => {
                &[Invariant::Lease, Invariant::Once, Invariant::Durable, Invariant::Drains][..]
            }
            Mutation::ActFirst | Mutation::ReplyFirst => &[Invariant::Durable][..],
            Mutation::AcknowledgeFirst => &[Invariant::Logs, Invariant::Drains][..],
            Mutation::SkipLog => &[Invariant::Logs][..],
            Mutation::EndlessRetries | Mutation::NeverSpare | Mutation::NoReason => &[Invariant::Waits][..],
            Mutation::FaultFails
            | Mutation::FaultPasses
            | Mutation::ForeignSnapshot
            | Mutation::SecondPasses
            | Mutation::BlameFault => &[Invariant::Truth][..],
            Mutation::NeverWake => &[Invariant::Waits, Invariant::Drains][..],
            Mutation::TrustReturned => &[Invariant::Truth, Invariant::Once][..],
            Mutation::GiveUp => &[Invariant::Alive][..],
            Mutation::SayTwice | Mutation::VoteLate => &[Invariant::Vote][..],
        };
        let coordinator =
            Mutation::ALL.into_iter().map(|mutation| (Self::Coordinator(mutation), of(mutation)));
        coordinator.chain([(Self::DropFencing, &[Invariant::Lease, Invariant::Truth][..])]).collect()
    }

    /// The bug of the coordinator, if it is one.
    pub(crate) fn of_coordinator(self) -> Option<Mutation> {
        match self {
            Self::Coordinator(mutation) => Some(mutation),
            Self::DropFencing => None,
        }
    }
}
