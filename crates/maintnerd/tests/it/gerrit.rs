//! A repository that is a project at a Gerrit.

use api::maintner::GetLogStatusRequest;

use crate::{World, all_words, within};

const MAIN: &str = "refs/heads/main";
const PROJECT: &str = "review.example.com/a";

fn change(last: &str) -> String {
    format!("refs/changes/34/1234/{last}")
}

fn short(commit: &str) -> &str {
    &commit[..8]
}

#[tokio::test]
async fn a_change_is_its_commits_and_then_its_refs_under_the_name_of_the_project() {
    let world = World::start().await;
    world.mirror.set_gerrit("a", PROJECT);
    let base = world.mirror.commit(&[]);
    let (patch_set, meta) = (world.mirror.commit(&[&base]), world.mirror.commit(&[]));
    world.mirror.push("a", MAIN, &base);
    let mut watch = world.watch("").await;
    let expected = [
        format!("{PROJECT}: commit {}", short(&base)),
        format!("{PROJECT}: {MAIN}={}", short(&base)),
        format!("a: {MAIN}={}", short(&base)),
    ];
    assert_eq!(all_words(&watch.take(3).await.0), expected, "a branch moves under both names");
    world.mirror.push("a", &change("1"), &patch_set);
    world.mirror.push("a", &change("meta"), &meta);
    // Both moves come at once or one after the other: gitmirror tells them one by one.
    let all = watch.until(&format!("{}=", change("meta"))).await;
    for (commit, name) in [(&patch_set, change("1")), (&meta, change("meta"))] {
        let place = |words: &str| all.iter().position(|one| one.contains(words)).unwrap();
        assert!(place(&format!("commit {}", short(commit))) < place(&format!("{name}=")), "{all:?}");
    }
    assert!(all.iter().all(|one| one.starts_with(PROJECT)), "a change is not of the repository: {all:?}");
    let status = within(world.client().get_log_status(GetLogStatusRequest {})).await.unwrap().into_inner();
    assert_eq!(status.sources[0].source, format!("gerrit/{PROJECT}"));
    world.end().await;
}

#[tokio::test]
async fn after_a_restart_changes_are_neither_doubled_nor_missed() {
    let mut world = World::start().await;
    world.mirror.set_gerrit("a", PROJECT);
    let line = world.mirror.line(None, 3);
    world.mirror.push("a", &change("meta"), &line[0]);
    let (_, token) = world.watch("").await.take(2).await;
    world.mirror.push("a", &change("1"), &line[1]);
    let (_, token) = world.watch(&token).await.take(2).await;
    // Gerrit keeps other things there that are not of the change's state.
    world.mirror.push("a", &change("robot-comments"), &line[1]);
    world.stop_maintnerd().await;
    world.mirror.delete("a", &change("1"));
    world.mirror.push("a", &change("meta"), &line[2]);
    world.restart().await;
    let (missed, token) = world.watch(&token).await.take(2).await;
    let expected = [
        format!("{PROJECT}: commit {}", short(&line[2])),
        format!("{PROJECT}: {}={}, {} gone", change("meta"), short(&line[2]), change("1")),
    ];
    assert_eq!(all_words(&missed), expected);
    world.restart().await;
    let next = world.mirror.commit(&[&line[2]]);
    world.mirror.push("a", &change("meta"), &next);
    let (after, _) = world.watch(&token).await.take(2).await;
    let expected = [
        format!("{PROJECT}: commit {}", short(&next)),
        format!("{PROJECT}: {}={}", change("meta"), short(&next)),
    ];
    assert_eq!(all_words(&after), expected, "nothing in between");
    world.end().await;
}

#[tokio::test]
async fn a_repository_that_becomes_a_project_keeps_what_it_has() {
    let world = World::start().await;
    let base = world.mirror.commit(&[]);
    world.mirror.push("a", MAIN, &base);
    let mut watch = world.watch("").await;
    watch.take(2).await;
    world.mirror.set_gerrit("a", PROJECT);
    let meta = world.mirror.commit(&[]);
    world.mirror.push("a", &change("meta"), &meta);
    let (all, _) = watch.take(2).await;
    let expected = [
        format!("{PROJECT}: commit {}", short(&meta)),
        format!("{PROJECT}: {}={}", change("meta"), short(&meta)),
    ];
    assert_eq!(all_words(&all), expected);
    world.end().await;
}

fn file(comments: &[(&str, &str)]) -> String {
    let comments = comments.iter().map(|(uuid, message)| {
        serde_json::json!({
            "key": { "uuid": uuid, "filename": "a.go", "patchSetId": 1 }, "author": { "id": 5 }, "side": 1,
            "writtenOn": "2026-01-02T03:04:05Z", "message": message, "serverId": "server",
        })
    });
    serde_json::json!({ "comments": comments.collect::<Vec<_>>() }).to_string()
}

#[tokio::test]
async fn a_comment_is_told_when_it_is_new_or_says_something_else_before_the_state_it_came_with() {
    let mut world = World::start().await;
    world.mirror.set_gerrit("a", PROJECT);
    let made = world.mirror.commit(&[]);
    let one = world.mirror.commit_file(&[&made], "of-1", &file(&[("x", "why")]));
    world.mirror.push("a", &change("meta"), &one);
    let (first, token) = world.watch("").await.take(4).await;
    let tell = |words: &str| format!("{PROJECT}: {words}");
    let expected = [
        tell(&format!("commit {}", short(&made))),
        tell(&format!("commit {}", short(&one))),
        tell("x says why"),
        tell(&format!("{}={}", change("meta"), short(&one))),
    ];
    assert_eq!(all_words(&first), expected);
    assert_eq!(first[2].gerrit.as_ref().unwrap().comments[0].author, "5@server");
    world.stop_maintnerd().await;
    // The file holds the old one too, and another makes no sense.
    let two = world.mirror.commit_file(&[&one], "of-1", &file(&[("x", "why"), ("y", "so")]));
    let bad = world.mirror.commit_file(&[&two], "of-2", "not JSON");
    let three = world.mirror.commit_file(&[&bad], "of-1", &file(&[("x", "removed"), ("y", "so")]));
    world.mirror.push("a", &change("meta"), &three);
    world.restart().await;
    let (second, _) = world.watch(&token).await.take(5).await;
    let second = all_words(&second);
    assert_eq!(
        second[3..],
        [tell("x says removed, y says so"), tell(&format!("{}={}", change("meta"), short(&three)))]
    );
    world.end().await;
}
