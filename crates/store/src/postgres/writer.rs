//! The one task that writes.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Link, Session, Term,
    leader::{FENCE, connected},
};
use crate::{
    WriteError,
    batch::Statement,
    error::Engine,
    group::{Group, Groups, Outcomes},
};

/// Between looks at what became of a commit whose answer was lost.
const AGAIN: Duration = Duration::from_millis(500);

struct Writer {
    link: Arc<Link>,
    /// The connection, while no transaction has it.
    session: Option<Session>,
    term: Arc<Term>,
    closing: CancellationToken,
}

/// One that has begun. Its statements go to its own connection alone: with another they would each be a transaction of
/// their own that no epoch fences. Dropped, it is undone by the server.
struct Transaction {
    number: String,
    session: Session,
}

/// Runs until the queue is closed and empty.
pub(super) async fn run(
    link: Arc<Link>,
    session: Session,
    mut groups: Groups,
    term: Arc<Term>,
    closing: CancellationToken,
) {
    let mut writer = Writer { link, session: Some(session), term, closing };
    while let Some(group) = groups.next().await {
        let outcomes = writer.commit(&group).await;
        groups.answer(group, outcomes);
    }
}

impl Writer {
    async fn commit(&mut self, group: &Group) -> Outcomes {
        let error = match self.together(group).await {
            Ok(()) => return group.batches().map(|_| Ok(())).collect(),
            Err(error) => error,
        };
        if group.batches().len() == 1 {
            return vec![Err(error)];
        }
        let each = match error {
            WriteError::NotLeader => Err(error),
            _ => self.each_for_itself(group).await,
        };
        match each {
            Ok(outcomes) => outcomes,
            Err(error) => group.batches().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn together(&mut self, group: &Group) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        let statements = group.batches().flat_map(|batch| &batch.statements);
        let done = transaction.session.execute_all(statements.clone()).await;
        match check(statements, done) {
            Ok(()) => self.end(transaction).await,
            Err(error) => {
                self.undo(transaction.session).await;
                Err(error)
            }
        }
    }

    async fn each_for_itself(&mut self, group: &Group) -> Result<Outcomes, WriteError> {
        let mut transaction = self.begin().await?;
        let session = &mut transaction.session;
        let mut outcomes = Vec::with_capacity(group.batches().len());
        for batch in group.batches() {
            session.batch("SAVEPOINT batch").await?;
            let done = session.execute_all(batch.statements.iter()).await;
            let checked = check(batch.statements.iter(), done);
            session
                .batch(if checked.is_ok() { "RELEASE batch" } else { "ROLLBACK TO batch; RELEASE batch" })
                .await?;
            outcomes.push(checked);
        }
        self.end(transaction).await?;
        Ok(outcomes)
    }

    /// Begins a transaction of our epoch.
    async fn begin(&mut self) -> Result<Transaction, WriteError> {
        let epoch = self.term.epoch().ok_or(WriteError::NotLeader)?;
        let mut session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.link.connect().await?,
        };
        if let Some(number) = session.begin(FENCE, epoch).await? {
            return Ok(Transaction { number, session });
        }
        self.term.end();
        self.undo(session).await;
        Err(WriteError::NotLeader)
    }

    /// Makes a transaction durable, or undoes it.
    async fn end(&mut self, Transaction { number, session }: Transaction) -> Result<(), WriteError> {
        match session.batch("COMMIT").await {
            Ok(()) => {
                self.session = Some(session);
                Ok(())
            }
            Err(error) if error.is_lost() => self.settle(&number, error).await,
            Err(error) => {
                self.undo(session).await;
                Err(error.into())
            }
        }
    }

    async fn undo(&mut self, session: Session) {
        if session.batch("ROLLBACK").await.is_ok() {
            self.session = Some(session);
        }
    }

    /// The connection was lost before it was known whether a transaction is durable: asks until it is known.
    async fn settle(&mut self, transaction: &str, lost: Engine) -> Result<(), WriteError> {
        loop {
            self.session = None;
            match self.status(transaction).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(lost.into()),
                Ok(None) => {}
                Err(error) => tracing::warn!("what became of a commit is not known yet: {error}"),
            }
            tokio::select! {
                () = self.closing.cancelled() => return Err(lost.into()),
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// Whether a transaction was committed; none while the server has not ended it.
    async fn status(&mut self, transaction: &str) -> Result<Option<bool>, Engine> {
        let session = connected(&self.link, &mut self.session).await?;
        let sql = "SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8)) AS status";
        let status = session.text(sql, &[transaction.into()]).await?;
        Ok(match status.as_deref() {
            Some("committed") => Some(true),
            Some("in progress") => None,
            _ => Some(false),
        })
    }
}

/// What statements came to, all of them or up to the first that failed.
fn check<'a>(
    statements: impl Iterator<Item = &'a Statement>,
    done: Vec<Result<u64, Engine>>,
) -> Result<(), WriteError> {
    for (index, (statement, done)) in statements.zip(done).enumerate() {
        let number = index + 1;
        let changed = done.map_err(|source| failure(number, source))?;
        if statement.changes.is_some_and(|wanted| wanted != changed) {
            return Err(WriteError::Conflict { statement: number, changed });
        }
    }
    Ok(())
}

fn failure(statement: usize, source: Engine) -> WriteError {
    if source.is_constraint() { WriteError::Constraint { statement, source } } else { source.into() }
}
