//! What goes wrong. Each kind is counted where it takes effect, and a run that leaves one out has failed.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A call to a machine never arrives.
    RequestLost,
    /// It is done, and its answer never arrives.
    AnswerLost,
    /// It arrives twice.
    Duplicated,
    /// It takes long, so that later ones overtake it.
    Delayed,
    /// A machine cannot be reached for a while, and does not know.
    Partition,
    /// The machine is away for so long that it is lost, and comes back with its old lease.
    ReturnFromDead,
    /// The buildlet is killed and started again: the lease stays, its commands are over.
    BuildletKilled,
    /// The machine dies without notice, and another of its name comes, empty.
    MachineReplaced,
    /// The machine says that it is leaving, and leaves when its lease ends.
    MachineDrained,
    /// A command is ended because the disk is nearly full.
    MachineDiskFull,
    /// What a lease left cannot be removed.
    MachineNotClean,
    /// Every command fails on the machine for a while, at once and whatever it is.
    MachineSick,
    /// The coordinator is killed at any moment.
    CoordinatorKilled,
    /// It is killed when it is about to write.
    KilledBeforeWrite,
    /// It is killed when a write is durable and it does not know yet.
    KilledAfterWrite,
    /// It is asked to end, and started again.
    CoordinatorRestarted,
    /// A write fails and did nothing.
    WriteFailed,
    /// A write fails after it took effect.
    WriteFailedAfterEffect,
    /// The disk takes seconds.
    SlowDisk,
    /// A log cannot be written for a moment.
    LogFailed,
    /// A snapshot cannot be stored.
    StoreFailed,
    /// A stored snapshot is gone.
    SnapshotVanished,
    /// maintnerd does not run.
    MaintnerdDown,
    /// A result is appended, and the answer is lost.
    AppendAnswerLost,
    /// The stream of mutations breaks.
    StreamBroken,
    /// maintnerd has another history than before.
    HistoryLost,
    /// The review host does not answer.
    ReviewsDown,
    /// It does what it is asked, and its answer is lost.
    ReviewAnswerLost,
    /// gitmirror does not run.
    MirrorDown,
    /// A commit is gone before it is looked at.
    CommitVanished,
    /// The clock is set forward.
    ClockForward,
    /// The clock is set back.
    ClockBack,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 32] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::Duplicated,
        Self::Delayed,
        Self::Partition,
        Self::ReturnFromDead,
        Self::BuildletKilled,
        Self::MachineReplaced,
        Self::MachineDrained,
        Self::MachineDiskFull,
        Self::MachineNotClean,
        Self::MachineSick,
        Self::CoordinatorKilled,
        Self::KilledBeforeWrite,
        Self::KilledAfterWrite,
        Self::CoordinatorRestarted,
        Self::WriteFailed,
        Self::WriteFailedAfterEffect,
        Self::SlowDisk,
        Self::LogFailed,
        Self::StoreFailed,
        Self::SnapshotVanished,
        Self::MaintnerdDown,
        Self::AppendAnswerLost,
        Self::StreamBroken,
        Self::HistoryLost,
        Self::ReviewsDown,
        Self::ReviewAnswerLost,
        Self::MirrorDown,
        Self::CommitVanished,
        Self::ClockForward,
        Self::ClockBack,
    ];
}

/// How bad it is now: how often calls and writes go wrong, once in so many; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) request_lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) delayed: u64,
    pub(crate) write_failed: u64,
    pub(crate) write_failed_after: u64,
    pub(crate) slow_disk: u64,
    pub(crate) log_failed: u64,
    pub(crate) store_failed: u64,
    pub(crate) append_lost: u64,
    pub(crate) stream_broken: u64,
    pub(crate) kill_before_write: u64,
    pub(crate) kill_after_write: u64,
    pub(crate) disk_full: u64,
    pub(crate) not_clean: u64,
    pub(crate) maintnerd_down: u64,
    pub(crate) mirror_down: u64,
    pub(crate) reviews_down: u64,
    pub(crate) review_answer_lost: u64,
}
