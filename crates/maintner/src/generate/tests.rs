//! Tests of the generator.

use prost::Message as _;
use sha2::{Digest as _, Sha224};

use super::*;

#[test]
fn there_is_as_much_as_was_asked_for() {
    let scale = Scale::SMALL;
    let (mut issues, mut comments, mut changes, mut commits) = (0, 0, 0, 0);
    for mutation in Generator::new(1, scale) {
        if let Some(issue) = &mutation.github_issue {
            issues += usize::from(issue.created.is_some());
            comments += issue.comment.iter().filter(|comment| comment.created.is_some()).count();
        }
        commits += usize::from(mutation.git.is_some());
        if let Some(gerrit) = &mutation.gerrit {
            commits += gerrit.commits.len();
            changes += gerrit.refs.iter().filter(|one| one.r#ref.ends_with("/1")).count();
        }
    }
    assert_eq!(
        (issues, comments, changes, commits),
        (scale.issues, scale.comments, scale.changes, scale.commits)
    );
}

#[test]
fn a_seed_gives_the_same_log_and_another_gives_another() {
    let digest = |seed| {
        let mut hasher = Sha224::new();
        Generator::new(seed, Scale::TINY).for_each(|mutation| hasher.update(mutation.encode_to_vec()));
        hasher.finalize()
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3), digest(4));
}

#[test]
fn both_kinds_of_folder_are_adopted_and_hold_the_same() {
    let read = |layout| {
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path(), 5, Scale::TINY, layout).unwrap();
        let log = crate::Log::open(dir.path(), crate::Options::default()).unwrap();
        assert_eq!(log.extent(), written);
        let mut payloads = Vec::new();
        log.replay(0, |_, payload| payloads.push(payload.to_vec())).unwrap();
        payloads
    };
    let (segments, days) = (read(Layout::Segments), read(Layout::Days));
    assert_eq!(segments.len(), Generator::new(5, Scale::TINY).count());
    assert!(segments == days);
}
