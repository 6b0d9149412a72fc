//! Records in a schema of a PostgreSQL database, for a coordinator of which several run.
//!
//! One of them leads: only it writes, and each of its transactions proves that it still does (see [`leader`]). All may
//! read. Statements of a group go out together and wait for one answer, so a group costs three round trips however
//! large it is: to begin, for what it does, and to commit.

mod leader;
mod readers;
mod rows;
mod session;
mod writer;

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Migration, OpenError,
    error::Engine,
    group::{self, Queue},
    migrate,
};

pub(crate) use leader::Term;
pub(crate) use readers::Readers;
pub(crate) use session::Link;
use session::Session;

/// Which database, and how it is reached.
#[derive(Clone)]
pub struct Postgres {
    /// As libpq takes it: `postgres://user@host:5432/database?sslmode=require`.
    pub url: String,
    /// The user's password, if it is not part of the URL and one is wanted.
    pub password: Option<SecretString>,
    /// The certificate (PEM) of whoever signed the server's; without it, that must be one that this machine trusts.
    pub ca: Option<PathBuf>,
    /// The schema that holds the tables, made if need be. Each service has its own.
    pub schema: &'static str,
}

/// An open database.
pub(crate) struct Opened {
    pub(crate) queue: Queue,
    pub(crate) readers: Readers,
    pub(crate) term: Arc<Term>,
    /// Holds the writer and the connections' drivers. They are no tasks of the server's: they must outlive every task
    /// that writes, and when they die every write says so.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when the writer has done what waited.
    pub(crate) written: CancellationToken,
}

/// Connects, brings the schema up to `migrations`, and starts the writer. Nothing is written before this process leads.
pub(crate) async fn open(
    options: Postgres,
    migrations: &'static [Migration],
    closing: CancellationToken,
) -> Result<Opened, OpenError> {
    let tracker = TaskTracker::new();
    let link = Arc::new(Link::new(&options, tracker.clone())?);
    let unreachable = |source: Engine| OpenError::Unreachable { database: link.name().to_owned(), source };
    let mut session = link.connect().await.map_err(unreachable)?;
    session.make_schema(options.schema).await.map_err(unreachable)?;
    migrate(&mut session, link.name(), migrations).await?;
    let (queue, groups) = group::queue();
    let term = Arc::new(Term::new(Arc::clone(&link), closing.clone()));
    let written = CancellationToken::new();
    let guard = written.clone().drop_guard();
    let run = writer::run(Arc::clone(&link), session, groups, Arc::clone(&term), closing);
    tracker.spawn(async move {
        run.await;
        drop(guard);
    });
    Ok(Opened { queue, readers: Readers::new(link), term, tracker, written })
}

/// Several processes may do this at once: the first does it, the others find it done.
async fn migrate(session: &mut Session, name: &str, migrations: &[Migration]) -> Result<(), OpenError> {
    let unreachable = |source: Engine| OpenError::Unreachable { database: name.to_owned(), source };
    // The number is ours alone: the first bytes of `farmer`.
    session.batch("BEGIN; SELECT pg_advisory_xact_lock(112555892368754)").await.map_err(unreachable)?;
    session.batch(migrate::VERSION_TABLE).await.map_err(unreachable)?;
    session.batch(leader::TABLE).await.map_err(unreachable)?;
    let found = session.number(migrate::VERSION).await.map_err(unreachable)?;
    for migration in migrate::missing(migrations, found, name)? {
        let failed =
            |source| OpenError::Migration { database: name.to_owned(), version: migration.version, source };
        session.batch(migration.sql).await.map_err(failed)?;
        session.execute(migrate::RECORD, &[i64::from(migration.version).into()]).await.map_err(failed)?;
    }
    session.batch("COMMIT").await.map_err(unreachable)
}

impl std::fmt::Debug for Postgres {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.schema).finish_non_exhaustive()
    }
}
