//! A Gerrit with people, a farm that reads it, and whoever reads the farm.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    gitmirror::{TickleRequest, mirror_service_client::MirrorServiceClient},
    maintner::{GetLogStatusRequest, mutation_service_client::MutationServiceClient},
    maintpb::Mutation,
};
use maintner::{Corpus, Start, Update, follow};
use runtime::Tasks;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use testkit::{Farm, Gerrit, Options, Repository, farm::PATIENCE, gerrit::ADMIN};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::compare;

/// The project.
pub(crate) const PROJECT: &str = "demo";
/// In the address that Gerrit posts to.
const SECRET: &str = "0123456789abcdef";
/// Only wakes make the farm look.
const SELDOM: &str = "poll = \"1h\"";
/// What each side says, by what it is about.
type State = BTreeMap<String, Value>;

/// All of it.
pub(crate) struct World {
    pub(crate) gerrit: Gerrit,
    pub(crate) farm: Farm,
    /// Where the farm shows its log in the clear.
    pub(crate) logs: SocketAddr,
    /// Ada's clone.
    pub(crate) work: Repository,
    reader: Reader,
    /// The changes that were made so far have numbers up to this.
    pub(crate) last: u32,
    /// What Gerrit said the last time.
    before: State,
    config: TempDir,
}

/// Follows the log at the farm's address, as a bot does.
struct Reader {
    read: Arc<Mutex<Read>>,
    news: watch::Receiver<u64>,
    tasks: Tasks,
}

#[derive(Default)]
struct Read {
    corpus: Corpus,
    mutations: Vec<Mutation>,
}

impl World {
    /// Starts all of it; nothing if there is no Gerrit here, which is said. Only wakes make the farm look: it would ask
    /// by itself once an hour.
    pub(crate) async fn start(story: &str) -> Option<Self> {
        let gerrit = Gerrit::start(story)?;
        gerrit.account("ada").await;
        gerrit.account("bob").await;
        let branches = json!({ "create_empty_commit": true, "branches": ["main"] });
        gerrit.call(ADMIN, "PUT", &format!("projects/{PROJECT}"), &branches).await;
        let work = gerrit.clone_as("ada", PROJECT);
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("farm.toml");
        let secret = config.path().join("gerrit-secret");
        std::fs::write(&secret, SECRET).unwrap();
        let logs = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[listen]\nlogs = \"{logs}\"\n\n[webhook]\ngerrit_secret = \"{}\"\n\n[[repositories]]\nname = {PROJECT:?}\n\
             origin = {:?}\ngerrit = {{ url = {:?} }}\n{SELDOM}\n",
            secret.display(),
            gerrit.git_url(ADMIN, PROJECT),
            gerrit.url,
        );
        std::fs::write(&file, text).unwrap();
        let arguments = vec!["--config".to_owned(), file.display().to_string()];
        let farm = Farm::start(work.path(), Options { arguments, buildlets: Some(1) }).await;
        let reader = Reader::start(&farm);
        Some(Self { gerrit, farm, logs, work, reader, last: 0, before: State::new(), config })
    }

    /// The REST path of a change.
    pub(crate) fn path(number: u32, rest: &str) -> String {
        format!("changes/{PROJECT}~{number}{rest}")
    }

    /// Has somebody do something with a change.
    pub(crate) async fn act(&self, user: &str, number: u32, what: &str, body: Value) {
        self.gerrit.call(user, "POST", &Self::path(number, &format!("/{what}")), &body).await;
    }

    /// Commits files in Ada's clone and pushes them for review, with options of the push; answers the number of the new
    /// change.
    pub(crate) async fn push_new(&mut self, subject: &str, file: &str, options: &str) -> u32 {
        let change_id = format!("I{:040x}", self.last + 1);
        self.work.commit(&format!("{subject}\n\nChange-Id: {change_id}\n"), &[(file, subject)]);
        self.push(options);
        let path = format!("changes/{PROJECT}~main~{change_id}");
        let number = self.gerrit.get("ada", &path).await["_number"].as_u64().unwrap() as u32;
        self.last = self.last.max(number);
        number
    }

    /// Pushes what Ada has for review.
    pub(crate) fn push(&self, options: &str) {
        self.work.git(&["push", "--quiet", "origin", &format!("HEAD:refs/for/main{options}")]);
    }

    /// Tells gitmirror that there is something new: the wake that an event causes.
    pub(crate) async fn wake(&self) {
        let data = self.farm.data();
        let identity = rpc::Authority::open(&data.join("ca")).unwrap().issue_service("test").unwrap();
        let ports = std::fs::read(data.join("ports.json")).unwrap();
        let ports: Value = serde_json::from_slice(&ports).unwrap();
        let address = format!("https://127.0.0.1:{}", ports["gitmirror"]);
        let mut client = MirrorServiceClient::new(rpc::connect(&address, Some(&identity)).unwrap());
        client.tickle(TickleRequest { repository: PROJECT.to_owned() }).await.unwrap();
    }

    /// Posts what Gerrit's plugin `webhooks` posts when somebody votes.
    pub(crate) async fn post_event(&self, change: u32) {
        let now = runtime::system_clock().now().seconds();
        let event = json!({
            "type": "comment-added",
            "author": { "name": "bob", "username": "bob" },
            "approvals": [{ "type": "Code-Review", "value": "1" }],
            "patchSet": { "number": 1 },
            "change": { "project": PROJECT, "branch": "main", "number": change, "status": "NEW" },
            "project": { "name": PROJECT },
            "eventCreatedOn": now,
        });
        assert_eq!(self.farm.post(&format!("/gerrit-webhook/{SECRET}"), &event).await, 200);
    }

    /// Has the farm, which is started again, ask Gerrit as often as it does when nothing else is said.
    pub(crate) async fn poll_as_usual(&mut self) {
        let file = self.config.path().join("farm.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(SELDOM, "")).unwrap();
        self.farm.kill();
        self.start_again().await;
    }

    /// Sees that the corpus comes to say what Gerrit says.
    pub(crate) async fn agree(&mut self, after: &str) {
        let theirs = self.theirs().await;
        assert_ne!(theirs, self.before, "{after} changed nothing at Gerrit");
        self.before.clone_from(&theirs);
        self.wake().await;
        let start = Instant::now();
        loop {
            let ours = self.reader.state(self.last);
            if ours == theirs {
                println!("gerrit: {after}: the same after {:.0?}", start.elapsed());
                return;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            let news = timeout(left, self.reader.news.changed()).await;
            let log = self.farm.log();
            assert!(news.is_ok(), "after {after}, ours and theirs: {}\n{log}", difference(&ours, &theirs));
        }
    }

    async fn theirs(&self) -> State {
        let mut state = State::new();
        for number in 1..=self.last {
            let path = Self::path(number, &format!("/detail?{}", compare::OPTIONS));
            let Some(detail) = self.gerrit.find(ADMIN, &path).await else { continue };
            let comments = self.gerrit.get(ADMIN, &Self::path(number, "/comments")).await;
            state.insert(change_key(number), fields(compare::theirs(&detail, &comments)));
        }
        let branches = self.gerrit.get(ADMIN, &format!("projects/{PROJECT}/branches")).await;
        let branches: Map<String, Value> = branches
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| (one["ref"].as_str().unwrap_or_default().to_owned(), one["revision"].clone()))
            .filter(|(name, _)| name.starts_with("refs/heads/"))
            .collect();
        state.insert("branches".to_owned(), branches.clone().into());
        state.insert("branches of the repository".to_owned(), branches.into());
        state
    }

    /// What Go's maintner is to count.
    pub(crate) fn counts(&self) -> Value {
        let read = self.reader.read.lock().unwrap();
        let (gerrit, commits) = (read.corpus.gerrit(), read.corpus.commit_count());
        let (projects, changes) = (gerrit.projects().count(), gerrit.changes().count());
        json!({
            "repositories": 0, "issues": 0, "comments": 0,
            "projects": projects, "changes": changes, "commits": commits, "check": "",
        })
    }

    /// Sees that the votes that ask for tries were compared with Gerrit's own word, the last time after now, and always
    /// found the same.
    pub(crate) async fn votes_were_compared(&self) {
        let token = std::fs::read_to_string(self.farm.data().join("token")).unwrap();
        let channel = rpc::connect(&self.farm.url, None).unwrap().with_bearer(token.trim());
        let mut client = MutationServiceClient::new(channel);
        let mut first = None;
        let compared = timeout(PATIENCE, async {
            loop {
                let status = client.get_log_status(GetLogStatusRequest {}).await.unwrap().into_inner();
                let source =
                    status.sources.into_iter().find(|one| one.source.starts_with("gerrit/")).unwrap();
                if let Some(at) = source.votes_compared_at {
                    assert_eq!((source.vote_disagreements, source.error.as_str()), (0, ""));
                    if *first.get_or_insert(at) != at {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        compared.await.expect("votes are not compared");
    }

    /// Sees that everything is in the log once: commits, and where refs stand.
    pub(crate) fn nothing_is_doubled(&self) {
        let read = self.reader.read.lock().unwrap();
        let (mut commits, mut refs) = (BTreeMap::new(), BTreeMap::new());
        for gerrit in read.mutations.iter().filter_map(|mutation| mutation.gerrit.as_ref()) {
            for commit in &gerrit.commits {
                *commits.entry(&commit.sha1).or_insert(0) += 1;
            }
            for one in &gerrit.refs {
                let before = refs.insert(&one.r#ref, &one.sha1);
                assert_ne!(before, Some(&one.sha1), "`{}` moves to where it is", one.r#ref);
                assert!(commits.contains_key(&one.sha1), "`{}` comes before its commit", one.r#ref);
            }
        }
        assert!(commits.values().all(|count| *count == 1), "{commits:?}");
        assert_eq!(read.corpus.check(), Vec::<String>::new());
        assert_eq!(read.corpus.statistics().malformed, 0);
    }

    /// Starts the farm again after it was killed, at another address, where all of the log is read.
    pub(crate) async fn start_again(&mut self) {
        self.reader.stop().await;
        self.farm.start_again().await;
        self.reader = Reader::start(&self.farm);
    }

    /// Stops reading, and the farm, in order.
    pub(crate) async fn end(mut self) {
        self.reader.stop().await;
        assert_eq!(self.farm.stop(), Some(0), "{}", self.farm.log());
    }
}

impl Reader {
    fn start(farm: &Farm) -> Self {
        let token = std::fs::read_to_string(farm.data().join("token")).unwrap();
        let channel = rpc::connect(&farm.url, None).unwrap().with_bearer(token.trim());
        let tasks = Tasks::new(CancellationToken::new());
        let read = Arc::<Mutex<Read>>::default();
        let (tell, news) = watch::channel(0);
        let shared = Arc::clone(&read);
        let handle = move |update| {
            if let Update::Batch { mutations, .. } = update {
                let mut read = shared.lock().unwrap();
                for mutation in mutations {
                    read.corpus.apply(&mutation);
                    read.mutations.push(mutation);
                }
                read.corpus.settle();
                tell.send_modify(|count| *count += 1);
            }
            std::future::ready(Ok::<_, std::convert::Infallible>(()))
        };
        let cancel = tasks.shutdown();
        tasks.service("reader", async move { Ok(follow(channel, Start::Beginning, cancel, handle).await?) });
        Self { read, news, tasks }
    }

    async fn stop(&self) {
        self.tasks.shutdown().cancel();
        self.tasks.clone().finish(PATIENCE).await.unwrap();
    }

    fn state(&self, last: u32) -> State {
        let read = self.read.lock().unwrap();
        let mut state = State::new();
        let plain = read.corpus.refs(PROJECT);
        let plain = plain.filter(|(name, _)| name.starts_with("refs/heads/"));
        let plain: Map<String, Value> =
            plain.map(|(name, commit)| (name.to_owned(), json!(commit.to_string()))).collect();
        state.insert("branches of the repository".to_owned(), plain.into());
        let Some(project) = read.corpus.gerrit().projects().next() else { return state };
        let branches = project.refs().filter(|(name, _)| name.starts_with("refs/heads/"));
        let branches: Map<String, Value> =
            branches.map(|(name, commit)| (name.to_owned(), json!(commit.to_string()))).collect();
        state.insert("branches".to_owned(), branches.into());
        for number in 1..=last {
            if let Some(change) = project.change(number) {
                state.insert(change_key(number), fields(compare::ours(&change)));
            }
        }
        state
    }
}

fn change_key(number: u32) -> String {
    format!("change {number}")
}

/// As JSON; sees that no field of the list is left out.
fn fields(fields: compare::Fields) -> Value {
    let mut names: Vec<_> = compare::FIELDS.to_vec();
    names.sort_unstable();
    assert_eq!(fields.keys().copied().collect::<Vec<_>>(), names);
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What is not the same, field by field.
fn difference(ours: &State, theirs: &State) -> String {
    let mut lines = Vec::new();
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        let (one, other) = (ours.get(key).unwrap_or(&Value::Null), theirs.get(key).unwrap_or(&Value::Null));
        match (one.as_object(), other.as_object()) {
            (Some(one), Some(other)) => {
                for field in one.keys().chain(other.keys().filter(|field| !one.contains_key(*field))) {
                    if one.get(field) != other.get(field) {
                        lines.push(format!("{key}, {field}: {:#?} {:#?}", one.get(field), other.get(field)));
                    }
                }
            }
            _ if one == other => {}
            _ => lines.push(format!("{key}: {one} {other}")),
        }
    }
    lines.join("\n")
}
