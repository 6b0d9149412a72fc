//! What goes away: tombstones with a reason, and none for what only seems to be gone.

use std::time::Duration;

use maintner::core::Gone;
use serde_json::json;

use super::{Follower, GO, some};

const TOOLS: &str = "golang/tools";

/// Why each number that is gone is.
fn gone(follower: &Follower) -> Vec<(i32, Gone)> {
    let repository = follower.corpus().github().repository("golang", "go").unwrap();
    repository.gone().map(|number| (number, repository.why_gone(number).unwrap())).collect()
}

fn moved_to(follower: &Follower, number: i32) -> Vec<String> {
    let issues = follower.told.iter().filter_map(|mutation| mutation.github_issue.as_ref());
    let of = issues.filter(|issue| issue.number == number);
    of.filter_map(|issue| issue.gone.as_ref()).map(|gone| gone.moved_to.clone()).collect()
}

async fn is_gone(follower: &mut Follower, numbers: &[i32]) {
    let all = |corpus: &maintner::Corpus| {
        let repository = corpus.github().repository("golang", "go");
        repository.is_some_and(|known| numbers.iter().all(|number| known.is_gone(*number)))
    };
    follower.until(GO, all, &format!("{numbers:?} gone")).await;
}

#[tokio::test]
async fn numbers_without_an_issue_have_a_tombstone_with_the_reason() {
    let mut follower = Follower::with(
        &[GO, TOOLS],
        |_, _| (),
        |github| {
            some(github);
            let discussion = github.discuss(GO);
            assert_eq!(discussion, 14);
            github.open(GO, "the last");
            github.delete(GO, 2);
            github.hide(GO, 3);
            let there = github.transfer(GO, 5, TOOLS);
            assert_eq!(there, 1);
        },
    )
    .await;
    follower.settles().await;
    is_gone(&mut follower, &[2, 3, 5, 14]).await;
    assert_eq!(
        gone(&follower),
        [(2, Gone::Deleted), (3, Gone::Absent), (5, Gone::Transferred), (14, Gone::Absent)]
    );
    assert_eq!(moved_to(&follower, 5), ["golang/tools#1"]);
    follower.nothing_is_doubled();
    let asked = |follower: &Follower| {
        follower.github.served().iter().filter(|(path, _)| path.ends_with("/issues/14")).count()
    };
    let before = asked(&follower);
    follower.asked(20).await;
    assert_eq!(asked(&follower), before, "what is gone is asked for again and again");
    follower.end().await;
}

#[tokio::test]
async fn the_auditor_finds_what_nobody_told() {
    let mut follower =
        Follower::with(&[GO], |config, _| config.limits.audit = Duration::from_millis(30), some).await;
    follower.settles().await;
    follower.status_becomes(|status| status.audited_at.is_some() && status.repaired == 0).await;
    follower.github.happen(GO, 6, "converted_to_discussion", &json!({}));
    follower.settles().await;
    follower.github.delete(GO, 2);
    follower.github.hide(GO, 6);
    is_gone(&mut follower, &[2, 6]).await;
    assert_eq!(gone(&follower), [(2, Gone::Deleted), (6, Gone::Converted)]);
    follower.github.edit_untold(GO, |repo| repo.issues.get_mut(&4).unwrap()["title"] = "drifted".into());
    follower.github.edit_untold(GO, |repo| {
        repo.comments.get_mut(&8).unwrap().remove(0);
        repo.issues.get_mut(&8).unwrap()["comments"] = 2.into();
    });
    follower.settles().await;
    follower.status_becomes(|status| status.repaired >= 2).await;
    follower.end().await;
}

#[tokio::test]
async fn what_a_token_may_not_see_any_more_is_not_taken_for_deleted() {
    let mut follower =
        Follower::with(&[GO], |config, _| config.limits.audit = Duration::from_millis(30), some).await;
    follower.settles().await;
    follower.status_becomes(|status| status.fresh_at.is_some()).await;
    follower.github.set_hidden(true);
    let status = follower.status_becomes(|status| status.error.contains("is not at GitHub")).await;
    assert!(status.fresh_at.is_some(), "it was read once");
    follower.asked(3).await;
    follower.github.set_hidden(false);
    follower.github.comment(GO, 1, "here again");
    follower.settles().await;
    assert_eq!(gone(&follower), []);
    follower.status_becomes(|status| status.error.is_empty()).await;
    follower.end().await;
}

#[tokio::test]
async fn a_repository_that_was_renamed_is_told_by_its_new_name() {
    let mut follower = Follower::start(some).await;
    follower.settles().await;
    follower.status_becomes(|status| status.error.is_empty()).await;
    follower.github.rename(GO, "golang/new");
    let status = follower.status_becomes(|status| !status.error.is_empty()).await;
    assert_eq!(status.error, "`golang/go` is `golang/new` now: correct `github` in farm.toml");
    follower.asked(3).await;
    let issues = |follower: &Follower| {
        follower.corpus().github().repository("golang", "go").map(|known| known.issues().count())
    };
    assert_eq!(issues(&follower), Some(13));
    follower.end().await;
}
