//! The one writer of a database: group commit.
//!
//! Durability costs a flush of the disk, whatever is flushed. So all batches that wait are done in one transaction. If
//! one of them fails, the transaction is undone and done again with a savepoint for each, so that it fails alone.

use sqlx::{Connection, SqliteConnection, sqlite::SqliteArguments};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{Batch, Value, WriteError, lock::Lock};

/// The most batches of one transaction: bounds how long the first of them waits for the last.
const MAX_GROUP: usize = 256;
/// The most bytes of one transaction, roughly.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// A batch that waits, and who waits for it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) batch: Batch,
    pub(crate) done: oneshot::Sender<Result<(), WriteError>>,
}

/// Runs until the queue is closed and empty. Holds the lock until the file is closed.
pub(crate) async fn run(
    mut connection: SqliteConnection,
    lock: Lock,
    mut queue: mpsc::Receiver<Submission>,
    closing: CancellationToken,
) {
    let meter = runtime::telemetry::meter();
    let seconds = meter.f64_histogram("store.commit.seconds").with_unit("s").build();
    let batches = meter.u64_histogram("store.commit.batches").build();
    loop {
        let first = tokio::select! {
            biased;
            first = queue.recv() => first,
            () = closing.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        let Some(first) = first else { break };
        let mut bytes = first.batch.bytes();
        let mut group = vec![first];
        while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.batch.bytes();
            group.push(next);
        }
        batches.record(group.len() as u64, &[]);
        let start = Instant::now();
        commit(&mut connection, group).await;
        seconds.record(start.elapsed().as_secs_f64(), &[]);
    }
    if let Err(error) = connection.close().await {
        tracing::warn!("failed to close the database: {error}");
    }
    drop(lock);
}

async fn commit(connection: &mut SqliteConnection, group: Vec<Submission>) {
    let outcomes = match together(connection, &group).await {
        Ok(()) => group.iter().map(|_| Ok(())).collect(),
        Err(error) if group.len() == 1 => vec![Err(error)],
        Err(_) => each_for_itself(connection, &group).await,
    };
    for (submission, outcome) in group.into_iter().zip(outcomes) {
        // Nobody may be left to hear it; the batch is done all the same.
        let _ = submission.done.send(outcome);
    }
}

async fn each_for_itself(
    connection: &mut SqliteConnection,
    group: &[Submission],
) -> Vec<Result<(), WriteError>> {
    if let Ok(outcomes) = with_savepoints(connection, group).await {
        return outcomes;
    }
    // The transaction itself cannot be done, for example because the disk is full: what fits still is.
    let mut outcomes = Vec::with_capacity(group.len());
    for submission in group {
        outcomes.push(together(connection, std::slice::from_ref(submission)).await);
    }
    outcomes
}

async fn together(connection: &mut SqliteConnection, group: &[Submission]) -> Result<(), WriteError> {
    let mut transaction = connection.begin().await.map_err(WriteError::Engine)?;
    for submission in group {
        execute(&mut transaction, &submission.batch).await?;
    }
    transaction.commit().await.map_err(WriteError::Engine)
}

async fn with_savepoints(
    connection: &mut SqliteConnection,
    group: &[Submission],
) -> sqlx::Result<Vec<Result<(), WriteError>>> {
    let mut transaction = connection.begin().await?;
    let mut outcomes = Vec::with_capacity(group.len());
    for submission in group {
        let mut savepoint = transaction.begin().await?;
        let outcome = execute(&mut savepoint, &submission.batch).await;
        if outcome.is_ok() {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
        outcomes.push(outcome);
    }
    transaction.commit().await?;
    Ok(outcomes)
}

async fn execute(connection: &mut SqliteConnection, batch: &Batch) -> Result<(), WriteError> {
    for (index, statement) in batch.statements.iter().enumerate() {
        let number = index + 1;
        let args = arguments(&statement.args).map_err(WriteError::Engine)?;
        let done = sqlx::query_with(statement.sql, args).execute(&mut *connection).await;
        let changed = done.map_err(|source| failure(number, source))?.rows_affected();
        if statement.changes.is_some_and(|wanted| wanted != changed) {
            return Err(WriteError::Conflict { statement: number, changed });
        }
    }
    Ok(())
}

fn failure(statement: usize, source: sqlx::Error) -> WriteError {
    let constraint = source.as_database_error().is_some_and(|error| {
        error.is_unique_violation()
            || error.is_foreign_key_violation()
            || error.is_check_violation()
            || error.kind() == sqlx::error::ErrorKind::NotNullViolation
    });
    if constraint { WriteError::Constraint { statement, source } } else { WriteError::Engine(source) }
}

/// The values as sqlx binds them.
pub(crate) fn arguments(values: &[Value]) -> sqlx::Result<SqliteArguments> {
    use sqlx::Arguments;
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(value) => arguments.add(*value),
            Value::Real(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.clone()),
            Value::Blob(value) => arguments.add(value.to_vec()),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
