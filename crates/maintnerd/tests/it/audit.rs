//! The auditor finds what nobody told.

use std::time::Duration;

use api::maintner::GetLogStatusRequest;

use crate::{World, all_words, within};

const PROJECT: &str = "review.example.com/a";
const META: &str = "refs/changes/34/1234/meta";

async fn audited() -> World {
    let world = World::with(|config| {
        config.limits.audit = Duration::from_millis(20);
        config.limits.audit_again = Duration::from_millis(1);
    });
    world.await
}

/// Waits until it has looked and repaired so much.
async fn becomes(world: &World, wanted: impl Fn(u64) -> bool) {
    let so = async {
        loop {
            let status = world.client().get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
            let mut sources = status.sources.iter();
            if sources.any(|one| wanted(one.repaired) && one.audited_at.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(so).await;
}

#[tokio::test]
async fn moves_that_were_never_told_come_into_the_log() {
    let world = audited().await;
    let line = world.mirror.line(None, 2);
    world.mirror.push("one", "refs/heads/main", &line[0]);
    world.mirror.push("one", "refs/heads/old", &line[0]);
    let mut watch = world.watch("").await;
    watch.until("refs/heads/old").await;
    becomes(&world, |repaired| repaired == 0).await;
    world.mirror.push_untold("one", "refs/heads/main", &line[1]);
    world.mirror.delete_untold("one", "refs/heads/old");
    let repaired = watch.until("refs/heads/old gone").await.concat();
    assert!(repaired.contains(&format!("refs/heads/main={}", &line[1][..8])), "{repaired}");
    becomes(&world, |repaired| repaired > 0).await;
    world.end().await;
}

#[tokio::test]
async fn comments_that_were_not_understood_at_their_time_come_into_the_log() {
    let world = audited().await;
    world.mirror.set_gerrit("a", PROJECT);
    let made = world.mirror.commit(&[]);
    let state = world.mirror.commit_file(&[&made], "of-1", "not JSON");
    let code = world.mirror.commit(&[]);
    world.mirror.push("a", META, &state);
    world.mirror.push("a", "refs/changes/34/1234/1", &code);
    let mut watch = world.watch("").await;
    watch.until("refs/changes/34/1234/1").await;
    becomes(&world, |repaired| repaired == 0).await;
    world.mirror.set_file(&state, "of-1", r#"{"comments":[{"key":{"uuid":"x"},"message":"why"}]}"#);
    let (repaired, _) = watch.take(1).await;
    assert_eq!(all_words(&repaired), [format!("{PROJECT}: x says why")]);
    becomes(&world, |repaired| repaired == 1).await;
    world.end().await;
}
