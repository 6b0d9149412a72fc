//! From GitHub to mutations: what GitHub shows is what the log says, whatever goes wrong on the way.

mod faults;
mod gone;
mod wakes;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use api::{
    maintner::{GetLogStatusRequest, SourceStatus, watch_mutations_response::Event},
    maintpb::Mutation,
};
use maintner::Corpus;
use serde_json::{Value, json};

use crate::{
    PATIENCE, Watch, World,
    fake_github::{FakeGithub, Fault, Repo, head, is_same},
};

pub(super) const GO: &str = "golang/go";

/// A maintnerd with a GitHub, and what it told.
pub(super) struct Follower {
    pub(super) world: World,
    pub(super) github: FakeGithub,
    watch: Option<Watch>,
    corpus: Corpus,
    pub(super) told: Vec<Mutation>,
}

impl Follower {
    /// With the repository `golang/go`, which `fill` fills before anybody looks.
    pub(super) async fn start(fill: impl FnOnce(&FakeGithub)) -> Self {
        Self::with(&[GO], |_, _| (), fill).await
    }

    pub(super) async fn with(
        keys: &[&str],
        change: impl FnOnce(&mut maintnerd::Config, &FakeGithub),
        fill: impl FnOnce(&FakeGithub),
    ) -> Self {
        let mut world = World::start().await;
        let github = world.github(keys).await;
        fill(&github);
        change(&mut world.config, &github);
        world.restart().await;
        Self { world, github, watch: None, corpus: Corpus::default(), told: Vec::new() }
    }

    pub(super) async fn restart(&mut self) {
        self.stop().await;
        self.world.start_maintnerd().await;
    }

    /// Ends maintnerd, and forgets what it told.
    pub(super) async fn stop(&mut self) {
        self.watch = None;
        (self.corpus, self.told) = (Corpus::default(), Vec::new());
        self.world.stop_maintnerd().await;
    }

    /// Waits until the log says what GitHub shows.
    pub(super) async fn settles(&mut self) {
        self.settles_in(GO).await;
    }

    pub(super) async fn settles_in(&mut self, key: &str) {
        let github = self.github.clone();
        let is = |corpus: &Corpus| github.is_calm() && said(corpus, key) == github.read(key, shown);
        self.until(key, is, "what GitHub shows").await;
    }

    /// Reads the log until it says what is wanted.
    pub(super) async fn until(&mut self, key: &str, is: impl Fn(&Corpus) -> bool, wanted: &str) {
        if self.watch.is_none() {
            self.watch = Some(self.world.watch("").await);
        }
        let settled = async {
            let watch = self.watch.as_mut().unwrap();
            while !is(&self.corpus) {
                if let Some(Event::Batch(batch)) = watch.next().await.event {
                    batch.mutations.iter().for_each(|mutation| self.corpus.apply(mutation));
                    self.told.extend(batch.mutations);
                }
            }
        };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            let status = self.status().await;
            let (shown, said) = (self.github.read(key, shown), said(&self.corpus, key));
            panic!("wanted: {wanted}; GitHub shows:\n{shown}\nbut the log says:\n{said}\n{status:?}");
        }
        assert_eq!(self.corpus.check(), Vec::<String>::new());
    }

    pub(super) fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// What is known of the source.
    pub(super) async fn status(&self) -> SourceStatus {
        let status = self.world.client().get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
        let mut all = status.sources.into_iter();
        all.find(|one| one.source == format!("github/{GO}")).expect("the source has a status")
    }

    pub(super) async fn status_becomes(&self, is: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        let so = async {
            loop {
                let status = self.status().await;
                if is(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let Ok(status) = tokio::time::timeout(PATIENCE, so).await else {
            panic!("the status is {:?}", self.status().await);
        };
        status
    }

    /// Waits until GitHub was asked so many more times.
    pub(super) async fn asked(&self, times: usize) {
        let wanted = self.github.served().len() + times;
        let so = async {
            while self.github.served().len() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        crate::within(so).await;
    }

    pub(super) async fn position(&self) -> u64 {
        self.world.client().get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner().position
    }

    /// Nothing was told twice: each comment and event is new once, and each text is said when it changes only.
    pub(super) fn nothing_is_doubled(&self) {
        let mut new = BTreeMap::<(String, i32, String), usize>::new();
        for issue in self.told.iter().filter_map(|mutation| mutation.github_issue.as_ref()) {
            let opened = issue.created.iter().map(|_| "opened".to_owned());
            let comments = issue.comment.iter().filter(|one| one.created.is_some());
            let comments = comments.map(|comment| format!("comment {}", comment.id));
            let events = issue.event.iter().map(|event| format!("event {}", event.id));
            for what in opened.chain(comments).chain(events) {
                *new.entry((issue.repo.clone(), issue.number, what)).or_default() += 1;
            }
        }
        let doubled: Vec<_> = new.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
    }

    pub(super) async fn end(self) {
        drop(self.watch);
        self.world.end().await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What GitHub shows.
fn shown(repo: &Repo) -> String {
    let mut out = String::new();
    let names = |all: &BTreeMap<i64, Value>, name: &str| -> Vec<String> {
        all.values().map(|one| text(&one[name]).to_owned()).collect()
    };
    let (labels, milestones) = (names(&repo.labels, "name"), names(&repo.milestones, "title"));
    writeln!(out, "{labels:?} {milestones:?}").unwrap();
    for (number, issue) in &repo.issues {
        let each = |list: &str, name: &str| -> Vec<String> {
            issue[list].as_array().unwrap().iter().map(|one| text(&one[name]).to_owned()).collect()
        };
        let flags = (issue["state"] == "closed", issue["locked"] == true, issue["pull_request"].is_object());
        let (title, body, milestone) =
            (text(&issue["title"]), text(&issue["body"]), text(&issue["milestone"]["title"]));
        writeln!(
            out,
            "{number} {title:?} {body:?} {flags:?} {:?} {:?} {milestone:?} {}",
            each("labels", "name"),
            each("assignees", "login"),
            text(&issue["updated_at"])
        )
        .unwrap();
        let of = |all: &BTreeMap<i32, Vec<Value>>| all.get(number).cloned().unwrap_or_default();
        for one in of(&repo.comments) {
            writeln!(
                out,
                "  comment {} {:?} by {}",
                one["id"],
                text(&one["body"]),
                text(&one["user"]["login"])
            )
            .unwrap();
        }
        for one in of(&repo.events) {
            writeln!(out, "  event {} {:?}", one["id"], text(&one["event"])).unwrap();
        }
        for one in of(&repo.review_comments) {
            let (line, path) = (&one["line"], text(&one["path"]));
            writeln!(out, "  line {} {path}:{line} {:?}", one["id"], text(&one["body"])).unwrap();
        }
        for one in of(&repo.reviews) {
            writeln!(out, "  review {} {:?}", one["id"], text(&one["state"])).unwrap();
        }
        if let Some(pull) = repo.pulls.get(number) {
            let (head, base) = (&pull["head"], text(&pull["base"]["ref"]));
            let flags = (pull["draft"] == true, pull["merged"] == true);
            writeln!(out, "  {} {} to {base} {flags:?}", text(&head["sha"]), text(&head["ref"])).unwrap();
            let head = text(&head["sha"]);
            let all = |all: &BTreeMap<String, Vec<Value>>| all.get(head).cloned().unwrap_or_default();
            let runs =
                all(&repo.checks).into_iter().map(|run| (run["name"].clone(), run["conclusion"].clone()));
            let statuses =
                all(&repo.statuses).into_iter().map(|one| (one["context"].clone(), one["state"].clone()));
            let mut said: Vec<_> = runs
                .chain(statuses)
                .map(|(name, said)| format!("{} {}", text(&name), text(&said).replace("pending", "")))
                .collect();
            said.sort();
            if pull["state"] == "open" {
                writeln!(out, "  {said:?}").unwrap();
            }
        }
    }
    out
}

/// What the log says, in the same words.
fn said(corpus: &Corpus, key: &str) -> String {
    let mut out = String::new();
    let (owner, name) = key.split_once('/').unwrap();
    let Some(repository) = corpus.github().repository(owner, name) else { return out };
    let labels: Vec<&str> = repository.labels().map(|label| label.name).collect();
    let milestones: Vec<&str> = repository.milestones().map(|one| one.title).collect();
    writeln!(out, "{labels:?} {milestones:?}").unwrap();
    for issue in repository.issues() {
        let flags = (issue.is_closed(), issue.is_locked(), issue.is_pull_request());
        let labels: Vec<&str> = issue.labels().map(|label| label.name).collect();
        let assignees: Vec<&str> = issue.assignees().map(|user| user.login).collect();
        let milestone = match issue.milestone() {
            maintner::core::MilestoneOf::Some(milestone) => milestone.title,
            _ => "",
        };
        let updated = jiff::Timestamp::from_second(issue.updated().unwrap().seconds()).unwrap();
        writeln!(
            out,
            "{} {:?} {:?} {flags:?} {labels:?} {assignees:?} {milestone:?} {updated}",
            issue.number(),
            issue.title(),
            issue.body()
        )
        .unwrap();
        for one in issue.comments() {
            let user = one.user().map_or("", |user| user.login);
            writeln!(out, "  comment {} {:?} by {user}", one.id(), one.body()).unwrap();
        }
        for one in issue.events() {
            writeln!(out, "  event {} {:?}", one.id(), one.kind()).unwrap();
        }
        for one in issue.review_comments() {
            writeln!(out, "  line {} {}:{} {:?}", one.id, one.path, one.line, one.body).unwrap();
        }
        for one in issue.reviews() {
            writeln!(out, "  review {} {:?}", one.id(), one.state()).unwrap();
        }
        if let Some(pull) = issue.pull() {
            let flags = (pull.draft, pull.merged);
            writeln!(out, "  {} {} to {} {flags:?}", pull.head_sha, pull.head_ref, pull.base_ref).unwrap();
            let checks = issue.checks().filter(|checks| checks.sha == pull.head_sha);
            let checks = checks.map(|checks| checks.checks).unwrap_or_default();
            let mut said: Vec<_> =
                checks.iter().map(|check| format!("{} {}", check.name, check.conclusion)).collect();
            said.sort();
            if !issue.is_closed() {
                writeln!(out, "  {said:?}").unwrap();
            }
        }
    }
    out
}

/// Some issues with comments and events, and one pull request with reviews.
pub(super) fn some(github: &FakeGithub) {
    for n in 0..12 {
        let number = github.open(GO, &format!("issue {n}"));
        for comment in 0..n % 4 {
            github.comment(GO, number, &format!("comment {comment} on {number}"));
        }
        if n % 3 == 0 {
            github.close(GO, number);
        }
    }
    let pull = github.open_pull(GO, "a pull request");
    github.review(GO, pull, "COMMENTED");
    github.review(GO, pull, "APPROVED");
}

#[tokio::test]
async fn what_github_shows_is_what_the_log_says_and_stays_so() {
    let mut follower = Follower::start(some).await;
    follower.settles().await;
    let github = follower.github.clone();
    let bug = github.label(GO, "bug");
    let go1 = github.milestone(GO, "Go1");
    github.edit(GO, 1, |issue| {
        (issue["labels"], issue["milestone"]) = (json!([bug]), go1.clone());
        issue["assignees"] = json!([{ "id": 7, "login": "seven" }, { "id": 8, "login": "eight" }]);
        (issue["title"], issue["body"], issue["locked"]) = ("other".into(), "".into(), true.into());
    });
    github.happen(GO, 1, "labeled", &json!({ "label": { "name": "bug", "color": "f" } }));
    follower.settles().await;
    let comment = github.comment(GO, 1, "first");
    github.comment(GO, 1, "second");
    follower.settles().await;
    github.edit_comment(GO, 1, comment, "first, better");
    github.edit(GO, 1, |issue| issue["assignees"] = json!([{ "id": 8, "login": "eight" }]));
    follower.settles().await;
    github.delete_comment(GO, 1, comment);
    github.rename_label(GO, &bug, Some("defect"));
    follower.settles().await;
    github.rename_label(GO, &bug, None);
    github.edit(GO, 1, |issue| (issue["milestone"], issue["body"]) = (Value::Null, Value::Null));
    github.review(GO, 13, "DISMISSED");
    let line = github.review_line(GO, 13, "why?");
    github.review_line(GO, 13, "because");
    follower.settles().await;
    github.change_line(GO, 13, line, Some("why not?"));
    follower.settles().await;
    github.change_line(GO, 13, line, None);
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn a_pull_request_has_its_head_its_base_and_what_checks_say() {
    let mut follower = Follower::start(some).await;
    follower.settles().await;
    let github = follower.github.clone();
    // No issue changes with its checks.
    github.check(GO, 13, "build", None);
    github.status(GO, 13, "cla", "pending");
    follower.settles().await;
    github.status(GO, 13, "cla", "success");
    follower.settles().await;
    github.check(GO, 13, "build", Some("failure"));
    follower.settles().await;
    github.edit_pull(GO, 13, |pull| (pull["head"]["sha"], pull["draft"]) = (head(13, 2).into(), true.into()));
    follower.settles().await;
    // However long ago it changed: these are not over.
    github.check(GO, 13, "build", None);
    follower.settles().await;
    github.check(GO, 13, "build", Some("success"));
    follower.settles().await;
    github.merge(GO, 13);
    follower.settles().await;
    let repository = follower.corpus().github().repository("golang", "go").unwrap();
    let pull = repository.issue(13).unwrap().pull().unwrap();
    assert_eq!((pull.merged, pull.merged_by, pull.merge_commit), (true, 2, head(13, 0)));
    assert_eq!((&*pull.head_repository, pull.merged_at.is_some()), ("me/go", true));
    // Whoever follows is told once of each.
    let told = |what: fn(&api::maintpb::GithubIssueMutation) -> bool| {
        follower.told.iter().filter_map(|one| one.github_issue.as_ref()).filter(|one| what(one)).count()
    };
    assert_eq!(told(|one| one.pull.is_some()), 3);
    assert!(told(|one| one.checks.is_some()) <= 8);
    follower.status_becomes(|status| status.error.is_empty() && status.repaired == 0).await;
    follower.end().await;
}

#[tokio::test]
async fn checks_that_a_token_may_not_read_keep_nothing_else_from_the_log() {
    let mut follower = Follower::start(|github| {
        some(github);
        for _ in 0..200 {
            github.fail("/check-runs", Fault::Status(403));
        }
    })
    .await;
    follower.settles().await;
    follower.github.status(GO, 13, "cla", "success");
    follower.settles().await;
    follower.status_becomes(|status| status.fresh_at.is_some() && status.error.is_empty()).await;
    follower.end().await;
}

#[tokio::test]
async fn nothing_new_costs_nothing_and_adds_nothing() {
    let mut follower = Follower::start(some).await;
    follower.settles().await;
    let status = follower.status_becomes(|status| status.fresh_at.is_some() && status.error.is_empty()).await;
    assert_eq!(status.repaired, 0);
    follower.asked(20).await;
    let (position, served) = (follower.position().await, follower.github.served().len());
    follower.asked(20).await;
    let later = &follower.github.served()[served..];
    assert!(later.iter().all(|(_, status)| is_same(*status)), "{later:?}");
    assert_eq!(follower.position().await, position);
    follower.end().await;
}

#[tokio::test]
async fn an_import_that_is_cut_off_goes_on_and_doubles_nothing() {
    let mut follower = Follower::start(|github| {
        github.set_most_on_page(3);
        some(github);
    })
    .await;
    for requests in [2, 3, 5, 8, 13] {
        follower.asked(requests).await;
        follower.restart().await;
    }
    follower.settles().await;
    follower.nothing_is_doubled();
    // What the log says is what the next start finds.
    let position = follower.position().await;
    follower.github.comment(GO, 2, "while nobody looks");
    follower.restart().await;
    follower.settles().await;
    follower.nothing_is_doubled();
    assert!(follower.position().await <= position + 3, "all of it was told again");
    follower.end().await;
}

#[tokio::test]
async fn issues_that_move_between_pages_are_neither_lost_nor_doubled() {
    let mut follower = Follower::start(|github| {
        github.set_most_on_page(3);
        some(github);
        for number in [1, 4, 5, 9] {
            github.after("/issues?", move |github| {
                github.comment(GO, number, "meanwhile");
                github.open(GO, "new meanwhile");
            });
        }
        github.after("/issues?", |github| github.delete(GO, 2));
        github.after("/comments", |github| {
            github.comment(GO, 4, "meanwhile, too");
        });
    })
    .await;
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn many_issues_of_one_second_come_by_their_cursor() {
    let mut follower = Follower::start(|github| {
        github.set_most_on_page(3);
        some(github);
        let one = github.read(GO, |repo| repo.issues[&13]["updated_at"].clone());
        for number in 1..=13 {
            let one = one.clone();
            github.edit(GO, number, |issue| issue["updated_at"] = one);
        }
    })
    .await;
    follower.settles().await;
    follower.nothing_is_doubled();
    follower.end().await;
}

#[tokio::test]
async fn a_time_in_the_future_hides_nothing_that_comes_later() {
    let mut follower = Follower::start(some).await;
    follower.settles().await;
    let github = follower.github.clone();
    github.edit(GO, 3, |issue| issue["updated_at"] = "2099-01-01T00:00:00Z".into());
    follower.settles().await;
    github.comment(GO, 5, "later, by any clock but one");
    follower.settles().await;
    follower.status_becomes(|status| status.error.is_empty()).await;
    follower.asked(10).await;
    let position = follower.position().await;
    follower.asked(20).await;
    assert_eq!(follower.position().await, position, "it is told again and again");
    follower.restart().await;
    github.comment(GO, 3, "now it is of this time again");
    follower.settles().await;
    follower.end().await;
}
