//! The events of the last hour, in memory. Readers follow it at their own speed by position; one that falls behind what
//! is held is told so. Nobody is queued for, so any number of readers costs nothing.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::events::Event;
use tokio::sync::watch;
use types::Timestamp;

/// Events are held at least so long.
const HELD: Duration = Duration::from_hours(1);
/// At least so many events are held, however old.
const LEAST: usize = 50;
/// At most so many events are held, however young.
const MOST: usize = 10_000;

/// A place in the log: after so many events of this run of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Random; another one after each start, as events do not survive it.
    run: u64,
    count: u64,
}

/// Not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a resume token of this service")]
pub(crate) struct ParsePositionError(String);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.run, self.count)
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePositionError(text.chars().take(64).collect());
        let (run, count) = text.split_once('.').ok_or_else(error)?;
        let run = u64::from_str_radix(run, 16).map_err(|_| error())?;
        Ok(Self { run, count: count.parse().map_err(|_| error())? })
    }
}

/// What followed a position is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events after this position are gone: treat everything as changed, and watch from now on")]
pub(crate) struct Expired;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Readers get it.
    New,
    /// The same delivery came before.
    Duplicate,
}

/// The log. Clones are the same.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    run: u64,
    held: Mutex<Held>,
    /// How many events there were.
    count: watch::Sender<u64>,
}

#[derive(Default)]
struct Held {
    /// How many events came before the first that is held.
    gone: u64,
    events: VecDeque<Entry>,
    deliveries: HashSet<String>,
}

struct Entry {
    at: Timestamp,
    delivery: String,
    event: Event,
}

impl Log {
    /// Without any events; `run` tells it from that of an earlier start.
    pub(crate) fn new(run: u64) -> Self {
        Self(Arc::new(Inner { run, held: Mutex::default(), count: watch::Sender::new(0) }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, unless the same delivery is held already.
    pub(crate) fn publish(&self, delivery: &str, event: Event, now: Timestamp) -> Published {
        let mut held = self.held();
        if !held.deliveries.insert(delivery.to_owned()) {
            return Published::Duplicate;
        }
        held.events.push_back(Entry { at: now, delivery: delivery.to_owned(), event });
        held.trim(now);
        let count = held.gone + held.events.len() as u64;
        // Under the lock, so that the count never goes back.
        self.0.count.send_replace(count);
        Published::New
    }

    /// The place after the last event.
    pub(crate) fn end(&self) -> Position {
        Position { run: self.0.run, count: *self.0.count.borrow() }
    }

    /// A reader of what follows a position.
    pub(crate) fn read_after(&self, position: Position) -> Result<Reader, Expired> {
        let reader = Reader { log: self.clone(), position, count: self.0.count.subscribe() };
        // A token of an earlier run, or of one to come, says nothing about our events.
        let known = position.run == self.0.run && position.count <= *self.0.count.borrow();
        if !known || position.count < self.held().gone { Err(Expired) } else { Ok(reader) }
    }
}

impl Held {
    fn trim(&mut self, now: Timestamp) {
        let too_many = |held: &Self| held.events.len() > MOST;
        let too_old = |held: &Self| {
            held.events.len() > LEAST && held.events.front().is_some_and(|first| now.since(first.at) > HELD)
        };
        while too_many(self) || too_old(self) {
            if let Some(first) = self.events.pop_front() {
                self.deliveries.remove(&first.delivery);
                self.gone += 1;
            }
        }
    }
}

/// Reads events one after another.
pub(crate) struct Reader {
    log: Log,
    position: Position,
    count: watch::Receiver<u64>,
}

impl Reader {
    /// Where it is: after the last event that it gave.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The next event; waits for it.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Event, Expired> {
        loop {
            {
                let held = self.log.held();
                let at = self.position.count.checked_sub(held.gone).ok_or(Expired)?;
                if let Some(entry) = held.events.get(at as usize) {
                    self.position.count += 1;
                    return Ok(entry.event.clone());
                }
            }
            let position = self.position.count;
            // The sender lives in the log, which we hold.
            let _ = self.count.wait_for(|count| *count > position).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(log: &Log, delivery: u32, minutes: i64) -> Published {
        let now = Timestamp::from_seconds(minutes * 60);
        let received = Some(rpc::timestamp(now));
        log.publish(&delivery.to_string(), Event { received, source: None }, now)
    }

    async fn count(mut reader: Reader) -> usize {
        let mut count = 0;
        while tokio::time::timeout(Duration::ZERO, reader.next()).await.is_ok_and(|event| event.is_ok()) {
            count += 1;
        }
        count
    }

    fn from_start(log: &Log) -> Result<Reader, Expired> {
        log.read_after(Position { run: log.0.run, count: 0 })
    }

    #[tokio::test]
    async fn a_reader_gets_what_follows_its_position() {
        let log = Log::new(7);
        publish(&log, 1, 0);
        let position = log.end();
        publish(&log, 2, 0);
        publish(&log, 3, 0);
        assert_eq!(count(log.read_after(position).unwrap()).await, 2);
        assert_eq!(count(from_start(&log).unwrap()).await, 3);
        assert_eq!(count(log.read_after(log.end()).unwrap()).await, 0);
    }

    #[tokio::test]
    async fn a_delivery_is_published_once_while_it_is_held() {
        let log = Log::new(7);
        assert_eq!(publish(&log, 1, 0), Published::New);
        assert_eq!(publish(&log, 1, 1), Published::Duplicate);
        assert_eq!(count(from_start(&log).unwrap()).await, 1);
    }

    #[tokio::test]
    async fn an_hour_is_held_and_never_less_than_fifty_events() {
        let log = Log::new(7);
        for delivery in 0..60 {
            publish(&log, delivery, 0);
        }
        assert_eq!(count(from_start(&log).unwrap()).await, 60);
        publish(&log, 60, 61);
        assert_eq!(from_start(&log).err(), Some(Expired));
        assert_eq!(count(log.read_after(Position { run: 7, count: 11 }).unwrap()).await, LEAST);
        assert_eq!(publish(&log, 0, 61), Published::New, "what is gone may come again");
    }

    #[tokio::test]
    async fn there_is_a_bound_and_who_falls_behind_it_is_told() {
        let log = Log::new(7);
        let mut slow = from_start(&log).unwrap();
        for delivery in 0..=MOST as u32 {
            publish(&log, delivery, 0);
        }
        assert_eq!(slow.next().await.err(), Some(Expired));
        assert_eq!(log.held().deliveries.len(), MOST);
    }

    #[test]
    fn tokens_of_other_runs_are_expired_and_nonsense_is_none() {
        let log = Log::new(7);
        for position in [Position { run: 6, count: 0 }, Position { run: 7, count: 1 }] {
            assert_eq!(log.read_after(position).err(), Some(Expired));
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "7", "x.1", "7.x", "7.-1", "7.1.2"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
