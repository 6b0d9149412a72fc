//! Who leads: a row with an epoch that only grows, and a beat that its leader counts up.
//!
//! Whoever wants to lead and sees the same epoch and beat for [`LEASE`] of its own time counts the epoch up: that is
//! the new leader. No two clocks are compared. The old leader may not have noticed; so each transaction that writes
//! takes a lock on the row of its epoch, which the change of an epoch waits for. A transaction of an earlier epoch finds
//! no such row, and nothing of it is done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Link, Session};
use crate::{ReadError, error::Engine};

/// One row. The epoch is its key, so that changing it takes the lock that readers of the key hold off, and counting the
/// beat does not.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS leader (
    epoch BIGINT NOT NULL PRIMARY KEY,
    one BIGINT NOT NULL UNIQUE DEFAULT 1 CHECK (one = 1),
    beat BIGINT NOT NULL,
    holder TEXT NOT NULL
);
ALTER TABLE leader ADD COLUMN IF NOT EXISTS address TEXT NOT NULL DEFAULT '';
INSERT INTO leader (epoch, beat, holder) VALUES (0, 0, '') ON CONFLICT (one) DO NOTHING;
";

/// Begins a transaction of an epoch: one row, the transaction's number, or none if the epoch is over.
pub(super) const FENCE: &str =
    "SELECT CAST(pg_current_xact_id() AS TEXT) AS transaction FROM leader WHERE epoch = $1 FOR KEY SHARE";

const LOOK: &str = "SELECT epoch, beat, holder, address FROM leader";
const TAKE: &str =
    "UPDATE leader SET epoch = epoch + 1, beat = 0, holder = $3, address = $4 WHERE epoch = $1 AND beat = $2";
const BEAT: &str = "UPDATE leader SET beat = beat + 1 WHERE epoch = $1";
const GIVE_UP: &str = "UPDATE leader SET holder = '', address = '' WHERE epoch = $1";

/// A leader that is silent for so long is one no more.
const LEASE: Duration = Duration::from_secs(3);
/// How often a leader says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How often others look.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Our time as the leader.
pub(crate) struct Term {
    link: Arc<Link>,
    closing: CancellationToken,
    /// The epoch that is ours; 0 before there is one.
    epoch: AtomicU64,
    /// Cancelled when another leads.
    over: CancellationToken,
}

impl Term {
    pub(super) fn new(link: Arc<Link>, closing: CancellationToken) -> Self {
        Self { link, closing, epoch: AtomicU64::new(0), over: CancellationToken::new() }
    }

    /// The epoch to write in; none if we do not lead.
    pub(super) fn epoch(&self) -> Option<i64> {
        let epoch = self.epoch.load(Ordering::Acquire);
        (epoch > 0 && !self.over.is_cancelled()).then_some(epoch as i64)
    }

    /// Another leads.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// Waits until we lead; says the epoch. None when the database is closed meanwhile. Once it has answered,
    /// [`Term::beat`] must run. `own` is the address that others are told; meanwhile `leader` is told that of who leads,
    /// and nothing when nobody else does.
    pub(crate) async fn win(&self, own: &str, leader: &watch::Sender<String>) -> Option<u64> {
        // For people.
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let we = Candidate { holder: format!("process {} of {machine}", std::process::id()), own, leader };
        let mut session = None;
        let mut seen = Seen { epoch: -1, beat: -1, holder: String::new(), since: Instant::now() };
        loop {
            match self.try_to_win(&mut session, &mut seen, &we).await {
                Ok(Some(epoch)) => {
                    self.epoch.store(epoch, Ordering::Release);
                    return Some(epoch);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("cannot see who leads at {}: {error}", self.link.name());
                    session = None;
                }
            }
            tokio::select! {
                () = self.closing.cancelled() => return None,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn try_to_win(
        &self,
        session: &mut Option<Session>,
        seen: &mut Seen,
        we: &Candidate<'_>,
    ) -> Result<Option<u64>, ReadError> {
        let session = connected(&self.link, session).await?;
        let rows = session.query(LOOK, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (epoch, beat, leader) = (row.int("epoch")?, row.int("beat")?, row.text("holder")?);
        if (epoch, beat) != (seen.epoch, seen.beat) || leader != seen.holder {
            if leader != seen.holder && !leader.is_empty() {
                tracing::info!("waiting to lead: {leader} does");
            }
            we.sees(leader, row.text("address")?);
            *seen = Seen { epoch, beat, holder: leader.to_owned(), since: Instant::now() };
        }
        if !leader.is_empty() && seen.since.elapsed() < LEASE {
            return Ok(None);
        }
        let taken = session
            .execute(TAKE, &[epoch.into(), beat.into(), we.holder.as_str().into(), we.own.into()])
            .await?;
        Ok((taken == 1).then_some(epoch as u64 + 1))
    }

    /// Says again and again that we are there, until another leads or the database is closed; then gives up the lead,
    /// so that nobody has to wait for it.
    pub(crate) async fn beat(&self, written: CancellationToken) {
        let mut session = None;
        loop {
            tokio::select! {
                () = written.cancelled() => break,
                () = self.over.cancelled() => return,
                () = sleep(BEAT_EVERY) => {}
            }
            let Some(epoch) = self.epoch() else { return };
            match self.try_statement(&mut session, BEAT, epoch).await {
                Ok(0) => self.end(),
                Ok(_) => {}
                Err(error) => {
                    // Whoever takes over meanwhile is found by the next transaction.
                    tracing::warn!("cannot keep the lead at {}: {error}", self.link.name());
                    session = None;
                }
            }
        }
        if let Some(epoch) = self.epoch()
            && let Err(error) = self.try_statement(&mut session, GIVE_UP, epoch).await
        {
            tracing::debug!("the lead at {} ends by itself: {error}", self.link.name());
        }
    }

    async fn try_statement(
        &self,
        session: &mut Option<Session>,
        sql: &'static str,
        epoch: i64,
    ) -> Result<u64, Engine> {
        connected(&self.link, session).await?.execute(sql, &[epoch.into()]).await
    }
}

/// Who wants to lead.
struct Candidate<'a> {
    /// In words.
    holder: String,
    /// Where others reach us.
    own: &'a str,
    leader: &'a watch::Sender<String>,
}

impl Candidate<'_> {
    /// Notes who leads. Our own address in the row is that of an earlier process, which is gone.
    fn sees(&self, holder: &str, address: &str) {
        let other = if holder.is_empty() || address == self.own { "" } else { address };
        self.leader.send_if_modified(|known| {
            let news = *known != other;
            if news {
                other.clone_into(known);
            }
            news
        });
    }
}

/// The row as it was last seen to change, and when.
struct Seen {
    epoch: i64,
    beat: i64,
    holder: String,
    since: Instant,
}

/// The connection, made anew if need be.
pub(super) async fn connected<'a>(
    link: &Link,
    session: &'a mut Option<Session>,
) -> Result<&'a mut Session, Engine> {
    if session.as_ref().is_none_or(Session::is_closed) {
        *session = None;
    }
    match session {
        Some(session) => Ok(session),
        None => Ok(session.insert(link.connect().await?)),
    }
}
