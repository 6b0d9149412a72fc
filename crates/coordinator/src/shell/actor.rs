//! The one task that owns the state. It takes all waiting events, steps through them, writes their rows in one batch
//! and then performs what they want: group commit, and nothing is done before it is durable (architecture.md D4), except
//! that a machine may begin to fetch, which leaves nothing behind.

use std::{sync::Arc, time::Duration};

use runtime::SharedClock;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use types::{BuildNumber, Timestamp};

use super::{Hub, Performer};
use crate::{
    core::{Accept, Action, Arrival, Event, Mutation, Row, Stamp, State, step},
    ports::{Buildlet, NewId, Records, RecordsError, Witness},
};

/// How many messages may wait. Whoever sends more waits, so that a flood slows its source and nothing else.
const QUEUE: usize = 1024;
/// How many are taken in one go.
const BATCH: usize = 256;
/// How long rows that nothing waits for may stay in memory.
const LAZY: Duration = Duration::from_millis(100);
/// How long to wait before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The coordinator is shutting down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub(crate) struct Stopped;

/// What the actor is told or asked.
pub(super) enum Message {
    Event(Event),
    Accept(Accept, oneshot::Sender<Vec<BuildNumber>>),
    Connect(Box<Link>),
    Ask(Box<dyn FnOnce(&State) + Send>),
}

/// A machine that has connected, with the way to call it.
pub(super) struct Link {
    pub(super) arrival: Arrival,
    pub(super) buildlet: Arc<dyn Buildlet>,
    pub(super) closed: CancellationToken,
}

/// The only way in. Clones lead to the same state.
#[derive(Clone)]
pub(crate) struct Handle {
    sender: mpsc::Sender<Message>,
}

impl Handle {
    /// Tells what has happened.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.sender.send(Message::Event(event)).await.map_err(|_| Stopped)
    }

    pub(super) async fn connect(&self, link: Link) -> Result<(), Stopped> {
        self.sender.send(Message::Connect(Box::new(link))).await.map_err(|_| Stopped)
    }

    /// Asks for builds. Answers once they are durable.
    pub(crate) async fn accept(&self, accept: Accept) -> Result<Vec<BuildNumber>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Message::Accept(accept, reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Looks at the state. `look` must be quick: everything waits meanwhile.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let look = move |state: &State| {
            let _ = reply.send(look(state));
        };
        self.sender.send(Message::Ask(Box::new(look))).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// What the actor stands on.
pub(crate) struct Ground {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) clock: SharedClock,
    pub(crate) new_id: NewId,
    pub(crate) witness: Arc<dyn Witness>,
    pub(crate) mutation: Option<Mutation>,
}

/// Owns the state.
pub(crate) struct Actor {
    state: State,
    receiver: mpsc::Receiver<Message>,
    ground: Ground,
    hub: Hub,
    performer: Performer,
    /// Rows that are not written yet, and since when the first of them waits.
    pending: Vec<Row>,
    pending_since: Option<Instant>,
    /// Whether what follows from the pending rows must wait for them.
    urgent: bool,
    next_token: u64,
}

impl Actor {
    /// The way in, and its receiver for [`Actor::new`].
    pub(crate) fn channel() -> (Handle, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Handle { sender }, Inbox(receiver))
    }

    /// An actor over a restored state.
    pub(crate) fn new(state: State, inbox: Inbox, ground: Ground, performer: Performer) -> Self {
        Self {
            state,
            receiver: inbox.0,
            ground,
            hub: performer.hub(),
            performer,
            pending: Vec::new(),
            pending_since: None,
            urgent: false,
            next_token: 0,
        }
    }

    /// Runs until shutdown; then what is pending is written.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut messages = Vec::with_capacity(BATCH);
        self.performer.resume(&self.state);
        loop {
            let deadline = self.deadline();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = self.receiver.recv_many(&mut messages, BATCH) => {}
                () = timer => {}
            }
            self.turn(&mut messages, &shutdown).await?;
        }
        self.persist(&shutdown).await
    }

    /// When something is to be done if nothing comes in.
    fn deadline(&self) -> Option<Instant> {
        let wake = self.state.next_wake().map(|at| Instant::now() + at.since(self.ground.clock.now()));
        let flush = self.pending_since.map(|since| since + LAZY);
        wake.into_iter().chain(flush).min()
    }

    async fn turn(
        &mut self,
        messages: &mut Vec<Message>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut actions = Vec::new();
        let mut asks = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Event(event) => self.step(event, &mut actions),
                Message::Accept(mut accept, reply) => {
                    self.next_token += 1;
                    accept.token = self.next_token;
                    self.performer.expect(self.next_token, reply);
                    self.step(Event::Accept(accept), &mut actions);
                }
                Message::Connect(link) => {
                    let Link { arrival, buildlet, closed } = *link;
                    self.performer.link(&arrival, buildlet, closed);
                    self.step(Event::Connected(arrival), &mut actions);
                }
                Message::Ask(ask) => asks.push(ask),
            }
        }
        if self.state.next_wake().is_some_and(|at| at <= self.ground.clock.now()) {
            self.step(Event::Tick, &mut actions);
        }
        let due = self.pending_since.is_some_and(|since| since.elapsed() >= LAZY);
        if self.urgent || due || actions.iter().any(Action::is_final) {
            self.begin_early(&mut actions);
            self.persist(shutdown).await?;
        }
        for action in actions {
            self.performer.perform(action, &self.state);
        }
        for ask in asks {
            ask(&self.state);
        }
        Ok(())
    }

    /// Performs while the rows are being written what need not wait for them, but for its fence; and what must wait, if
    /// that bug is put in.
    fn begin_early(&mut self, actions: &mut Vec<Action>) {
        let planted = self.ground.mutation;
        let fenced = !self.pending.iter().any(|row| matches!(row, Row::Fence(_)));
        let early = |action: &mut Action| match action {
            Action::Reply { .. } => Mutation::ReplyFirst.is(planted),
            Action::Run(_) => (fenced && action.is_harmless()) || Mutation::ActFirst.is(planted),
            _ => false,
        };
        for action in actions.extract_if(.., early) {
            self.performer.perform(action, &self.state);
        }
    }

    fn step(&mut self, event: Event, actions: &mut Vec<Action>) {
        let stamp = Stamp { now: self.ground.clock.now(), seed: (self.ground.new_id)() };
        self.ground.witness.before(&self.state, &event);
        let effects = step(&mut self.state, event, stamp);
        self.ground.witness.after(&self.state, &effects);
        if !effects.rows.is_empty() {
            self.urgent |= effects.rows.iter().any(Row::is_intent);
            self.pending_since.get_or_insert_with(Instant::now);
            self.pending.extend(effects.rows);
        }
        actions.extend(effects.actions);
    }

    /// Makes all rows durable. While the disk or the server fails, nothing is done and everybody waits: what was promised is kept.
    async fn persist(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        self.urgent = false;
        self.pending_since = None;
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.pending);
        let mut failed = false;
        loop {
            match self.ground.records.write(&rows).await {
                Ok(()) => break,
                Err(error @ RecordsError::Unavailable(_))
                    if !shutdown.is_cancelled() && !Mutation::GiveUp.is(self.ground.mutation) =>
                {
                    if !failed {
                        error!("the farm stands still: its database cannot be written: {error}");
                        let now: Timestamp = self.ground.clock.now();
                        let text = format!("the database cannot be written: {error}");
                        self.hub.problem(
                            "database",
                            text,
                            "free disk space, mend the disk, or see that the database server runs",
                            now,
                        );
                    }
                    failed = true;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error @ RecordsError::Overtaken(_)) => {
                    return Err(runtime::Failure::Unavailable.of(error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if failed {
            info!("the database can be written again");
            self.hub.solved("database");
        }
        Ok(())
    }
}

/// What the actor receives.
pub(crate) struct Inbox(mpsc::Receiver<Message>);
