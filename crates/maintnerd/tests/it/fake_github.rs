//! A GitHub in memory that keeps its contracts: etags, pages by cursor and by number, limits, redirects, tombstones; and
//! faults on demand. Its clock is its own: a second passes with each request, two with each change.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State as Shared,
    http::{HeaderMap, Response, StatusCode, Uri},
};
use futures_util::{StreamExt as _, stream};
use maintnerd::GithubRepository;
use runtime::Tasks;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use tokio::time::Instant;

/// 2026-01-01. No test asks what time it is for us.
const BEGINNING: i64 = 1_767_225_600;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    /// The body ends in its middle.
    Cut,
    /// A page for people.
    Html,
    /// 200, and nothing.
    Empty,
    /// The next page is this one.
    Round,
    /// There is no next page, although there is.
    NoLink,
    /// A secondary limit; come back in so many seconds.
    Secondary(u64),
    /// Too many requests, says a proxy, and no more.
    TooMany,
}

/// What became of a number.
#[derive(Debug, Clone)]
enum Gone {
    Deleted,
    Transferred(String),
    Hidden,
}

#[derive(Default)]
pub(crate) struct Repo {
    name: String,
    pub(crate) issues: BTreeMap<i32, Value>,
    pub(crate) comments: BTreeMap<i32, Vec<Value>>,
    pub(crate) events: BTreeMap<i32, Vec<Value>>,
    pub(crate) reviews: BTreeMap<i32, Vec<Value>>,
    pub(crate) review_comments: BTreeMap<i32, Vec<Value>>,
    pub(crate) pulls: BTreeMap<i32, Value>,
    /// By commit.
    pub(crate) checks: BTreeMap<String, Vec<Value>>,
    pub(crate) statuses: BTreeMap<String, Vec<Value>>,
    pub(crate) labels: BTreeMap<i64, Value>,
    pub(crate) milestones: BTreeMap<i64, Value>,
    gone: BTreeMap<i32, Gone>,
    next: i32,
}

type Action = Box<dyn FnOnce(&FakeGithub) + Send>;

#[derive(Default)]
struct State {
    now: i64,
    last_id: i64,
    repos: BTreeMap<String, Repo>,
    /// Old names of repositories.
    renamed: BTreeMap<String, String>,
    hidden: bool,
    most_on_page: usize,
    /// What is left of the primary limit, and when there is more.
    left: Option<(u64, i64)>,
    limited_until: Option<Instant>,
    too_early: usize,
    faults: VecDeque<(String, Fault)>,
    after: Vec<(String, Action)>,
    served: Vec<(String, u16)>,
}

#[derive(Clone)]
pub(crate) struct FakeGithub {
    url: String,
    state: Arc<Mutex<State>>,
}

fn iso(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// The commit that a pull request wants to merge, after so many pushes.
pub(crate) fn head(number: i32, pushes: u32) -> String {
    hex::encode(Sha1::digest(format!("{number} {pushes}")))
}

fn person(id: i64) -> Value {
    json!({ "id": id, "login": format!("gopher{id}"), "type": "User" })
}

impl FakeGithub {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let state = State { now: BEGINNING, last_id: 1000, most_on_page: 100, ..State::default() };
        let mut fake = Self { url: String::new(), state: Arc::new(Mutex::new(state)) };
        let router = Router::new().fallback(serve).with_state(fake.clone());
        let server = rpc::Server::new("github", tasks.clone()).plain_loopback().http(router);
        let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        fake.url = format!("http://{}", bound.addr());
        bound.start();
        // Links hold the address.
        *fake.state().repos.entry(String::new()).or_default() =
            Repo { name: fake.url.clone(), ..Repo::default() };
        fake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A repository that is there from now on, as a source is told of it.
    pub(crate) fn repository(&self, key: &str) -> GithubRepository {
        self.state().repos.insert(key.into(), Repo { name: key.into(), next: 1, ..Repo::default() });
        let (owner, name) = key.split_once('/').unwrap();
        GithubRepository {
            owner: owner.into(),
            name: name.into(),
            url: self.url.clone(),
            token: None,
            poll: Duration::from_millis(20),
        }
    }

    /// Changes something at a time of its own.
    fn change<T>(&self, key: &str, change: impl FnOnce(&mut Repo, &str, &mut i64) -> T) -> T {
        let mut state = self.state();
        state.now += 2;
        let now = iso(state.now);
        let State { repos, last_id, .. } = &mut *state;
        change(repos.get_mut(key).unwrap(), &now, last_id)
    }

    pub(crate) fn read<T>(&self, key: &str, read: impl FnOnce(&Repo) -> T) -> T {
        read(&self.state().repos[key])
    }

    pub(crate) fn open(&self, key: &str, title: &str) -> i32 {
        self.change(key, |repo, now, id| {
            let number = repo.next;
            repo.next += 1;
            *id += 1;
            let issue = json!({
                "id": *id, "number": number, "title": title, "body": format!("about {title}"), "user": person(1),
                "labels": [], "assignees": [], "milestone": null, "state": "open", "locked": false, "comments": 0,
                "created_at": now, "updated_at": now, "closed_at": null, "node_id": "x"
            });
            repo.issues.insert(number, issue);
            number
        })
    }

    pub(crate) fn open_pull(&self, key: &str, title: &str) -> i32 {
        let number = self.open(key, title);
        self.edit_untold(key, |repo| {
            let pull = json!({
                "number": number, "state": "open", "draft": false, "merged": false, "merged_at": null,
                "merged_by": null, "merge_commit_sha": head(number, 0),
                "head": { "ref": format!("fix-{number}"), "sha": head(number, 1), "repo": { "full_name": "me/go" } },
                "base": { "ref": "master", "sha": head(0, 0), "repo": { "full_name": key } }
            });
            repo.pulls.insert(number, pull);
        });
        self.edit(key, number, |issue| issue["pull_request"] = json!({ "url": "p" }));
        number
    }

    /// Changes a pull request, and with it the time of its issue.
    pub(crate) fn edit_pull(&self, key: &str, number: i32, edit: impl FnOnce(&mut Value)) {
        self.edit_untold(key, |repo| edit(repo.pulls.get_mut(&number).unwrap()));
        self.edit(key, number, |_| ());
    }

    /// Somebody merges a pull request.
    pub(crate) fn merge(&self, key: &str, number: i32) {
        let at = iso(self.state().now);
        self.edit_untold(key, |repo| {
            let pull = repo.pulls.get_mut(&number).unwrap();
            (pull["merged"], pull["merged_at"], pull["merged_by"]) = (true.into(), at.into(), person(2));
        });
        self.close(key, number);
    }

    /// A check says something of the head of a pull request; nothing until it is over. No issue changes.
    pub(crate) fn check(&self, key: &str, number: i32, name: &str, conclusion: Option<&str>) {
        self.change(key, |repo, now, id| {
            *id += 1;
            let commit = repo.pulls[&number]["head"]["sha"].as_str().unwrap().to_owned();
            let runs = repo.checks.entry(commit).or_default();
            runs.retain(|run| run["name"] != name);
            runs.push(json!({
                "id": *id, "name": name, "conclusion": conclusion, "app": { "slug": "actions" },
                "completed_at": conclusion.map(|_| now), "html_url": "https://checks", "details_url": null
            }));
        });
    }

    /// The same of a commit status: `pending` until it is over.
    pub(crate) fn status(&self, key: &str, number: i32, context: &str, state: &str) {
        self.change(key, |repo, now, id| {
            *id += 1;
            let commit = repo.pulls[&number]["head"]["sha"].as_str().unwrap().to_owned();
            let statuses = repo.statuses.entry(commit).or_default();
            statuses.retain(|status| status["context"] != context);
            statuses.push(json!({
                "id": *id, "context": context, "state": state, "target_url": null, "updated_at": now
            }));
        });
    }

    /// A number that is no issue.
    pub(crate) fn discuss(&self, key: &str) -> i32 {
        self.change(key, |repo, _, _| {
            repo.next += 1;
            repo.gone.insert(repo.next - 1, Gone::Hidden);
            repo.next - 1
        })
    }

    pub(crate) fn edit(&self, key: &str, number: i32, edit: impl FnOnce(&mut Value)) {
        self.change(key, |repo, now, _| {
            let issue = repo.issues.get_mut(&number).unwrap();
            issue["updated_at"] = now.into();
            edit(issue);
        });
    }

    /// An edit that GitHub forgets to tell of.
    pub(crate) fn edit_untold(&self, key: &str, edit: impl FnOnce(&mut Repo)) {
        self.change(key, |repo, _, _| edit(repo));
    }

    pub(crate) fn happen(&self, key: &str, number: i32, kind: &str, more: &Value) {
        self.change(key, |repo, now, id| {
            *id += 1;
            let mut event = json!({
                "id": *id, "event": kind, "actor": person(2), "created_at": now, "node_id": "x", "url": "u",
                "commit_id": null, "performed_via_github_app": null
            });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            repo.events.entry(number).or_default().push(event);
            repo.issues.get_mut(&number).unwrap()["updated_at"] = now.into();
        });
    }

    pub(crate) fn close(&self, key: &str, number: i32) {
        self.edit(key, number, |issue| {
            issue["state"] = "closed".into();
            issue["closed_at"] = issue["updated_at"].clone();
        });
        self.edit_untold(key, |repo| {
            if let Some(pull) = repo.pulls.get_mut(&number) {
                pull["state"] = "closed".into();
            }
        });
        self.happen(key, number, "closed", &json!({}));
    }

    pub(crate) fn comment(&self, key: &str, number: i32, body: &str) -> i64 {
        self.change(key, |repo, now, id| {
            *id += 1;
            let comments = repo.comments.entry(number).or_default();
            comments.push(json!({
                "id": *id, "user": person(3), "body": body, "created_at": now, "updated_at": now
            }));
            let issue = repo.issues.get_mut(&number).unwrap();
            (issue["comments"], issue["updated_at"]) = (comments.len().into(), now.into());
            *id
        })
    }

    pub(crate) fn edit_comment(&self, key: &str, number: i32, comment: i64, body: &str) {
        self.change(key, |repo, now, _| {
            let mut comments = repo.comments.get_mut(&number).unwrap().iter_mut();
            let comment = comments.find(|one| one["id"] == comment).unwrap();
            (comment["body"], comment["updated_at"]) = (body.into(), now.into());
            repo.issues.get_mut(&number).unwrap()["updated_at"] = now.into();
        });
    }

    pub(crate) fn delete_comment(&self, key: &str, number: i32, comment: i64) {
        self.change(key, |repo, now, _| {
            let comments = repo.comments.get_mut(&number).unwrap();
            comments.retain(|one| one["id"] != comment);
            let issue = repo.issues.get_mut(&number).unwrap();
            (issue["comments"], issue["updated_at"]) = (comments.len().into(), now.into());
        });
    }

    pub(crate) fn review(&self, key: &str, number: i32, state: &str) -> i64 {
        self.change(key, |repo, now, id| {
            *id += 1;
            repo.reviews.entry(number).or_default().push(json!({
                "id": *id, "user": person(4), "body": "well", "state": state, "submitted_at": now,
                "commit_id": "abc", "author_association": "MEMBER", "node_id": "x"
            }));
            repo.issues.get_mut(&number).unwrap()["updated_at"] = now.into();
            *id
        })
    }

    /// Comments on a line of a pull request.
    pub(crate) fn review_line(&self, key: &str, number: i32, body: &str) -> i64 {
        self.change(key, |repo, now, id| {
            *id += 1;
            repo.review_comments.entry(number).or_default().push(json!({
                "id": *id, "pull_request_review_id": 1, "user": person(4), "body": body, "path": "a.go", "line": 7,
                "side": "RIGHT", "commit_id": "abc", "original_commit_id": "abc", "created_at": now,
                "updated_at": now, "start_line": null
            }));
            repo.issues.get_mut(&number).unwrap()["updated_at"] = now.into();
            *id
        })
    }

    /// Changes the text of a comment on a line, or deletes it.
    pub(crate) fn change_line(&self, key: &str, number: i32, comment: i64, body: Option<&str>) {
        self.change(key, |repo, now, _| {
            let comments = repo.review_comments.get_mut(&number).unwrap();
            comments.retain_mut(|one| {
                let is_it = one["id"] == comment;
                if let (true, Some(body)) = (is_it, body) {
                    (one["body"], one["updated_at"]) = (body.into(), now.into());
                }
                !is_it || body.is_some()
            });
            repo.issues.get_mut(&number).unwrap()["updated_at"] = now.into();
        });
    }

    pub(crate) fn label(&self, key: &str, name: &str) -> Value {
        self.change(key, |repo, _, id| {
            *id += 1;
            let label = json!({ "id": *id, "name": name, "color": "f29513" });
            repo.labels.insert(*id, label.clone());
            label
        })
    }

    /// Renames a label, or deletes it. No issue changes its time.
    pub(crate) fn rename_label(&self, key: &str, label: &Value, name: Option<&str>) {
        let id = label["id"].as_i64().unwrap();
        self.change(key, |repo, _, _| {
            let now = name.map(|name| json!({ "id": id, "name": name, "color": "f29513" }));
            for issue in repo.issues.values_mut() {
                let labels = issue["labels"].as_array_mut().unwrap();
                labels.retain_mut(|one| {
                    let is_it = one["id"] == id;
                    if let (true, Some(now)) = (is_it, &now) {
                        *one = now.clone();
                    }
                    !is_it || now.is_some()
                });
            }
            match now {
                Some(now) => repo.labels.insert(id, now),
                None => repo.labels.remove(&id),
            };
        });
    }

    pub(crate) fn milestone(&self, key: &str, title: &str) -> Value {
        self.change(key, |repo, _, id| {
            *id += 1;
            let number = repo.milestones.len() + 1;
            let milestone = json!({ "id": *id, "number": number, "title": title, "state": "open" });
            repo.milestones.insert(*id, milestone.clone());
            milestone
        })
    }

    fn remove(&self, key: &str, number: i32, gone: Gone) {
        self.change(key, |repo, _, _| {
            repo.issues.remove(&number);
            repo.comments.remove(&number);
            repo.events.remove(&number);
            repo.gone.insert(number, gone);
        });
    }

    pub(crate) fn delete(&self, key: &str, number: i32) {
        self.remove(key, number, Gone::Deleted);
    }

    pub(crate) fn hide(&self, key: &str, number: i32) {
        self.remove(key, number, Gone::Hidden);
    }

    /// Moves an issue. Answers its new number.
    pub(crate) fn transfer(&self, key: &str, number: i32, to: &str) -> i32 {
        let there = self.open(to, "moved here");
        self.remove(key, number, Gone::Transferred(format!("/repos/{to}/issues/{there}")));
        there
    }

    pub(crate) fn rename(&self, key: &str, to: &str) {
        let mut state = self.state();
        let mut repo = state.repos.remove(key).unwrap();
        repo.name = to.into();
        state.repos.insert(to.into(), repo);
        state.renamed.insert(key.into(), to.into());
    }

    /// Whether nothing is shown any more, as to a token that lost its rights.
    pub(crate) fn set_hidden(&self, hidden: bool) {
        self.state().hidden = hidden;
    }

    pub(crate) fn set_most_on_page(&self, most: usize) {
        self.state().most_on_page = most;
    }

    /// So many requests are left, and more after so many seconds. Those before count.
    pub(crate) fn limit(&self, left: u64, seconds: i64) {
        let mut state = self.state();
        state.left = Some((left, seconds));
    }

    /// The next request whose address holds this fails.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        self.state().faults.push_back((path.into(), fault));
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Does something right after the next answer to a request whose address holds this.
    pub(crate) fn after(&self, path: &str, action: impl FnOnce(&Self) + Send + 'static) {
        self.state().after.push((path.into(), Box::new(action)));
    }

    /// Whether nothing waits for a request any more.
    pub(crate) fn is_calm(&self) -> bool {
        self.state().after.is_empty()
    }

    /// How often it was asked although it had said not to.
    pub(crate) fn asked_too_early(&self) -> usize {
        self.state().too_early
    }

    /// What was asked, and the status of each answer.
    pub(crate) fn served(&self) -> Vec<(String, u16)> {
        self.state().served.clone()
    }
}

async fn serve(Shared(fake): Shared<FakeGithub>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let at = uri.to_string();
    let (response, actions) = {
        let mut state = fake.state();
        let response = state.answer(&at, &headers);
        state.served.push((at.clone(), response.status().as_u16()));
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.after).into_iter().partition(|(path, _)| at.contains(path.as_str()));
        state.after = later;
        (response, now)
    };
    for (_, action) in actions {
        action(&fake);
    }
    response
}

/// What a request is answered with, before limits and etags.
struct Answer {
    status: u16,
    body: Value,
    link: Option<String>,
    location: Option<String>,
}

impl Answer {
    fn of(status: u16, body: Value) -> Self {
        Self { status, body, link: None, location: None }
    }

    fn message(status: u16, message: &str) -> Self {
        Self::of(status, json!({ "message": message, "documentation_url": "https://docs.github.com" }))
    }

    fn moved(to: String) -> Self {
        Self { location: Some(to), ..Self::message(301, "Moved Permanently") }
    }
}

impl State {
    fn answer(&mut self, at: &str, headers: &HeaderMap) -> Response<Body> {
        self.now += 1;
        let fault = self.faults.iter().position(|(path, _)| at.contains(path.as_str()));
        let fault = fault.and_then(|index| self.faults.remove(index)).map(|(_, fault)| fault);
        if let Some(refused) = self.refuse(fault) {
            return refused;
        }
        let mut answer = self.route(at);
        match fault {
            Some(Fault::Status(status)) => answer = Answer::message(status, "no"),
            Some(Fault::Round) => answer.link = Some(format!("<{}{at}>; rel=\"next\"", self.url())),
            Some(Fault::NoLink) => answer.link = None,
            _ => {}
        }
        let body = match fault {
            Some(Fault::Html) => "<html>a unicorn</html>".to_owned(),
            Some(Fault::Empty) => String::new(),
            _ => answer.body.to_string(),
        };
        let etag = format!("W/\"{}\"", hex::encode(Sha1::digest(&body)));
        let same = headers.get("if-none-match").is_some_and(|known| known.as_bytes() == etag.as_bytes());
        if same && answer.status == 200 {
            return self.respond(304, &[("etag", etag)]).body(Body::empty()).unwrap();
        }
        if let Some((left, _)) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        let mut more = vec![("etag", etag), ("content-type", "application/json".to_owned())];
        more.extend(answer.link.map(|link| ("link", link)));
        more.extend(answer.location.map(|to| ("location", to)));
        let half = body.len() / 2;
        let body = match fault {
            Some(Fault::Cut) => {
                let first = Bytes::from(body[..half].to_owned());
                let broken = stream::iter([Ok(first), Err(std::io::Error::other("cut"))]);
                Body::from_stream(broken.boxed())
            }
            _ => Body::from(body),
        };
        self.respond(answer.status, &more).body(body).unwrap()
    }

    fn url(&self) -> String {
        self.repos[""].name.clone()
    }

    fn respond(&self, status: u16, headers: &[(&str, String)]) -> axum::http::response::Builder {
        let date = jiff::Timestamp::from_second(self.now).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let mut response = Response::builder().status(status).header("date", date.to_string());
        if let Some((left, seconds)) = self.left {
            let reset = self.now + seconds;
            response = response.header("x-ratelimit-limit", "5000");
            response = response.header("x-ratelimit-remaining", left.to_string());
            response = response.header("x-ratelimit-reset", reset.to_string());
        }
        headers.iter().fold(response, |response, (name, value)| response.header(*name, value))
    }

    /// Limits come before everything.
    fn refuse(&mut self, fault: Option<Fault>) -> Option<Response<Body>> {
        let now = Instant::now();
        match self.limited_until {
            Some(until) if now < until => self.too_early += 1,
            Some(_) => (self.limited_until, self.left) = (None, None),
            None => {}
        }
        let refusal = |state: &Self, status: u16, message: &str, more: &[(&str, String)]| {
            state.respond(status, more).body(Body::from(json!({ "message": message }).to_string())).unwrap()
        };
        if let Some((0, seconds)) = self.left {
            let seconds = seconds.unsigned_abs();
            self.limited_until.get_or_insert(now + Duration::from_secs(seconds));
            return Some(refusal(self, 403, "API rate limit exceeded for user ID 1.", &[]));
        }
        match fault? {
            Fault::Secondary(seconds) => {
                self.limited_until = Some(now + Duration::from_secs(seconds));
                let after = [("retry-after", seconds.to_string())];
                Some(refusal(self, 403, "You have exceeded a secondary rate limit.", &after))
            }
            Fault::TooMany => Some(refusal(self, 429, "slow down", &[("retry-after", "1".to_owned())])),
            _ => None,
        }
    }

    fn route(&self, at: &str) -> Answer {
        let (path, query) = at.split_once('?').unwrap_or((at, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ["repos", owner, name, rest @ ..] = &parts[..] else { return Answer::message(404, "Not Found") };
        let key = format!("{owner}/{name}");
        if let Some(to) = self.renamed.get(&key) {
            return Answer::moved(
                format!("{}/repos/{to}/{}", self.url(), rest.join("/")).trim_end_matches('/').into(),
            );
        }
        let Some(repo) = self.repos.get(&key).filter(|_| !self.hidden) else {
            return Answer::message(404, "Not Found");
        };
        let number = rest.get(1).and_then(|number| number.parse::<i32>().ok()).unwrap_or(0);
        if rest.len() > 1 && rest[0] != "commits" && !repo.issues.contains_key(&number) {
            return match repo.gone.get(&number) {
                Some(Gone::Deleted) => Answer::message(410, "This issue was deleted"),
                Some(Gone::Transferred(to)) => Answer::moved(format!("{}{to}", self.url())),
                Some(Gone::Hidden) | None => Answer::message(404, "Not Found"),
            };
        }
        let of = |all: &BTreeMap<i32, Vec<Value>>| all.get(&number).cloned().unwrap_or_default();
        match rest {
            [] => Answer::of(200, json!({ "full_name": repo.name, "has_issues": true, "id": 1 })),
            ["labels"] => self.numbered(at, query, &repo.labels.values().cloned().collect::<Vec<_>>()),
            ["milestones"] => {
                self.numbered(at, query, &repo.milestones.values().cloned().collect::<Vec<_>>())
            }
            ["issues"] => self.issues(path, query, repo, &key),
            ["issues", _] => Answer::of(200, self.shown(repo, number, &key)),
            ["issues", _, "comments"] => {
                let since = parameter(query, "since").unwrap_or_default();
                let mut comments = of(&repo.comments);
                comments.retain(|one| one["updated_at"].as_str().unwrap() >= since.as_str());
                self.numbered(at, query, &comments)
            }
            ["issues", _, "events"] => self.numbered(at, query, &of(&repo.events)),
            ["pulls", _] => Answer::of(200, repo.pulls[&number].clone()),
            ["commits", commit, "check-runs"] => {
                self.named(at, query, repo.checks.get(*commit), "check_runs")
            }
            ["commits", commit, "status"] => self.named(at, query, repo.statuses.get(*commit), "statuses"),
            ["pulls", _, "comments"] => self.numbered(at, query, &of(&repo.review_comments)),
            ["pulls", _, "reviews"] => self.numbered(at, query, &of(&repo.reviews)),
            _ => Answer::message(404, "Not Found"),
        }
    }

    fn shown(&self, repo: &Repo, number: i32, key: &str) -> Value {
        let mut issue = repo.issues[&number].clone();
        issue["repository_url"] = format!("{}/repos/{key}", self.url()).into();
        issue
    }

    fn per_page(&self, query: &str) -> usize {
        let asked = parameter(query, "per_page").and_then(|text| text.parse().ok()).unwrap_or(30);
        self.most_on_page.min(asked).min(100)
    }

    /// Pages by number: what moves meanwhile is missed, or shown twice.
    fn numbered(&self, at: &str, query: &str, all: &[Value]) -> Answer {
        let page = parameter(query, "page").and_then(|text| text.parse().ok()).unwrap_or(1_usize);
        let size = self.per_page(query);
        let items: Vec<Value> = all.iter().skip((page - 1) * size).take(size).cloned().collect();
        let link = (all.len() > page * size).then(|| {
            let next = at.replace(&format!("&page={page}"), &format!("&page={}", page + 1));
            format!("<{}{next}>; rel=\"next\", <{}{at}>; rel=\"first\"", self.url(), self.url())
        });
        Answer { link, ..Answer::of(200, Value::Array(items)) }
    }

    /// The same, under a name.
    fn named(&self, at: &str, query: &str, all: Option<&Vec<Value>>, name: &str) -> Answer {
        let all = all.map(Vec::as_slice).unwrap_or_default();
        let answer = self.numbered(at, query, all);
        let body = json!({ "total_count": all.len(), name: answer.body });
        Answer { body, ..answer }
    }

    /// Pages by cursor: after the last of the page before, as they stand now.
    fn issues(&self, path: &str, query: &str, repo: &Repo, key: &str) -> Answer {
        let sorted = ["state=all", "sort=updated", "direction=asc"].iter().all(|one| query.contains(one));
        if !sorted {
            return Answer::message(422, "Validation Failed");
        }
        let since = parameter(query, "since").unwrap_or_default();
        let after = parameter(query, "after").unwrap_or_default();
        let place = |number: i32| {
            let updated = repo.issues[&number]["updated_at"].as_str().unwrap().to_owned();
            (updated.clone(), format!("{updated}_{number:09}"))
        };
        let mut all: Vec<(String, i32)> = repo
            .issues
            .keys()
            .map(|number| (place(*number), *number))
            .filter(|((updated, cursor), _)| *updated >= since && *cursor > after)
            .map(|((_, cursor), number)| (cursor, number))
            .collect();
        all.sort();
        let size = self.per_page(query);
        let link = (all.len() > size).then(|| {
            let cursor = &all[size - 1].0;
            let kept: Vec<&str> = query.split('&').filter(|one| !one.starts_with("after=")).collect();
            format!("<{}{path}?{}&after={cursor}>; rel=\"next\"", self.url(), kept.join("&"))
        });
        let items = all.iter().take(size).map(|(_, number)| self.shown(repo, *number, key));
        Answer { link, ..Answer::of(200, Value::Array(items.collect())) }
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":"))
}

/// So that a test may say what a status means.
pub(crate) fn is_same(status: u16) -> bool {
    status == StatusCode::NOT_MODIFIED.as_u16()
}
