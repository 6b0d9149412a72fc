//! Counts what happens, keeps the last of it, and notes the first invariant that is broken.

use std::{
    collections::VecDeque,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use types::BuildNumber;

use crate::{
    context::{Context, lock},
    coverage::Coverage,
    fault::Fault,
};

/// How many of the last events are kept.
const LAST: usize = 60;

/// What must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Accepted work ends in exactly one terminal state; none is lost, none reported twice.
    Once,
    /// At most one live lease per machine; a stale lease holder can do nothing.
    Lease,
    /// Nothing is done before its intent is durable.
    Durable,
    /// Log bytes received equal log bytes stored.
    Logs,
    /// No pending item without a reason, no idle machine beside waiting work, retries within budget.
    Waits,
    /// An outcome says what the commands did: a fault of the farm is never a failure, nor a success.
    Truth,
    /// When faults stop, the queue drains.
    Drains,
    /// No part fails because another did.
    Alive,
    /// A vote names the patch set that was tried, and is cast at most once, as is all that is said of it.
    Vote,
}

impl Invariant {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Once,
        Self::Lease,
        Self::Durable,
        Self::Logs,
        Self::Waits,
        Self::Truth,
        Self::Drains,
        Self::Alive,
        Self::Vote,
    ];
}

/// An invariant was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// After how many steps of the core.
    pub step: u64,
}

/// The judge of one world.
pub(crate) struct Judge {
    steps: AtomicU64,
    calls: AtomicU64,
    failed: AtomicBool,
    inner: Mutex<Inner>,
    /// All events are printed as they happen, not only the last kept.
    trace: bool,
}

#[derive(Default)]
struct Inner {
    violation: Option<Violation>,
    last: VecDeque<Note>,
    coverage: Coverage,
    /// Builds whose results the mutation log has.
    results: std::collections::BTreeSet<BuildNumber>,
    digest: u64,
}

/// What happened, and when. It becomes words when somebody reads it: nearly all are forgotten unread.
struct Note {
    at: Duration,
    text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  {}", self.at.as_secs_f64(), self.text)
    }
}

impl Judge {
    pub(crate) fn new(trace: bool) -> Self {
        Self {
            steps: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            inner: Mutex::default(),
            trace,
        }
    }

    /// An invariant does not hold.
    pub(crate) fn broken(&self, invariant: Invariant, what: String) {
        let step = self.steps();
        self.failed.store(true, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        if self.trace {
            say(&format!("BROKEN {invariant:?}: {what}"));
        }
        inner.violation.get_or_insert(Violation { invariant, what, step });
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.inner).violation.clone()
    }

    /// A fault took effect.
    pub(crate) fn fault(&self, fault: Fault) {
        let mut inner = lock(&self.inner);
        inner.coverage.fault(fault);
        if self.trace {
            say(&format!("fault {fault:?}"));
        }
    }

    pub(crate) fn faults(&self) -> u64 {
        lock(&self.inner).coverage.faults()
    }

    /// Something of the world was called.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// The core is about to step.
    pub(crate) fn step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Keeps a line of what happened.
    pub(crate) fn note(&self, context: &Context, line: impl FnOnce() -> String) {
        let line = Note { at: context.elapsed(), text: line() };
        let mut inner = lock(&self.inner);
        let mut digest = DefaultHasher::new();
        (inner.digest, line.at, &line.text).hash(&mut digest);
        inner.digest = digest.finish();
        if self.trace {
            say(&line.to_string());
        }
        if inner.last.len() == LAST {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// Whether everything is printed.
    pub(crate) fn is_tracing(&self) -> bool {
        self.trace
    }

    /// A number that two runs of a seed share.
    pub(crate) fn digest(&self) -> u64 {
        lock(&self.inner).digest
    }

    pub(crate) fn last(&self) -> Vec<String> {
        lock(&self.inner).last.iter().map(Note::to_string).collect()
    }

    /// The mutation log has a result.
    pub(crate) fn result(&self, build: BuildNumber) {
        lock(&self.inner).results.insert(build);
    }

    pub(crate) fn has_result(&self, build: BuildNumber) -> bool {
        lock(&self.inner).results.contains(&build)
    }

    pub(crate) fn cover(&self, cover: impl FnOnce(&mut Coverage)) {
        cover(&mut lock(&self.inner).coverage);
    }

    pub(crate) fn coverage(&self) -> Coverage {
        lock(&self.inner).coverage.clone()
    }
}

/// Says a line to whoever runs the simulator.
#[expect(clippy::print_stdout, reason = "a developer's tool talks to the terminal")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
