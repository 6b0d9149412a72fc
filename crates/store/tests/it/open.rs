//! Opening, and what is said when it is not possible.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use store::{Batch, Database, Migration, OpenError, ReadError, WriteError, values};

use crate::database::MIGRATIONS;

const NEWER: &[Migration] =
    &[MIGRATIONS[0], Migration { version: 2, sql: "ALTER TABLE thing ADD COLUMN colour TEXT" }];
const BROKEN: &[Migration] = &[
    MIGRATIONS[0],
    Migration { version: 2, sql: "CREATE TABLE half (id BIGINT); INSERT INTO nowhere VALUES (1)" },
];

async fn failure(path: &Path, migrations: &'static [Migration]) -> OpenError {
    Database::open(path, migrations).await.err().unwrap()
}

#[tokio::test]
async fn what_is_closed_is_there_when_opened_again_and_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/records.db");
    let database = Database::open(&path, MIGRATIONS).await.unwrap();
    let mut batch = Batch::new();
    batch.push("INSERT INTO thing (id, name) VALUES (1, 'a')", []);
    database.write(batch.clone()).await.unwrap();
    database.close().await;
    assert!(matches!(database.write(batch).await, Err(WriteError::Closed)));
    assert!(matches!(database.read("SELECT 1", []).await, Err(ReadError::Closed)));

    let database = Database::open(&path, NEWER).await.unwrap();
    let row = database.read_first("SELECT name, colour FROM thing", []).await.unwrap().unwrap();
    assert_eq!((row.text("name").unwrap(), row.opt_text("colour").unwrap()), ("a", None));
}

#[tokio::test]
async fn a_database_that_was_dropped_can_be_opened_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    for id in 0..5 {
        let database = Database::open(&path, MIGRATIONS).await.unwrap();
        let mut batch = Batch::new();
        batch.push("INSERT INTO thing (id, name) VALUES ($1, $2)", values![id, id.to_string()]);
        database.write(batch).await.unwrap();
    }
    let database = Database::open(&path, MIGRATIONS).await.unwrap();
    assert_eq!(database.read("SELECT id FROM thing", []).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_newer_database_is_refused_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    Database::open(&path, NEWER).await.unwrap().close().await;
    let error = failure(&path, MIGRATIONS).await;
    let expected = format!(
        "`{}` was written by a newer version (schema 2, this version knows 1): run that version, or restore a backup \
         made before it",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    Database::open(&path, NEWER).await.unwrap();
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let error = failure(&path, BROKEN).await;
    assert!(matches!(error, OpenError::Migration { version: 2, .. }), "{error:?}");
    let database = Database::open(&path, MIGRATIONS).await.unwrap();
    assert!(database.read("SELECT * FROM half", []).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_written_or_is_no_database_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "this is not a database, and long enough to be taken for a header of one").unwrap();
    let error = failure(&file.join("records.db"), MIGRATIONS).await;
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error:?}");
    let error = failure(&file, MIGRATIONS).await;
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error:?}");
    assert!(!error.to_string().contains('\n'));
}

const HOLD: &str = "STORE_TEST_HOLD";

#[tokio::test]
async fn a_database_of_another_process_is_refused_with_its_pid_until_it_dies() {
    if let Ok(path) = std::env::var(HOLD) {
        let _database = Database::open(Path::new(&path), MIGRATIONS).await.unwrap();
        println!("\nopen");
        std::future::pending::<()>().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("open::a_database_of_another_process_is_refused_with_its_pid_until_it_dies")
        .env(HOLD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"));
    let error = failure(&path, MIGRATIONS).await;
    let expected = format!(
        "`{}` is in use by process {}: stop that first, or use another data folder",
        path.display(),
        child.id()
    );
    assert_eq!(error.to_string(), expected);
    child.kill().unwrap();
    child.wait().unwrap();
    Database::open(&path, MIGRATIONS).await.unwrap();
}
