//! The corpus as a whole: that it says what the log says, however it was read, and whatever is wrong with the log.

use std::collections::BTreeMap;

use api::maintpb::{GithubIssueEvent, GithubIssueMutation, Mutation};
use maintner::{
    Corpus,
    core::{Batch, Status},
    generate::{Generator, Layout, Scale, write},
    log::segment_files,
    replay,
};
use prost::Message as _;

use crate::dump::{dump, dump_github};

pub(crate) fn mutations(seed: u64) -> Vec<Mutation> {
    Generator::new(seed, Scale::TINY).collect()
}

pub(crate) fn fold<'a>(mutations: impl IntoIterator<Item = &'a Mutation>) -> Corpus {
    let mut corpus = Corpus::default();
    mutations.into_iter().for_each(|mutation| corpus.apply(mutation));
    corpus.settle();
    corpus
}

/// What prost reads, folded as simply as can be.
#[test]
fn issues_are_what_another_reader_of_the_log_says() {
    type Expected = (GithubIssueMutation, BTreeMap<i64, String>, usize);
    let all = mutations(21);
    let corpus = fold(&all);
    let mut issues: BTreeMap<(String, i32), Expected> = BTreeMap::new();
    for new in all.iter().filter_map(|mutation| mutation.github_issue.as_ref()) {
        let (issue, comments, events) = issues.entry((new.repo.clone(), new.number)).or_default();
        issue.not_exist = new.not_exist;
        if new.not_exist {
            continue;
        }
        let body = new.body_change.as_ref().map(|change| &change.val).filter(|body| !body.is_empty());
        if let Some(body) = body.or(Some(&new.body).filter(|body| !body.is_empty())) {
            issue.body.clone_from(body);
        }
        if !new.title.is_empty() {
            issue.title.clone_from(&new.title);
        }
        issue.closed = new.closed.or(issue.closed);
        issue.pull = new.pull.clone().or(issue.pull.take());
        issue.checks = new.checks.clone().or(issue.checks.take());
        issue.add_label.retain(|label| !new.remove_label.contains(&label.id));
        issue.add_label.extend(new.add_label.iter().cloned());
        *events += new.event.len();
        for comment in new.comment.iter().filter(|comment| !comment.body.is_empty()) {
            comments.insert(comment.id, comment.body.clone());
        }
    }
    let mut seen = 0;
    for ((repository, number), (expected, comments, events)) in &issues {
        let repository = corpus.github().repository("golang", repository).unwrap();
        assert_eq!(repository.is_gone(*number), expected.not_exist);
        let Some(issue) = repository.issue(*number) else { continue };
        seen += 1;
        assert_eq!((&*issue.title(), &*issue.body()), (&*expected.title, &*expected.body));
        assert_eq!(issue.is_closed(), expected.closed.is_some_and(|closed| closed.val));
        assert!(expected.add_label.iter().all(|label| issue.has_label(&label.name)));
        assert_eq!(issue.labels().count(), expected.add_label.len());
        assert_eq!(issue.events().count(), *events);
        assert_eq!((issue.pull(), issue.checks()), (expected.pull.clone(), expected.checks.clone()));
        let open = issue.pull().filter(|_| !issue.is_closed());
        let found = open.iter().flat_map(|pull| repository.pulls_at(&pull.head_sha));
        assert!(
            found.map(|found| found.number()).eq(open.iter().map(|_| *number)),
            "it is found by its head"
        );
        let bodies: BTreeMap<i64, String> =
            issue.comments().map(|comment| (comment.id(), comment.body().into_owned())).collect();
        assert_eq!(&bodies, comments);
    }
    assert!(seen >= Scale::TINY.issues - 2);
}

#[test]
fn commits_and_changes_are_what_another_reader_of_the_log_says() {
    let all = mutations(22);
    let corpus = fold(&all);
    let mut commits = 0;
    let mut refs: BTreeMap<(String, String), String> = BTreeMap::new();
    for mutation in &all {
        let gerrit = mutation.gerrit.iter().flat_map(|gerrit| &gerrit.commits);
        for expected in mutation.git.iter().flat_map(|git| &git.commit).chain(gerrit) {
            commits += 1;
            let commit = corpus.commit(&expected.sha1.parse().unwrap()).unwrap();
            let parsed = maintner::parse_commit(&expected.raw).unwrap();
            assert_eq!(commit.raw(), &expected.raw[..]);
            assert_eq!(
                (commit.author(), commit.committer()),
                (&*parsed.author.name, &*parsed.committer.name)
            );
            assert!(commit.parents().eq(parsed.parents.iter().copied()));
            let files = expected.diff_tree.iter().flat_map(|diff| &diff.file);
            let files: Vec<_> =
                files.map(|file| (file.file.clone(), file.added as u64, file.binary)).collect();
            let read: Vec<_> =
                commit.files().map(|file| (file.path.into_owned(), file.added, file.binary)).collect();
            assert_eq!(files, read);
        }
        if let Some(gerrit) = &mutation.gerrit {
            for gone in &gerrit.deleted_refs {
                refs.remove(&(gerrit.project.clone(), gone.clone()));
            }
            for one in &gerrit.refs {
                refs.insert((gerrit.project.clone(), one.r#ref.clone()), one.sha1.clone());
            }
        }
    }
    assert_eq!(corpus.commit_count(), commits);
    assert_eq!(corpus.check(), Vec::<String>::new());
    let mut metas = 0;
    for ((project, name), hash) in &refs {
        let project = corpus.gerrit().project(project).unwrap();
        let parts: Vec<&str> = name.split('/').collect();
        let ["refs", "changes", _, number, last] = parts[..] else {
            assert_eq!(project.find_ref(name), Some(hash.parse().unwrap()));
            continue;
        };
        let number = number.parse().unwrap();
        let change = project.change(number).unwrap();
        if last == "meta" {
            metas += 1;
            assert_eq!(change.metas().next_back().unwrap().commit().hash().to_string(), *hash);
            check_state(&change);
        } else {
            let number: u32 = last.parse().unwrap();
            assert!(change.version() >= number);
            let patch_set = change.patch_sets().find(|patch_set| patch_set.number == number).unwrap();
            assert_eq!(patch_set.commit.hash().to_string(), *hash);
        }
    }
    assert_eq!(metas, Scale::TINY.changes);
}

/// The state of a change, by the last line of each kind in its history.
fn check_state(change: &maintner::Change<'_>) {
    let history: String = change.metas().map(|meta| meta.commit().message().into_owned()).collect();
    let last = |key: &str| history.lines().rev().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    let status = match last("Status: ") {
        "merged" => Status::Merged,
        "abandoned" => Status::Abandoned,
        _ => Status::New,
    };
    assert_eq!(change.status(), status, "{change:?}");
    assert_eq!(change.branch(), last("Branch: "));
    assert_eq!(change.is_private(), last("Private: ") == "true");
    assert_eq!(change.is_work_in_progress(), last("Work-in-progress: ") == "true");
    assert_eq!(change.hashtags().collect::<Vec<_>>().join(","), last("Hashtags: "));
}

#[test]
fn a_log_is_the_same_however_it_is_read() {
    for seed in 30..36 {
        let all = mutations(seed);
        let live = dump(&fold(&all));
        assert!(live.len() > 50_000);
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), seed, Scale::TINY, Layout::Segments).unwrap();
        let segments = segment_files(dir.path()).unwrap();
        for threads in 1..4 {
            let mut corpus = Corpus::default();
            let replayed = replay::replay_segments(&mut corpus, &segments, threads).unwrap();
            assert_eq!(replayed.mutations, all.len() as u64);
            assert!(dump(&corpus) == live, "seed {seed}, {threads} threads");
        }
        // In batches that end wherever they do, settled in between or not.
        let encoded: Vec<Vec<u8>> = all.iter().map(Mutation::encode_to_vec).collect();
        let whole = encoded.concat();
        let mut corpus = Corpus::default();
        let mut at = corpus.attach(whole.clone().into());
        let mut offset = 0;
        for (number, some) in encoded.chunks(1 + seed as usize % 7 * 5).enumerate() {
            let mut batch = Batch::default();
            for one in some {
                batch.add(at, &whole[offset..offset + one.len()]).unwrap();
                at += one.len() as u64;
                offset += one.len();
            }
            corpus.apply_batch(&batch);
            if number.is_multiple_of(3) {
                corpus.settle();
            }
        }
        corpus.settle();
        assert!(dump(&corpus) == live, "seed {seed}, in batches");
    }
}

#[test]
fn a_part_and_then_the_rest_are_the_whole() {
    let all = mutations(41);
    let whole = dump(&fold(&all));
    for split in [0, 1, all.len() / 3, all.len() / 2, all.len() - 1, all.len()] {
        let mut corpus = fold(&all[..split]);
        let seen = dump(&corpus);
        all[split..].iter().for_each(|mutation| corpus.apply(mutation));
        corpus.settle();
        assert!(dump(&corpus) == whole, "split at {split}");
        assert!(split == all.len() || seen != whole);
    }
}

#[test]
fn mutations_that_come_twice_change_nothing() {
    let all = mutations(42);
    let gone = |mutation: &&Mutation| mutation.github_issue.as_ref().is_none_or(|issue| !issue.not_exist);
    let mut corpus = fold(all.iter().filter(gone));
    let once = dump(&corpus);
    let last = all.iter().rfind(gone).unwrap();
    corpus.apply(last);
    all.iter().filter(|mutation| mutation.git.is_some()).for_each(|mutation| corpus.apply(mutation));
    assert!(dump(&corpus) == once);
}

#[test]
fn refs_before_their_commits_and_commits_in_any_order_give_the_same() {
    let all = mutations(43);
    let expected = dump(&fold(&all));
    let is_commit = |mutation: &&Mutation| {
        mutation.git.is_some() || mutation.gerrit.as_ref().is_some_and(|gerrit| !gerrit.commits.is_empty())
    };
    let (commits, others): (Vec<_>, Vec<_>) = all.iter().partition(is_commit);
    for stride in [1, 7, 101] {
        let shuffled = (0..stride).flat_map(|start| commits.iter().skip(start).step_by(stride)).rev();
        let mut corpus = fold(others.iter().copied());
        assert_eq!(
            corpus.gerrit().changes().count(),
            0,
            "a change without its commits must not be reachable"
        );
        shuffled.for_each(|mutation| corpus.apply(mutation));
        corpus.settle();
        assert_eq!(corpus.check(), Vec::<String>::new());
        assert!(dump(&corpus) == expected, "stride {stride}");
    }
}

#[test]
fn a_deleted_change_and_a_change_without_state_cannot_be_reached() {
    let all = mutations(44);
    let mut corpus = fold(&all);
    let (project, number) = {
        let change = corpus.gerrit().changes().next().unwrap();
        (change.project().name().to_owned(), change.number())
    };
    let before = corpus.gerrit().changes().count();
    let meta = format!("refs/changes/{:02}/{number}/meta", number % 100);
    let gerrit = |deleted: &str| api::maintpb::GerritMutation {
        project: project.clone(),
        deleted_refs: vec![deleted.into()],
        ..Default::default()
    };
    corpus.apply(&Mutation { gerrit: Some(gerrit(&meta)), ..Mutation::default() });
    assert!(corpus.gerrit().project(&project).unwrap().change(number).is_none());
    assert_eq!(corpus.gerrit().changes().count(), before - 1);
    assert_eq!(corpus.check(), Vec::<String>::new());
}

#[test]
fn unknown_fields_are_skipped_and_kinds_of_events_that_nobody_knows_are_kept() {
    let all = mutations(45);
    let mut corpus = Corpus::default();
    for mutation in &all {
        let mut encoded = vec![0xe8, 0x3f, 7]; // field 1021, a number
        encoded.extend(mutation.encode_to_vec());
        encoded.extend([0xf2, 0x3f, 2, b'h', b'i', 0xf9, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0]);
        corpus.apply_bytes(&encoded).unwrap();
    }
    corpus.settle();
    assert!(dump(&corpus) == dump(&fold(&all)));
    let event = GithubIssueEvent {
        id: 5,
        event_type: "teleported".into(),
        other_json: br#"{"to":"mars"}"#.to_vec().into(),
        ..Default::default()
    };
    let issue = GithubIssueMutation {
        owner: "golang".into(),
        repo: "go".into(),
        number: 99_999,
        created: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
        event: vec![event],
        ..Default::default()
    };
    corpus.apply(&Mutation { github_issue: Some(issue), ..Mutation::default() });
    let issue = corpus.github().repository("golang", "go").unwrap().issue(99_999).unwrap();
    let event = issue.events().next().unwrap();
    assert_eq!((event.kind(), event.other_json()), ("teleported", Some(&br#"{"to":"mars"}"#[..])));
}

/// Everything is shown afterwards, so that what damage left behind is looked at too.
#[test]
fn a_record_that_is_cut_or_flipped_anywhere_never_panics() {
    let all = mutations(46);
    let mut corpus = fold(&all);
    let mut refused = 0;
    for (number, mutation) in all.iter().enumerate() {
        let encoded = mutation.encode_to_vec();
        // Long texts are no different from one byte to the next: the more of them, the fewer are tried.
        let step = if number < 40 { 1 } else { 1 + encoded.len() / 40 };
        for at in (0..encoded.len()).step_by(step) {
            refused += usize::from(Corpus::default().apply_bytes(&encoded[..at]).is_err());
            let mut damaged = encoded.clone();
            damaged[at] ^= 1 << (at % 8);
            let _ = corpus.apply_bytes(&damaged); // whether it is noticed or not: here is only asked what it breaks
        }
    }
    assert!(refused > 1000);
    corpus.settle();
    corpus.check();
    let mut shown = String::new();
    dump_github(&corpus, &mut shown);
    for change in corpus.gerrit().changes() {
        let _ = (change.messages().count(), change.votes_after(3), change.hashtags_after(2).count());
    }
    assert!(shown.len() > 10_000);
}

#[test]
fn a_segment_that_is_damaged_is_said_and_one_that_is_being_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 47, Scale::TINY, Layout::Segments).unwrap();
    let growing = segment_files(dir.path()).unwrap().pop().unwrap();
    let whole = std::fs::read(&growing.path).unwrap();
    let all = mutations(47).len() as u64;
    std::fs::write(&growing.path, &whole[..whole.len() - 3]).unwrap();
    assert_eq!(replay::replay(dir.path()).unwrap().1.mutations, all - 1);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..][..100].fill(0xff);
    std::fs::write(&growing.path, &damaged).unwrap();
    let error = replay::replay(dir.path()).map(|(_, replayed)| replayed);
    let zeros = |at: usize| damaged[at] == 0xff;
    assert!(zeros(whole.len() / 2));
    assert!(error.is_err() || error.unwrap().mutations <= all);
    // As a frozen one, it is damaged even if only its end is missing.
    let digest = "0".repeat(56);
    let frozen = dir.path().join(format!("0000.{digest}.mutlog"));
    std::fs::write(&frozen, &whole[..whole.len() - 3]).unwrap();
    std::fs::remove_file(&growing.path).unwrap();
    assert!(replay::replay(dir.path()).is_err());
}
