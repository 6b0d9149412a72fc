//! What every engine of records promises.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::maybe_done, poll};
use store::{Batch, Database, Migration, Row, Value, WriteError, values};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};
use types::{BuildNumber, CommitHash, Outcome, Timestamp};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE thing (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, size DOUBLE PRECISION, data BYTEA);
          CREATE TABLE part (thing BIGINT NOT NULL REFERENCES thing (id), number BIGINT NOT NULL CHECK (number > 0),
              PRIMARY KEY (thing, number));",
}];

pub(crate) async fn database() -> (TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("records.db"), MIGRATIONS).await.unwrap();
    (folder, database)
}

pub(crate) fn thing(id: i64, name: &str) -> Batch {
    let mut batch = Batch::new();
    batch.push("INSERT INTO thing (id, name) VALUES ($1, $2)", values![id, name]);
    batch
}

pub(crate) async fn names(database: &Database) -> Vec<String> {
    let rows = database.read("SELECT name FROM thing ORDER BY id", []).await.unwrap();
    rows.iter().map(|row: &Row| row.text("name").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn sqlite_keeps_the_promises() {
    let (_folder, database) = database().await;
    database.lead("", &watch::Sender::default()).await.unwrap();
    promises(&database).await;
}

/// The suite: an empty database that leads comes, and goes.
pub(crate) async fn promises(database: &Database) {
    values_read_back_as_they_were_written(database).await;
    a_batch_is_whole_or_nothing(database).await;
    a_guarded_statement_is_compare_and_set(database).await;
    what_breaks_a_constraint_says_so(database).await;
    a_batch_that_fails_among_many_fails_alone(database).await;
    a_write_that_returned_is_read(database).await;
    statements_of_many_batches_are_done_in_order(database).await;
}

async fn values_read_back_as_they_were_written(database: &Database) {
    let mut batch = Batch::new();
    let insert = "INSERT INTO thing (id, name, size, data) VALUES ($1, $2, $3, $4)";
    batch.push(insert, values![-7, "näme '; --\n", 2.5, vec![0_u8, 255]]);
    batch.push(insert, values![i64::MAX, "", None::<f64>, None::<Vec<u8>>]);
    database.write(batch).await.unwrap();
    let rows = database.read("SELECT * FROM thing ORDER BY id", []).await.unwrap();
    assert_eq!(rows[0].int("id").unwrap(), -7);
    assert_eq!(rows[0].text("name").unwrap(), "näme '; --\n");
    assert_eq!(rows[0].real("size").unwrap().to_bits(), 2.5_f64.to_bits());
    assert_eq!(&rows[0].blob("data").unwrap()[..], [0, 255]);
    assert_eq!(rows[1].int("id").unwrap(), i64::MAX);
    assert_eq!((rows[1].opt_real("size").unwrap(), rows[1].opt_blob("data").unwrap()), (None, None));
    assert!(rows[0].number::<u64>("id").is_err());
    assert_eq!(rows[0].text("colour").unwrap_err().to_string(), "the row has no column `colour`");
    assert_eq!(
        rows[0].parse::<Outcome>("name").unwrap_err().to_string(),
        "column `name` holds something else: `näme '; --\n` is not an outcome"
    );

    clear(database).await;

    let commit: CommitHash = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let mut batch = Batch::new();
    batch.push(insert, values![Timestamp(5), commit, None::<f64>, Bytes::from_static(b"x")]);
    batch.push(insert, values![BuildNumber(7), Outcome::TimedOut, 1, None::<Bytes>]);
    // What no engine but one can hold is the same in both.
    batch.push(insert, values![true, "a\0b", None::<f64>, None::<Bytes>]);
    database.write(batch).await.unwrap();
    let rows =
        database.read("SELECT id, name, id = 7 AS seven, size FROM thing ORDER BY id", []).await.unwrap();
    assert_eq!(rows[0].text("name").unwrap(), "a\u{fffd}b");
    assert_eq!(rows[1].time("id").unwrap(), Timestamp(5));
    assert_eq!(rows[1].parse::<CommitHash>("name").unwrap(), commit);
    assert_eq!(rows[2].number::<u64>("id").unwrap(), 7);
    assert_eq!(rows[2].parse::<Outcome>("name").unwrap(), Outcome::TimedOut);
    assert!(rows[2].flag("seven").unwrap() && !rows[1].flag("seven").unwrap());
    assert_eq!(rows[2].real("size").unwrap().to_bits(), 1.0_f64.to_bits());
    clear(database).await;
}

async fn a_batch_is_whole_or_nothing(database: &Database) {
    let mut batch = thing(1, "a");
    batch.append(thing(2, "b")).append(thing(3, "a"));
    assert!(database.write(batch).await.unwrap_err().is_conflict());
    assert!(names(database).await.is_empty());
    database.write(Batch::new()).await.unwrap();
}

async fn a_guarded_statement_is_compare_and_set(database: &Database) {
    database.write(thing(1, "old")).await.unwrap();
    let rename = |from: &str, to: &str| {
        let mut batch = thing(2, "beside");
        batch.push_guarded("UPDATE thing SET name = $2 WHERE name = $1", values![from, to]);
        batch
    };
    let error = database.write(rename("other", "new")).await.unwrap_err();
    assert!(matches!(error, WriteError::Conflict { statement: 2, changed: 0 }), "{error:?}");
    assert_eq!(names(database).await, ["old"]);
    database.write(rename("old", "new")).await.unwrap();
    assert_eq!(names(database).await, ["new", "beside"]);
    clear(database).await;
}

async fn what_breaks_a_constraint_says_so(database: &Database) {
    database.write(thing(1, "a")).await.unwrap();
    for (sql, args) in [
        ("INSERT INTO thing (id, name) VALUES ($1, $2)", values![1, "b"]),
        ("INSERT INTO thing (id, name) VALUES ($1, $2)", values![2, None::<String>]),
        ("INSERT INTO part (thing, number) VALUES ($1, $2)", values![9, 1]),
        ("INSERT INTO part (thing, number) VALUES ($1, $2)", values![1, 0]),
    ] {
        let mut batch = Batch::new();
        batch.push(sql, args);
        let error = database.write(batch).await.unwrap_err();
        assert!(matches!(error, WriteError::Constraint { statement: 1, .. }), "{error:?}");
        assert!(!error.is_transient());
    }
    let mut batch = Batch::new();
    batch.push("INSERT INTO nothing (id) VALUES ($1)", values![1]);
    let error = database.write(batch).await.unwrap_err();
    assert!(matches!(error, WriteError::Engine(_)) && !error.is_transient(), "{error:?}");
    clear(database).await;
}

async fn a_batch_that_fails_among_many_fails_alone(database: &Database) {
    let mut writes = JoinSet::new();
    for id in 0..500 {
        let database = database.clone();
        // Every tenth has the name of the one before it.
        let name = if id % 10 == 9 { (id - 1).to_string() } else { id.to_string() };
        writes.spawn(async move { (id, database.write(thing(id, &name)).await) });
    }
    let mut failed = 0;
    while let Some(outcome) = writes.join_next().await {
        let (id, outcome) = outcome.unwrap();
        if let Err(error) = outcome {
            assert!(error.is_conflict() && id % 10 >= 8, "{id}: {error:?}");
            failed += 1;
        }
    }
    assert_eq!(failed, 50);
    assert_eq!(names(database).await.len(), 450);
    clear(database).await;
}

async fn a_write_that_returned_is_read(database: &Database) {
    let database = Arc::new(database.clone());
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let database = Arc::clone(&database);
        tasks.spawn(async move {
            for step in 0..25 {
                let id = task * 100 + step;
                database.write(thing(id, &id.to_string())).await.unwrap();
                let found =
                    database.read("SELECT 1 AS one FROM thing WHERE id = $1", values![id]).await.unwrap();
                assert_eq!(found.len(), 1);
            }
        });
    }
    tasks.join_all().await;
    clear(&database).await;
}

async fn statements_of_many_batches_are_done_in_order(database: &Database) {
    database.write(thing(1, "0")).await.unwrap();
    let mut writes = Vec::new();
    for step in 0..300 {
        let mut batch = Batch::new();
        let rename = "UPDATE thing SET name = $2 WHERE name = $1";
        batch.push_guarded(rename, values![step.to_string(), format!("{step}.5")]);
        batch.push_guarded(rename, values![format!("{step}.5"), (step + 1).to_string()]);
        let mut write = Box::pin(maybe_done(database.write(batch)));
        // Polled once, it is in the queue: so they come in order, and many at a time.
        let _ = poll!(write.as_mut());
        writes.push(write);
    }
    for mut write in writes {
        write.as_mut().await;
        write.as_mut().take_output().unwrap().unwrap();
    }
    assert_eq!(names(database).await, ["300"]);
    clear(database).await;
}

async fn clear(database: &Database) {
    let mut batch = Batch::new();
    batch.push("DELETE FROM part", []).push("DELETE FROM thing", []);
    database.write(batch).await.unwrap();
}

#[tokio::test]
async fn a_batch_begun_is_done_though_its_caller_went_away() {
    let (_folder, database) = database().await;
    {
        let write = database.write(thing(1, "a"));
        let mut write = std::pin::pin!(write);
        // Polled once, it is in the queue; then dropped.
        tokio::select! {
            biased;
            _ = &mut write => {}
            () = std::future::ready(()) => {}
        }
    }
    database.write(thing(2, "b")).await.unwrap();
    assert_eq!(names(&database).await, ["a", "b"]);
}

#[tokio::test]
async fn a_value_is_what_was_given() {
    assert_eq!(values![1, "a", None::<i64>], [Value::Int(1), Value::Text("a".to_owned()), Value::Null]);
    assert_eq!(Value::from(u64::MAX), Value::Int(i64::MAX));
}
