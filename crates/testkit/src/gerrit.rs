//! A Gerrit of a test's own, by `tests/real/gerrit/run`.

use serde_json::{Value, json};

use crate::{Repository, real::Server};

/// The one who may do everything.
pub const ADMIN: &str = "admin";
/// Before each answer, so that no browser takes it for a script.
const GUARD: &str = ")]}'";

/// A running server. It ends, and leaves nothing, when this is dropped.
#[derive(Debug)]
pub struct Gerrit {
    _server: Server,
    /// Where its pages and its REST API are.
    pub url: String,
    /// Everybody's.
    password: String,
    http: reqwest::Client,
}

impl Gerrit {
    /// Starts one. Where that is not possible, says that `test` is skipped and why.
    ///
    /// # Panics
    /// When the script does something else than it says.
    pub fn start(test: &str) -> Option<Self> {
        let server = Server::start("gerrit/run", "Gerrit", test)?;
        let (url, password) = (server.value("url"), server.value("password"));
        runtime::install_crypto();
        // Gerrit closes what nobody spoke on for a while, which a request that is under way by then does not survive.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
        let http = http.expect("make an HTTP client");
        Some(Self { _server: server, url, password, http })
    }

    /// Makes an account that has the right to push for review and to vote.
    pub async fn account(&self, name: &str) {
        let account = json!({
            "name": name, "email": format!("{name}@example.com"), "http_password": self.password,
        });
        self.call(ADMIN, "PUT", &format!("accounts/{name}"), &account).await;
    }

    /// Where git finds a project as somebody.
    pub fn git_url(&self, user: &str, project: &str) -> String {
        let address = self.url.replacen("://", &format!("://{user}:{}@", self.password), 1);
        format!("{address}/a/{project}")
    }

    /// Clones a project as somebody.
    pub fn clone_as(&self, user: &str, project: &str) -> Repository {
        let clone = Repository::empty();
        clone.git(&["config", "user.name", user]);
        clone.git(&["config", "user.email", &format!("{user}@example.com")]);
        clone.git(&["remote", "add", "origin", &self.git_url(user, project)]);
        clone.git(&["fetch", "--quiet", "origin"]);
        clone.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
        clone
    }

    /// What the REST API answers to somebody; nothing if it says that there is none.
    ///
    /// # Panics
    /// When it says anything else, as all that follows.
    pub async fn find(&self, user: &str, path: &str) -> Option<Value> {
        self.send(user, "GET", path, None).await
    }

    /// Asks the REST API as somebody for what must be there.
    pub async fn get(&self, user: &str, path: &str) -> Value {
        self.find(user, path).await.unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// Has the REST API do something as somebody, and answers what it says. `null` is no body.
    pub async fn call(&self, user: &str, method: &str, path: &str, body: &Value) -> Value {
        let said = self.send(user, method, path, Some(body).filter(|body| !body.is_null())).await;
        said.unwrap_or_else(|| panic!("there is no {path}"))
    }

    async fn send(&self, user: &str, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let method: reqwest::Method = method.parse().expect("is a method");
        let mut request = self.http.request(method.clone(), format!("{}/a/{path}", self.url));
        request = request.basic_auth(user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("Gerrit answers");
        let status = response.status();
        let text = response.text().await.expect("the answer is text");
        if status == reqwest::StatusCode::NOT_FOUND {
            return None;
        }
        assert!(status.is_success(), "{method} {path} as {user} answered {status}: {text}");
        let json = text.strip_prefix(GUARD).unwrap_or("null");
        Some(serde_json::from_str(json).expect("is JSON"))
    }
}
