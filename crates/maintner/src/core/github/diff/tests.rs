use std::collections::BTreeSet;

use api::maintpb::{
    GithubCheck, GithubChecks, GithubIssueEvent, GithubPull, GithubReview, GithubReviewComment, Mutation,
};
use proptest::{collection::vec, option, prelude::*};

use super::*;

const AT: At<'_> = At { owner: "golang", name: "go" };

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn person(id: i64, name: u8) -> GithubUser {
    let login = if id == 0 { String::new() } else { format!("gopher{id}-{name}") };
    GithubUser { id, login }
}

fn label(id: i64, name: u8) -> GithubLabel {
    GithubLabel { id, name: format!("label {id} {name}") }
}

fn seen_milestone(id: i64) -> GithubMilestone {
    let closed = Some(BoolChange { val: id % 2 == 0 });
    GithubMilestone { id, title: format!("Go1.{id}"), closed, number: id * 10 }
}

/// Each number once, as a page shows it.
fn distinct(ids: Vec<i64>) -> Vec<i64> {
    ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

prop_compose! {
    /// What an answer shows; all names in it are of one time.
    fn seen_issue()(
        number in 1i32..4,
        (created, updated, closed_at) in (0i64..3, 0i64..9, option::of(0i64..9)),
        (title, body) in ("[a-c]{0,2}", "[a-c\n]{0,3}"),
        (name, user, closed_by) in (0u8..3, option::of(0i64..4), option::of(1i64..4)),
        assignees in vec(1i64..5, 0..4),
        labels in vec(1i64..6, 0..5),
        milestone in option::of(1i64..4),
        (closed, locked, pull_request) in any::<(bool, bool, bool)>(),
    ) -> SeenIssue {
        SeenIssue {
            number,
            id: i64::from(number) + 100,
            created: time(created),
            updated: time(updated),
            title,
            body,
            user: user.map(|id| person(id, name)),
            assignees: distinct(assignees).into_iter().map(|id| person(id, name)).collect(),
            labels: distinct(labels).into_iter().map(|id| label(id, name)).collect(),
            milestone: milestone.map(seen_milestone),
            closed,
            closed_at: closed_at.filter(|_| closed).map(time),
            closed_by: closed_by.map(|id| person(id, name)).filter(|_| closed),
            locked,
            pull_request,
        }
    }
}

fn on_a_line((id, body): (i64, String)) -> GithubReviewComment {
    GithubReviewComment { id, body, path: "a.go".into(), ..GithubReviewComment::default() }
}

fn pull((head_sha, draft): (String, bool)) -> GithubPull {
    GithubPull { head_sha, draft, base_ref: "master".into(), ..GithubPull::default() }
}

fn checks(sha: String, all: Vec<(i64, String, String)>) -> GithubChecks {
    let check = |(id, name, conclusion)| GithubCheck { id, name, conclusion, ..GithubCheck::default() };
    GithubChecks { sha, checks: all.into_iter().map(check).collect() }
}

prop_compose! {
    fn seen_details()(
        comments in vec((0i64..6, 0i64..4, 0u8..2, "[a-c]{1,2}", (0i64..4, 0i64..9)), 0..6),
        events in vec((0i64..6, 0i64..4), 0..5),
        reviews in vec((0i64..6, "[a-c]{0,2}", 0i64..9), 0..5),
        lines in (vec((0i64..6, "[a-c]{0,2}"), 0..5), any::<bool>()),
        (at, all_comments) in (0i64..20, any::<bool>()),
        (head, said) in (
            option::of(("[ab]", any::<bool>())),
            option::of(("[ab]?", vec((0i64..3, "[ab]", "(success|failure)?"), 0..4))),
        ),
    ) -> SeenDetails {
        let name = comments.first().map_or(0, |first| first.2);
        let comment = |(id, user, _, body, (created, updated))| SeenComment {
            id,
            user: Some(person(user, name)).filter(|user| user.id != 0),
            body,
            created: time(created),
            updated: time(updated),
        };
        let event = |(id, created)| GithubIssueEvent {
            id,
            event_type: "labeled".into(),
            actor_id: 7,
            created: Some(wire(time(created))),
            label: Some(GithubLabel { id: 0, name: "x".into() }),
            ..GithubIssueEvent::default()
        };
        let review = |(id, body, created)| GithubReview {
            id,
            actor_id: 7,
            created: Some(wire(time(created))),
            body,
            state: "APPROVED".into(),
            ..GithubReview::default()
        };
        SeenDetails {
            comments: comments.into_iter().map(comment).collect(),
            all_comments,
            comments_at: Some(time(at)),
            events: events.into_iter().map(event).collect(),
            events_at: Some(time(at)),
            reviews: reviews.into_iter().map(review).collect(),
            reviews_at: Some(time(at)),
            review_comments: lines.0.into_iter().map(on_a_line).collect(),
            all_review_comments: lines.1,
            review_comments_at: Some(time(at)),
            pull: head.map(pull),
            checks: said.map(|(sha, all)| checks(sha, all)),
            pull_at: Some(time(at)),
        }
    }
}

#[derive(Debug, Clone)]
enum Look {
    Issue(SeenIssue),
    Details(i32, SeenDetails),
    Repository(Option<Vec<GithubLabel>>, Option<Vec<GithubMilestone>>),
    Gone(i32, i32),
    Synced(i64),
}

fn look() -> impl Strategy<Value = Look> {
    let labels = (vec(1i64..6, 0..5), 0u8..3)
        .prop_map(|(ids, name)| distinct(ids).into_iter().map(|id| label(id, name)).collect());
    let milestones =
        vec(1i64..4, 0..4).prop_map(|ids| distinct(ids).into_iter().map(seen_milestone).collect());
    prop_oneof![
        4 => seen_issue().prop_map(Look::Issue),
        4 => (1i32..4, seen_details()).prop_map(|(number, seen)| Look::Details(number, seen)),
        1 => (option::of(labels), option::of(milestones)).prop_map(|(one, other)| Look::Repository(one, other)),
        1 => (1i32..4, 0i32..5).prop_map(|(number, reason)| Look::Gone(number, reason)),
        1 => (0i64..50).prop_map(Look::Synced),
    ]
}

fn of_issue(issue: GithubIssueMutation) -> Mutation {
    Mutation { github_issue: Some(issue), ..Mutation::default() }
}

fn of_repository(github: GithubMutation) -> Mutation {
    Mutation { github: Some(github), ..Mutation::default() }
}

impl Look {
    fn news(&self, corpus: &Corpus) -> Vec<Mutation> {
        match self {
            Self::Issue(seen) => issue(corpus, AT, seen).map(of_issue).into_iter().collect(),
            Self::Details(number, seen) => {
                details(corpus, AT, *number, seen).into_iter().map(of_issue).collect()
            }
            Self::Repository(labels, milestones) => {
                let (issues, said) = repository(corpus, AT, labels.as_deref(), milestones.as_deref());
                issues.into_iter().map(of_issue).chain(said.map(of_repository)).collect()
            }
            Self::Gone(number, reason) => {
                let why = GithubGone { reason: *reason, moved_to: String::new() };
                gone(corpus, AT, *number, &why).map(of_issue).into_iter().collect()
            }
            Self::Synced(at) => issues_synced(corpus, AT, time(*at)).map(of_repository).into_iter().collect(),
        }
    }
}

/// What the corpus says of an issue is what was seen.
fn is_as_seen(corpus: &Corpus, seen: &SeenIssue) {
    let repository = corpus.github().repository(AT.owner, AT.name).unwrap();
    let issue = repository.issue(seen.number).expect("it exists");
    assert_eq!(
        (issue.updated(), issue.is_closed(), issue.is_locked()),
        (Some(seen.updated), seen.closed, seen.locked)
    );
    assert_eq!(issue.body(), seen.body);
    assert!(seen.title.is_empty() || issue.title() == seen.title);
    let of = |user: Option<User<'_>>| user.map(|user| (user.id, user.login.to_owned()));
    let seen_user = seen.user.as_ref().filter(|user| user.id != 0);
    assert_eq!(of(issue.user()), seen_user.map(|user| (user.id, user.login.clone())));
    let mut assignees: Vec<_> = issue.assignees().map(|user| (user.id, user.login.to_owned())).collect();
    assignees.sort();
    assert_eq!(
        assignees,
        seen.assignees.iter().map(|user| (user.id, user.login.clone())).collect::<Vec<_>>()
    );
    let labels: Vec<_> = issue.labels().map(|label| (label.id, label.name.to_owned())).collect();
    assert_eq!(labels, seen.labels.iter().map(|label| (label.id, label.name.clone())).collect::<Vec<_>>());
    let milestone = match issue.milestone() {
        super::super::MilestoneOf::Some(milestone) => Some(milestone.id),
        super::super::MilestoneOf::None => None,
        super::super::MilestoneOf::Unknown => panic!("it was told"),
    };
    assert_eq!(milestone, seen.milestone.as_ref().map(|seen| seen.id));
}

fn holds_comments(corpus: &Corpus, number: i32, seen: &SeenDetails) {
    let repository = corpus.github().repository(AT.owner, AT.name);
    let Some(issue) = repository.and_then(|known| known.issue(number)) else { return };
    let last: std::collections::BTreeMap<i64, &SeenComment> =
        seen.comments.iter().filter(|one| one.id != 0).map(|one| (one.id, one)).collect();
    let known: std::collections::BTreeMap<i64, String> =
        issue.comments().map(|one| (one.id(), one.body().into_owned())).collect();
    for (id, seen) in &last {
        assert_eq!(known.get(id), Some(&seen.body));
    }
    assert!(!seen.all_comments || known.len() == last.len());
    let lines: BTreeSet<i64> = seen.review_comments.iter().map(|one| one.id).filter(|id| *id != 0).collect();
    let known: BTreeSet<i64> = issue.review_comments().map(|one| one.id).collect();
    assert!(known.is_superset(&lines) && (!seen.all_review_comments || known == lines));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_applied_is_no_news(looks in vec(look(), 1..25)) {
        let mut corpus = Corpus::default();
        for look in looks {
            for mutation in look.news(&corpus) {
                corpus.apply(&mutation);
            }
            prop_assert_eq!(look.news(&corpus), vec![], "after {:?}", look);
            match &look {
                Look::Issue(seen) => is_as_seen(&corpus, seen),
                Look::Details(number, seen) => holds_comments(&corpus, *number, seen),
                _ => {}
            }
        }
        prop_assert_eq!(corpus.check(), Vec::<String>::new());
        prop_assert_eq!(corpus.statistics().malformed, 0);
    }
}

fn opened(number: i32) -> SeenIssue {
    SeenIssue {
        number,
        id: 1,
        created: time(0),
        updated: time(1),
        title: "a".into(),
        body: String::new(),
        user: None,
        assignees: Vec::new(),
        labels: vec![label(1, 0)],
        milestone: Some(seen_milestone(2)),
        closed: false,
        closed_at: None,
        closed_by: None,
        locked: false,
        pull_request: false,
    }
}

fn apply(corpus: &mut Corpus, look: &Look) -> Vec<Mutation> {
    let news = look.news(corpus);
    for mutation in &news {
        corpus.apply(mutation);
    }
    news
}

#[test]
fn a_label_that_is_deleted_leaves_the_issues_first() {
    let mut corpus = Corpus::default();
    apply(&mut corpus, &Look::Issue(opened(1)));
    let news = apply(&mut corpus, &Look::Repository(Some(Vec::new()), Some(Vec::new())));
    let issue = news[0].github_issue.as_ref().unwrap();
    assert_eq!((issue.remove_label.as_slice(), issue.no_milestone), (&[1][..], true));
    let said = news[1].github.as_ref().unwrap();
    assert_eq!((said.deleted_labels.as_slice(), said.deleted_milestones.as_slice()), (&[1][..], &[2][..]));
    let repository = corpus.github().repository(AT.owner, AT.name).unwrap();
    assert_eq!((repository.labels().count(), repository.milestones().count()), (0, 0));
    assert_eq!(repository.issue(1).unwrap().labels().count(), 0);
}

#[test]
fn a_tombstone_has_a_reason_and_what_comes_back_is_there_again() {
    let mut corpus = Corpus::default();
    apply(&mut corpus, &Look::Issue(opened(3)));
    apply(&mut corpus, &Look::Gone(3, GithubGoneReason::Transferred as i32));
    let known = |corpus: &Corpus| {
        let repository = corpus.github().repository(AT.owner, AT.name).unwrap();
        (repository.why_gone(3), repository.missing(5), repository.issue(3).is_some())
    };
    assert_eq!(known(&corpus), (Some(Gone::Transferred), vec![1, 2], false));
    assert_eq!(apply(&mut corpus, &Look::Issue(opened(3))).len(), 1);
    assert_eq!(known(&corpus), (None, vec![1, 2], true));
}

#[test]
fn details_of_what_is_not_there_are_no_news_and_many_come_in_pieces() {
    let mut corpus = Corpus::default();
    let comment = |id| SeenComment { id, user: None, body: "x".into(), created: time(id), updated: time(id) };
    let seen = SeenDetails {
        comments: (1..=250).map(comment).collect(),
        comments_at: Some(time(300)),
        ..SeenDetails::default()
    };
    assert_eq!(Look::Details(3, seen.clone()).news(&corpus), vec![]);
    apply(&mut corpus, &Look::Issue(opened(3)));
    let news = apply(&mut corpus, &Look::Details(3, seen));
    let pieces: Vec<_> = news.iter().map(|one| one.github_issue.as_ref().unwrap()).collect();
    assert_eq!(pieces.iter().map(|piece| piece.comment.len()).collect::<Vec<_>>(), [100, 100, 50]);
    let told: Vec<bool> = pieces.iter().map(|piece| piece.comment_status.is_some()).collect();
    assert_eq!(told, [false, false, true], "only when all of it is said");
}
