//! PostgreSQL, real: the promises of every engine, and who may write.

use std::{sync::Arc, time::Duration};

use store::{Batch, Database, OpenError, Postgres, WriteError, values};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::database::{MIGRATIONS, names, promises, thing};

/// What should happen within seconds has failed if it takes this long.
const PATIENCE: Duration = Duration::from_mins(1);

struct Server {
    server: testkit::Postgres,
}

impl Server {
    fn start(test: &str) -> Option<Self> {
        runtime::install_crypto();
        if !testkit::long(1) {
            return None;
        }
        testkit::Postgres::start(test).map(|server| Self { server })
    }

    fn options(&self) -> Postgres {
        let password = std::fs::read_to_string(&self.server.password).unwrap().trim().to_owned();
        let (url, ca) = (self.server.url.clone(), Some(self.server.ca.clone()));
        Postgres { url, password: Some(password.into()), ca, schema: "records" }
    }

    async fn connect(&self) -> Database {
        Database::connect(self.options(), MIGRATIONS).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_promises_and_lets_one_process_write() {
    let Some(server) = Server::start("postgresql_keeps_the_promises") else { return };
    what_cannot_be_used_is_one_line(&server).await;
    let database = server.connect().await;
    assert!(matches!(database.write(thing(1, "early")).await, Err(WriteError::NotLeader)));
    assert_eq!(database.lead("", &watch::Sender::default()).await.unwrap().epoch(), 1);
    promises(&database).await;
    let older = Database::connect(server.options(), &[]).await;
    assert!(matches!(older, Err(OpenError::NewerVersion { known: 0, .. })), "{older:?}");
    a_lost_connection_loses_nothing_that_was_acknowledged(&database).await;
    database.close().await;
    assert!(matches!(database.write(thing(1, "late")).await, Err(WriteError::Closed)));
    one_that_was_overtaken_writes_nothing(&server).await;
    a_leader_that_dies_is_followed(&server).await;
}

async fn what_cannot_be_used_is_one_line(server: &Server) {
    let failure = async |options| Database::connect(options, MIGRATIONS).await.err().unwrap();
    let error = failure(Postgres { url: "postgres://h:port".to_owned(), ..server.options() }).await;
    assert!(matches!(error, OpenError::BadUrl { .. }), "{error:?}");
    let error = failure(Postgres { ca: Some("/nowhere".into()), ..server.options() }).await;
    assert!(matches!(error, OpenError::BadAuthority { .. }), "{error:?}");
    let error = failure(Postgres { password: Some("wrong".into()), ..server.options() }).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    // The server's certificate is its own: nobody else has signed it.
    let error = failure(Postgres { ca: None, ..server.options() }).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(!error.to_string().contains('\n') && error.to_string().contains("postgres://127.0.0.1/postgres"));
}

/// Connections are ended by the server while tasks write: what was acknowledged is there, what failed is not.
async fn a_lost_connection_loses_nothing_that_was_acknowledged(database: &Database) {
    let mut tasks = JoinSet::new();
    for task in 0..8_i64 {
        let database = database.clone();
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            for step in 0..60 {
                let id = 10_000 + task * 1000 + step;
                let outcome = database.write(thing(id, &id.to_string())).await;
                if let Err(error) = &outcome {
                    assert!(error.is_transient(), "{error:?}");
                }
                outcomes.push((id, outcome.is_ok()));
                if task == 0 && step % 10 == 5 {
                    // A reader ends it; that reader itself may be ended by the next one.
                    let sql = "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity \
                               WHERE application_name = 'farmer records' AND pid <> pg_backend_pid()";
                    let _ = database.read(sql, []).await;
                }
            }
            outcomes
        });
    }
    let mut acknowledged = 0;
    for (id, ok) in timeout(PATIENCE, tasks.join_all()).await.unwrap().into_iter().flatten() {
        let sql = "SELECT 1 AS one FROM thing WHERE id = $1";
        let found = loop {
            // A connection that was ended shows when it is used.
            if let Ok(rows) = database.read(sql, values![id]).await {
                break rows.len() == 1;
            }
        };
        assert_eq!(found, ok, "{id}");
        acknowledged += usize::from(ok);
    }
    assert!(acknowledged > 100, "only {acknowledged} were written");
}

async fn one_that_was_overtaken_writes_nothing(server: &Server) {
    let (old, new) = (server.connect().await, server.connect().await);
    let lead = timeout(PATIENCE, old.lead("old:1", &watch::Sender::default())).await.unwrap().unwrap();
    let before = names(&old).await;
    // As another would that has not heard of this leader for long.
    let mut overtake = Batch::new();
    overtake.push("UPDATE leader SET epoch = epoch + 1, holder = ''", []);
    old.write(overtake).await.unwrap();
    let mut tasks = JoinSet::new();
    for id in 0..100 {
        let old = old.clone();
        tasks.spawn(async move { old.write(thing(id, &format!("stale {id}"))).await });
    }
    for outcome in tasks.join_all().await {
        assert!(matches!(outcome, Err(WriteError::NotLeader)), "{outcome:?}");
    }
    timeout(PATIENCE, lead.lost()).await.unwrap();
    assert_eq!(names(&old).await, before);
    let next = timeout(PATIENCE, new.lead("new:1", &watch::Sender::default())).await.unwrap().unwrap();
    assert_eq!(next.epoch(), lead.epoch() + 2);
    new.write(thing(1, "new")).await.unwrap();
    // One that closes is followed without waiting for its lease.
    new.close().await;
    old.close().await;
}

async fn a_leader_that_dies_is_followed(server: &Server) {
    let options = server.options();
    let epoch = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let epoch = runtime.block_on(async {
            let database = Database::connect(options, MIGRATIONS).await.unwrap();
            let lead = database.lead("dead:1", &watch::Sender::default()).await.unwrap();
            // Neither closed nor dropped.
            std::mem::forget(database);
            lead.epoch()
        });
        runtime.shutdown_background();
        epoch
    });
    let epoch = epoch.join().unwrap();
    let databases = [Arc::new(server.connect().await), Arc::new(server.connect().await)];
    let mut waiting = JoinSet::new();
    for database in databases {
        waiting.spawn(async move {
            let leader = watch::Sender::default();
            let lead = database.lead("next:1", &leader).await.unwrap();
            (lead, database, leader.borrow().clone())
        });
    }
    let (lead, database, told) = timeout(PATIENCE, waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((lead.epoch(), told.as_str()), (epoch + 1, "dead:1"), "it was told where the leader was");
    database.write(thing(2, "follower")).await.unwrap();
    database.close().await;
    let (lead, ..) = timeout(PATIENCE, waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(lead.epoch(), epoch + 2);
}
