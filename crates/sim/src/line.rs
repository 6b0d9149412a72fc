//! The network between coordinator and machines: the buildlet's port over a connection that loses, repeats, delays
//! and breaks; and the buildlet's end of it, which dials again and again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use buildlet_client::{Error, ExecEvent, ExecSpec, Fetched, Lease, Status};
use bytes::Bytes;
use coordinator::ports::Buildlet;
use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::ExecId;

use crate::{
    context::lock,
    fault::Fault,
    machine::{Machine, Process},
    world::World,
};

/// How long the end of a silent connection takes to be noticed.
const SILENCE: Duration = Duration::from_secs(6);
/// How long a buildlet goes on without a coordinator.
const ABANDONED: Duration = Duration::from_mins(4);

/// One connection of a machine.
#[derive(Clone)]
struct Line {
    world: Arc<World>,
    process: Arc<Process>,
    machine: Arc<Machine>,
    closed: CancellationToken,
    /// As of the real one: it is closed when nobody is left who could call over it.
    _open: Arc<DropGuard>,
}

fn gone() -> Error {
    Error::Unavailable("the connection broke".to_owned())
}

type Work<T> = Box<dyn Fn(Arc<Process>) -> BoxFuture<'static, Result<T, Error>> + Send + Sync>;

impl Line {
    /// Waits while nothing comes through; an error when the connection has ended.
    async fn pass(&self) -> Result<(), Error> {
        let context = &self.world.context;
        let slow = context.strikes(Fault::Delayed, |weather| weather.delayed);
        let (low, high) = if slow { (200, 3000) } else { (0, 6) };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(gone()),
            () = context.pause(low, high) => {}
        }
        while lock(&self.machine.network).cut && !self.closed.is_cancelled() {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
            }
        }
        if self.closed.is_cancelled() { Err(gone()) } else { Ok(()) }
    }

    /// Has something done at the other end. It is done there whether or not we still listen.
    async fn call<T: Send + 'static>(&self, work: Work<T>) -> Result<T, Error> {
        let context = &self.world.context;
        context.judge.call();
        self.pass().await?;
        if context.strikes(Fault::RequestLost, |weather| weather.request_lost) {
            context.pause(10, 2000).await;
            return Err(gone());
        }
        let repeated = context.strikes(Fault::Duplicated, |weather| weather.duplicated);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let process = Arc::clone(&self.process);
        self.process.tasks.job("call", async move {
            let done = work(Arc::clone(&process)).await;
            let done = if repeated { work(process).await } else { done };
            let _ = sender.send(done);
        });
        let done = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(gone()),
            done = receiver => done.unwrap_or_else(|_| Err(gone()))?,
        };
        self.pass().await?;
        if context.strikes(Fault::AnswerLost, |weather| weather.answer_lost) {
            return Err(gone());
        }
        Ok(done)
    }
}

#[async_trait]
impl Buildlet for Line {
    async fn status(&self) -> Result<Status, Error> {
        self.call(Box::new(|process| Box::pin(async move { Ok(process.status()) }))).await
    }

    async fn start_exec(&self, lease: Lease, exec: ExecId, spec: &ExecSpec) -> Result<(), Error> {
        let spec = Arc::new(spec.clone());
        self.call(Box::new(move |process| {
            let spec = Arc::clone(&spec);
            Box::pin(async move { process.start_exec(lease, exec, &spec).await })
        }))
        .await
    }

    async fn watch_exec(
        &self,
        exec: ExecId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<ExecEvent, Error>>, Error> {
        let found = self.call(Box::new(move |process| Box::pin(async move { process.find(exec) }))).await?;
        let state = (self.clone(), found, offset, false);
        Ok(futures_util::stream::unfold(state, |(line, exec, offset, over)| async move {
            if over {
                return None;
            }
            let next = tokio::select! {
                biased;
                () = line.closed.cancelled() => Err(gone()),
                next = exec.after(offset) => next,
            };
            let arrived = match next {
                Ok(next) => line.pass().await.map(|()| next),
                Err(error) => Err(error),
            };
            let broken = line.world.context.strikes(Fault::AnswerLost, |weather| weather.answer_lost);
            Some(match arrived {
                _ if broken => (Err(gone()), (line, exec, offset, true)),
                Err(error) => (Err(error), (line, exec, offset, true)),
                Ok(Ok(data)) => {
                    let next = offset + data.len() as u64;
                    (Ok(ExecEvent::Output { offset, data }), (line, exec, next, false))
                }
                Ok(Err(end)) => (Ok(ExecEvent::Ended(end)), (line, exec, offset, true)),
            })
        })
        .boxed())
    }

    async fn acknowledge(&self, exec: ExecId, offset: u64) -> Result<(), Error> {
        self.call(Box::new(move |process| Box::pin(async move { process.acknowledge(exec, offset) }))).await
    }

    async fn fetch_tree(&self, lease: Lease, url: &str, _folder: &str) -> Result<Fetched, Error> {
        let url: Arc<str> = url.into();
        self.call(Box::new(move |process| {
            let url = Arc::clone(&url);
            Box::pin(async move { process.fetch(lease, &url).await })
        }))
        .await
    }

    async fn read_tree(
        &self,
        lease: Lease,
        _exclude: &[String],
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let whole = self
            .call(Box::new(move |process| Box::pin(async move { process.read_tree(lease).await })))
            .await?;
        Ok(futures_util::stream::once(async move { Ok(whole) }).boxed())
    }

    async fn empty(&self, lease: Lease) -> Result<(), Error> {
        self.call(Box::new(move |process| Box::pin(async move { process.empty(lease).await }))).await
    }

    async fn end_lease(&self, lease: Lease) -> Result<(), Error> {
        self.call(Box::new(move |process| Box::pin(async move { process.end_lease(lease).await }))).await
    }
}

/// A machine's life: its buildlet is started again whenever it ended, and dials whenever it is not connected.
pub(crate) async fn live(world: Arc<World>, machine: Arc<Machine>) {
    loop {
        let process = machine.boot(&world);
        world.context.judge.note(&world.context, || format!("buildlet of {} started", machine.name));
        tokio::select! {
            biased;
            () = process.ended.cancelled() => {}
            () = dial(&world, &machine, &process) => {}
        }
        machine.kill();
        world.context.pause(200, 6000).await;
    }
}

/// Connects, and again when the connection has ended.
async fn dial(world: &Arc<World>, machine: &Arc<Machine>, process: &Arc<Process>) {
    let mut heard = tokio::time::Instant::now();
    loop {
        let way = if lock(&machine.network).cut { None } else { world.seat.connect() };
        if let Some((coordinator, closed)) = way {
            lock(&machine.network).closed = Some(closed.clone());
            let line = Line {
                world: Arc::clone(world),
                process: Arc::clone(process),
                machine: Arc::clone(machine),
                closed: closed.clone(),
                _open: Arc::new(closed.clone().drop_guard()),
            };
            coordinator.connect(
                machine.name.clone(),
                machine.host_types.clone(),
                Arc::new(line),
                closed.clone(),
            );
            closed.cancelled().await;
            heard = tokio::time::Instant::now();
        } else if heard.elapsed() > ABANDONED {
            process.abandon();
            heard = tokio::time::Instant::now();
        }
        world.context.pause(50, 900).await;
    }
}

/// Cuts a machine off for a while.
pub(crate) async fn cut(machine: Arc<Machine>, lasts: Duration) {
    let closed = {
        let mut network = lock(&machine.network);
        network.cut = true;
        network.closed.clone()
    };
    tokio::time::sleep(lasts.min(SILENCE)).await;
    if lasts > SILENCE {
        if let Some(closed) = closed {
            closed.cancel();
        }
        tokio::time::sleep(lasts.saturating_sub(SILENCE)).await;
    }
    lock(&machine.network).cut = false;
}
