//! A corpus as text, so that two can be compared.

use std::fmt::Write as _;

use maintner::Corpus;

/// All that can be seen of a corpus, in an order that does not depend on how it was read.
pub(crate) fn dump(corpus: &Corpus) -> String {
    let mut out = String::new();
    dump_github(corpus, &mut out);
    dump_gerrit(corpus, &mut out);
    let mut commits: Vec<String> = corpus
        .commits()
        .map(|commit| {
            let files: Vec<_> = commit.files().collect();
            let parents: Vec<_> = commit.parents().collect();
            format!(
                "{} {parents:?} {:?} {} {} {:?} {:?} {:?} {} {files:?} {:?}\n",
                commit.hash(),
                commit.tree(),
                commit.author(),
                commit.committer(),
                commit.authored(),
                commit.committed(),
                commit.zones(),
                commit.generation(),
                commit.message(),
            )
        })
        .collect();
    commits.sort();
    out.extend(commits);
    for repository in corpus.repositories() {
        writeln!(out, "{repository} {:?}", corpus.refs(repository).collect::<Vec<_>>()).unwrap();
    }
    out
}

pub(crate) fn dump_github(corpus: &Corpus, out: &mut String) {
    for repository in corpus.github().repositories() {
        let (labels, milestones): (Vec<_>, Vec<_>) =
            (repository.labels().collect(), repository.milestones().collect());
        let gone: Vec<_> = repository.gone().collect();
        writeln!(out, "{}/{} {labels:?} {milestones:?} {gone:?}", repository.owner(), repository.name())
            .unwrap();
        for issue in repository.issues() {
            let (labels, people): (Vec<_>, Vec<_>) = (issue.labels().collect(), issue.assignees().collect());
            writeln!(
                out,
                "{issue:?} {} {:?} {:?} {:?}",
                issue.id(),
                issue.user(),
                issue.closed_by(),
                issue.milestone()
            )
            .unwrap();
            let flags = (issue.is_pull_request(), issue.is_closed(), issue.is_locked());
            let times = (issue.created(), issue.updated(), issue.closed_at(), issue.last_modified());
            let synced = (issue.comments_synced(), issue.events_synced(), issue.reviews_synced());
            writeln!(out, "{flags:?} {times:?} {synced:?} {labels:?} {people:?} {}", issue.body()).unwrap();
            for comment in issue.comments() {
                let (id, user, body) = (comment.id(), comment.user(), comment.body());
                writeln!(out, "{id} {user:?} {:?} {:?} {body}", comment.created(), comment.updated())
                    .unwrap();
            }
            for event in issue.events() {
                let first = (event.id(), event.kind(), event.actor(), event.created(), event.label());
                let second = (event.milestone(), event.assignment(), event.commit(), event.other_json());
                let third =
                    (event.rename(), event.review_request(), event.dismissed_review(), event.team_reviewer());
                writeln!(out, "{first:?} {second:?} {third:?}").unwrap();
            }
            for comment in issue.review_comments() {
                writeln!(out, "{comment:?}").unwrap();
            }
            if issue.pull_synced().is_some() {
                writeln!(out, "{:?} {:?} {:?}", issue.pull(), issue.checks(), issue.pull_synced()).unwrap();
            }
            for review in issue.reviews() {
                let first = (review.id(), review.actor(), review.created(), review.state(), review.body());
                writeln!(out, "{first:?} {:?} {:?}", review.commit(), review.association()).unwrap();
            }
        }
    }
}

fn dump_gerrit(corpus: &Corpus, out: &mut String) {
    for project in corpus.gerrit().projects() {
        let refs: Vec<_> = project.refs().collect();
        let open: Vec<_> = project.open_changes().map(|change| change.number()).collect();
        writeln!(out, "{} {refs:?} {open:?}", project.name()).unwrap();
        for change in project.changes() {
            let flags =
                (change.status(), change.is_private(), change.is_work_in_progress(), change.version());
            let times = (change.created(), change.updated());
            let texts = (change.branch(), change.topic(), change.owner(), change.change_id());
            let hashtags: Vec<_> = change.hashtags().collect();
            let patch_sets: Vec<_> = change.patch_sets().map(|one| (one.number, one.commit.hash())).collect();
            let metas: Vec<_> = change
                .metas()
                .map(|meta| (meta.commit().hash(), meta.tag(), meta.patch_set(), meta.author()))
                .collect();
            let mut votes: Vec<_> =
                change.votes().map(|vote| (vote.label, vote.voter, vote.value, vote.patch_set)).collect();
            votes.sort_unstable();
            let (attention, people): (Vec<_>, Vec<_>) =
                (change.attention().collect(), change.people().collect());
            let messages: Vec<_> =
                change.messages().map(|one| (one.text.into_owned(), one.patch_set)).collect();
            let issues: Vec<_> = change.issues().collect();
            writeln!(out, "{change:?} {flags:?} {times:?} {texts:?} {hashtags:?} {patch_sets:?} {metas:?}")
                .unwrap();
            writeln!(out, "{votes:?} {attention:?} {people:?} {messages:?} {issues:?}").unwrap();
            let all = change.votes_after(usize::MAX).len();
            assert_eq!(votes.len(), all, "the votes after all is read are those that count now");
            for (repository, number) in issues {
                let back = corpus.gerrit().changes_of_issue(repository, number);
                assert!(back.into_iter().any(|other| other.number() == change.number()));
            }
        }
    }
}
