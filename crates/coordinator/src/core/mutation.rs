//! Bugs that the simulator puts in on purpose, to see that it finds them. Each has one named site, which compares a byte.
//! Only [`crate::testing`] can put one in: a server takes `Tuning::default()`, which has none.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// What a lost machine did is not given to another.
    ForgetRequeue,
    /// The shard of a helper that made room is not given to another.
    ForgetPreempted,
    /// Batch work makes room however often it has.
    NeverSpare,
    /// The end of a build is stored twice, the second time as another attempt's.
    ReportTwice,
    /// The position in the mutation log is stored before the builds that it led to.
    CursorFirst,
    /// A result leaves the outbox before the mutation log has it.
    OutboxFirst,
    /// A machine with a lease still counts as idle.
    TwoLeases,
    /// After a restart the last fence is given out again.
    ReuseFence,
    /// Actions are performed before their rows are durable.
    ActFirst,
    /// A request is answered before its builds are durable.
    ReplyFirst,
    /// Output is acknowledged when it was received, and not when it is durable.
    AcknowledgeFirst,
    /// A command's result counts before its log is whole.
    SkipLog,
    /// Faults are retried without a bound.
    EndlessRetries,
    /// A build that rests says no reason.
    NoReason,
    /// A command that the farm ended counts as failed.
    FaultFails,
    /// A command that the farm ended counts as passed.
    FaultPasses,
    /// A snapshot's name leaves out what was built.
    ForeignSnapshot,
    /// A build that rests is not woken.
    NeverWake,
    /// A machine that came back without its work is believed to have it.
    TrustReturned,
    /// A write that fails for a moment ends the coordinator.
    GiveUp,
    /// A shard that has failed twice counts as passed.
    SecondPasses,
    /// A try that the farm could not finish is voted down.
    BlameFault,
    /// What may have been said of a change is said again.
    SayTwice,
    /// A patch set is voted on though a newer one is there.
    VoteLate,
}

impl Mutation {
    /// All.
    pub const ALL: [Self; 24] = [
        Self::ForgetRequeue,
        Self::ForgetPreempted,
        Self::NeverSpare,
        Self::ReportTwice,
        Self::CursorFirst,
        Self::OutboxFirst,
        Self::TwoLeases,
        Self::ReuseFence,
        Self::ActFirst,
        Self::ReplyFirst,
        Self::AcknowledgeFirst,
        Self::SkipLog,
        Self::EndlessRetries,
        Self::NoReason,
        Self::FaultFails,
        Self::FaultPasses,
        Self::ForeignSnapshot,
        Self::NeverWake,
        Self::TrustReturned,
        Self::GiveUp,
        Self::SecondPasses,
        Self::BlameFault,
        Self::SayTwice,
        Self::VoteLate,
    ];

    /// Whether this bug is the one that was put in.
    pub(crate) fn is(self, planted: Option<Self>) -> bool {
        planted == Some(self)
    }
}
