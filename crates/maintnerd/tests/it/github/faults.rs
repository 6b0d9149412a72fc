//! GitHub fails, limits, and lies.

use std::time::Duration;

use crate::fake_github::Fault;

use super::{Follower, GO, some};

#[tokio::test]
async fn one_fault_after_the_other_loses_and_doubles_nothing() {
    let quick = |config: &mut maintnerd::Config, _: &_| config.limits.retry = Duration::from_millis(1);
    let mut follower = Follower::with(&[GO], quick, |github| {
        github.set_most_on_page(4);
        some(github);
        let whole = [Fault::Status(500), Fault::Cut, Fault::Html, Fault::Empty, Fault::Round];
        for fault in whole {
            github.fail("/issues?", fault);
        }
        for (path, fault) in [
            ("/repos/golang/go", Fault::Status(503)),
            ("/labels", Fault::Html),
            ("/milestones", Fault::Cut),
            ("/3/comments", Fault::Cut),
            ("/4/comments", Fault::Status(502)),
            ("/4/events", Fault::Empty),
            ("/7/events", Fault::Html),
            ("/8/events", Fault::Round),
            ("/reviews", Fault::Status(500)),
        ] {
            github.fail(path, fault);
        }
    })
    .await;
    follower.status_becomes(|status| !status.error.is_empty() && status.fresh_at.is_none()).await;
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.github.heal();
    follower.status_becomes(|status| status.error.is_empty() && status.fresh_at.is_some()).await;
    follower.end().await;
}

#[tokio::test]
async fn a_used_up_limit_is_waited_for_and_said() {
    let mut follower = Follower::start(|github| {
        some(github);
        github.limit(501 + 7, 1);
    })
    .await;
    let status = follower.status_becomes(|status| status.error.contains("limit")).await;
    assert!(status.error.starts_with("GitHub's limit is used up until 20"), "{}", status.error);
    let served = follower.github.served().len();
    assert!(served <= 12, "the last tenth is for others: {served}");
    // It never runs out, so the fake never says no: with what is left it may go on.
    follower.github.limit(5000, 1);
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn who_is_refused_for_a_limit_does_not_ask_before_its_time() {
    let mut follower = Follower::start(|github| {
        some(github);
        github.fail("/events", Fault::Secondary(1));
        github.fail("/comments", Fault::Secondary(2));
    })
    .await;
    follower.status_becomes(|status| status.error.contains("limit is used up")).await;
    follower.settles().await;
    assert_eq!((follower.github.asked_too_early(), follower.github.faults_left()), (0, 0));
    follower.github.limit(0, 1);
    follower.github.comment(GO, 1, "after the limit");
    follower.settles().await;
    follower.github.fail("/issues?", Fault::TooMany);
    follower.github.comment(GO, 2, "after the proxy's");
    follower.settles().await;
    assert_eq!(follower.github.asked_too_early(), 0);
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn one_issue_that_cannot_be_read_holds_up_no_other_and_shows_in_the_status() {
    let mut follower = Follower::start(|github| {
        some(github);
        for _ in 0..200 {
            github.fail("/issues/4/comments", Fault::Status(500));
        }
    })
    .await;
    let status = follower.status_becomes(|status| status.error.contains("issue 4: ")).await;
    assert!(status.fresh_at.is_none());
    follower
        .until(
            GO,
            |corpus| {
                let repository = corpus.github().repository("golang", "go");
                repository.and_then(|known| known.issue(12)).is_some_and(|issue| issue.comments().len() == 3)
            },
            "issue 12 whole",
        )
        .await;
    follower.github.heal();
    follower.settles().await;
    follower.status_becomes(|status| status.error.is_empty() && status.fresh_at.is_some()).await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn a_full_page_without_a_link_is_not_taken_for_the_last() {
    let mut follower = Follower::start(|github| {
        for n in 0..130 {
            github.open(GO, &format!("issue {n}"));
        }
        for n in 0..120 {
            github.comment(GO, 7, &format!("comment {n}"));
        }
        github.fail("/issues?", Fault::NoLink);
        github.fail("/issues/7/comments", Fault::NoLink);
    })
    .await;
    follower.settles().await;
    assert_eq!(follower.github.faults_left(), 0);
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn a_token_that_is_refused_shows_and_a_new_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let path = token.clone();
    let follower = Follower::with(&[GO], |config, _| config.github[0].token = Some(path), some).await;
    let status = follower.status_becomes(|status| status.error.contains("cannot read the token")).await;
    assert!(status.error.contains(&token.display().to_string()));
    std::fs::write(&token, "a-token").unwrap();
    follower.github.fail("/repos", Fault::Status(401));
    follower.status_becomes(|status| status.error.is_empty() && status.fresh_at.is_some()).await;
    follower.end().await;
}

#[tokio::test]
async fn a_repository_with_much_left_to_do_ends_at_once() {
    let follower = Follower::start(|github| {
        for n in 0..300 {
            github.open(GO, &format!("issue {n}"));
        }
    })
    .await;
    follower.asked(5).await;
    let begun = tokio::time::Instant::now();
    follower.end().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "it waits for all of it");
}
