//! Tests that a database of each older version is brought up to date, and keeps what it held.

use std::path::Path;

use store::{Batch, Database, Value};

use super::{MIGRATIONS, read, test_results};

const BUILD: &str = "INSERT INTO builds (number, repository, builder, commit_hash, variant, plan, snapshot_base, \
    subject, author, git_ref, class, is_try, commit_time, created, attempts, waiting_since, outcome, ended) \
    VALUES ($1, 'example', 'linux', '00112233445566778899aabbccddeeff00112233', $2, '', '', 'old', 'ada', \
    'refs/heads/main', 'fresh', 0, 5, 6, 1, 6, 'failed', 9)";
const RESULT: &str = "INSERT INTO test_results (test, build, attempt, shard, outcome, among, millis, ended) \
    VALUES ('net/http', $1, 1, 1, 'failed', 1, 20, 9)";

async fn write(database: &Database, sql: &'static str, args: Vec<Value>) {
    let mut batch = Batch::new();
    batch.push(sql, args);
    database.write(batch).await.unwrap();
}

async fn build(database: &Database, number: u64) {
    write(database, BUILD, vec![number.into(), format!("{number}").into()]).await;
}

async fn open(path: &Path, versions: usize) -> Database {
    Database::open(path, &MIGRATIONS[..versions]).await.unwrap()
}

#[tokio::test]
async fn a_database_of_each_older_version_is_brought_up_to_date() {
    for old in 1..MIGRATIONS.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.db");
        let database = open(&path, old).await;
        build(&database, 1).await;
        database.close().await;

        let database = open(&path, MIGRATIONS.len()).await;
        let (builder, repository) = ("linux".parse().unwrap(), "example".parse().unwrap());
        let builds = read::of_builder(&database, &builder, &repository, 10).await.unwrap();
        assert_eq!((builds.len(), builds[0].subject.as_str()), (1, "old"), "from version {old}");
        assert!(test_results::runs(&database, "net/http", 10).await.unwrap().is_empty());
        write(&database, RESULT, vec![1_u64.into()]).await;
        let runs = test_results::runs(&database, "net/http", 10).await.unwrap();
        assert_eq!((runs.len(), runs[0].builder.as_str()), (1, "linux"), "from version {old}");
        database.close().await;
    }
}

#[tokio::test]
async fn results_of_old_builds_go_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("coordinator.db"), MIGRATIONS.len()).await;
    // The newest is one after which old results are looked for.
    let newest = (test_results::KEPT_BUILDS / 256 + 2) * 256;
    let oldest_kept = newest - test_results::KEPT_BUILDS + 1;
    for number in [1, oldest_kept - 1, oldest_kept, newest] {
        build(&database, number).await;
        write(&database, RESULT, vec![number.into()]).await;
    }
    let mut batch = Batch::new();
    test_results::sweep(&mut batch, types::BuildNumber(newest));
    database.write(batch).await.unwrap();
    let kept = test_results::runs(&database, "net/http", 10).await.unwrap();
    assert_eq!(kept.iter().map(|run| run.build.0).collect::<Vec<_>>(), [newest, oldest_kept]);
    database.close().await;
}
