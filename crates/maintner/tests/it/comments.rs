//! Inline comments of changes.

use api::maintpb::{GerritComment, GerritMutation, Mutation};
use maintner::{Change, Corpus, Log, Options, log::encode, snapshot};

use crate::corpus::{fold, mutations};

fn said(project: &str, change: i32, uuid: &str, seconds: i64, message: &str) -> Mutation {
    let comment = GerritComment {
        change,
        uuid: uuid.into(),
        patch_set: 1,
        file: "a.go".into(),
        side: 1,
        author: "5@server".into(),
        written: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        message: message.into(),
        ..GerritComment::default()
    };
    of(GerritMutation { project: project.into(), comments: vec![comment], ..GerritMutation::default() })
}

fn of(gerrit: GerritMutation) -> Mutation {
    Mutation { gerrit: Some(gerrit), ..Mutation::default() }
}

fn texts(corpus: &Corpus, project: &str, number: u32) -> Vec<String> {
    let change = corpus.gerrit().project(project).and_then(|project| project.change(number));
    change.into_iter().flat_map(|change| change.comments()).map(|comment| comment.message).collect()
}

/// A change of a log, with its project.
fn some_change(corpus: &Corpus) -> (String, u32) {
    let change = corpus.gerrit().changes().next().unwrap();
    (change.project().name().to_owned(), change.number())
}

#[test]
fn a_comment_is_what_was_said_last_and_gone_with_its_change() {
    let all = mutations(50);
    let (project, number) = some_change(&fold(&all));
    let number_there = i32::try_from(number).unwrap();
    // Before the change itself, as the writer has them.
    let mut corpus = fold(&[
        said(&project, number_there, "b", 20, "later"),
        said(&project, number_there, "a", 10, "rude"),
    ]);
    assert_eq!(corpus.gerrit().changes().count(), 0, "comments alone are no change");
    for mutation in &all {
        corpus.apply(mutation);
    }
    assert_eq!(texts(&corpus, &project, number), ["rude", "later"]);
    let again = said(&project, number_there, "a", 10, "removed");
    corpus.apply(&again);
    assert_eq!(texts(&corpus, &project, number), ["removed", "later"]);
    let spoken_of = corpus.gerrit().changes_of(again.gerrit.as_ref().unwrap());
    assert_eq!(spoken_of.iter().map(Change::number).collect::<Vec<_>>(), [number]);
    let meta = format!("refs/changes/{:02}/{number}/meta", number % 100);
    let standing = corpus.gerrit().project(&project).unwrap().stands(&meta).unwrap();
    corpus.apply(&of(GerritMutation {
        project: project.clone(),
        deleted_refs: vec![meta.clone()],
        ..GerritMutation::default()
    }));
    let there = api::maintpb::GitRef { r#ref: meta, sha1: standing.to_string() };
    corpus.apply(&of(GerritMutation {
        project: project.clone(),
        refs: vec![there],
        ..GerritMutation::default()
    }));
    assert!(corpus.gerrit().project(&project).unwrap().change(number).is_some());
    assert_eq!(texts(&corpus, &project, number), [""; 0], "another change of this number does not get them");
    assert_eq!(corpus.check(), Vec::<String>::new());
}

#[test]
fn a_comment_without_a_name_or_a_change_is_counted_and_left_out() {
    let corpus = fold(&[said("p", 0, "a", 1, "x"), said("p", -1, "a", 1, "x"), said("p", 1, "", 1, "x")]);
    assert_eq!(corpus.statistics().malformed, 3);
    assert!(corpus.gerrit().project("p").unwrap().comments_of(1).next().is_none());
}

#[tokio::test]
async fn comments_are_in_the_snapshot() {
    let mut all = mutations(51);
    let (project, number) = some_change(&fold(&all));
    let number_there = i32::try_from(number).unwrap();
    all.extend(
        (0..50)
            .map(|nth| said(&project, number_there, &format!("u{}", nth % 20), nth, &format!("text {nth}"))),
    );
    let expected = texts(&fold(&all), &project, number);
    assert_eq!(expected.len(), 20);
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options { max_segment_bytes: 2000, ..Options::default() }).unwrap();
    for some in all.chunks(10) {
        log.enqueue(some.iter().map(encode).collect()).await.unwrap().durable().await.unwrap();
    }
    log.close().await;
    snapshot::write(dir.path()).unwrap();
    let (corpus, opened) = snapshot::open(dir.path()).unwrap();
    assert!(opened.from_snapshot > 0);
    assert_eq!(texts(&corpus, &project, number), expected);
}
