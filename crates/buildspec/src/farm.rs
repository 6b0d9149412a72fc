//! `farm.toml`: the operator's file. Every service reads the same one, each its part.

mod github;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use types::{HostType, RepositoryName};

use crate::{Builder, Glob, Offer, OfferedHost, Tries};

pub use github::GithubRepository;

/// What the farm is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// It votes.
    Production,
    /// It never votes, and tries only changes that are marked for it.
    Staging,
    /// One machine, for its user.
    Local,
}

/// The whole of `farm.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Farm {
    /// Its name, as pages show it.
    pub name: String,
    /// What it is for.
    pub environment: Environment,
    /// Every timeout of a builder is multiplied by this.
    pub timeout_scale: f64,
    /// Where people reach the pages, without a slash at the end; `None` means the public address itself.
    pub url: Option<String>,
    /// The folder that holds all state.
    pub data: PathBuf,
    /// How many buildlets `farmer up` keeps; `None` means one for each processor.
    pub buildlets: Option<u32>,
    /// Where each service listens.
    pub listen: Listen,
    /// Where each service finds the others.
    pub services: Services,
    /// The certificates; `None` means that `farmer up` makes them in the data folder.
    pub tls: Option<TlsPaths>,
    /// Where the coordinator keeps its records; `None` means a SQLite file in the data folder.
    pub records: Option<Records>,
    /// Logs, traces and metrics.
    pub telemetry: runtime::telemetry::Config,
    /// What is built.
    pub repositories: Vec<Repository>,
    /// The kinds of machines. Never empty: without any, there is `local`.
    pub hosts: Vec<Host>,
    /// Which builders build what. The first that matches a repository and branch counts; without one, all build
    /// what was submitted, and those with `try = true` try changes.
    pub policies: Vec<Policy>,
    /// The bucket that the mutation log rests in, as `s3://bucket/prefix`; without it, maintnerd's folder.
    pub mutation_log: Option<String>,
    /// GitHub's webhook, if it is used.
    pub webhook: Option<Webhook>,
    /// The bot.
    pub gopherbot: Gopherbot,
    /// Files that hold secrets, by name. A repository must be offered one before a builder may ask for it.
    pub secrets: BTreeMap<String, PathBuf>,
}

/// Where each service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Pages and the public RPCs.
    pub public: SocketAddr,
    /// The coordinator, for services and buildlets.
    pub coordinator: SocketAddr,
    /// Where other coordinators with the same records reach that one, as `HOST:PORT`; unless said, there.
    pub advertise: Option<String>,
    /// SSH into debugging sessions; not spoken unless said.
    pub ssh: Option<SocketAddr>,
    /// gitmirror.
    pub gitmirror: SocketAddr,
    /// maintnerd.
    pub maintnerd: SocketAddr,
    /// The mutation log for followers that speak Go's `/logs`, in the clear; not served so unless said.
    pub logs: Option<SocketAddr>,
    /// pubsubhelper's gRPC.
    pub pubsubhelper: SocketAddr,
    /// pubsubhelper's webhook.
    pub webhook: SocketAddr,
    /// gopherbot: health only.
    pub gopherbot: SocketAddr,
    /// devapp's pages.
    pub devapp: SocketAddr,
}

/// Where a service finds the others. By default on this machine, at the ports of [`Listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The coordinator's URL.
    pub coordinator: String,
    /// gitmirror's URL.
    pub gitmirror: String,
    /// maintnerd's URL.
    pub maintnerd: String,
    /// pubsubhelper's URL.
    pub pubsubhelper: String,
}

/// The certificate of the service that reads the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPaths {
    /// The CA's certificate, PEM.
    pub ca: PathBuf,
    /// The service's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The CA's own key, PEM, for the coordinator to enrol machines with. Without it their certificates are made elsewhere.
    pub ca_key: Option<PathBuf>,
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// As libpq takes it, without a password.
    pub url: String,
    /// The file that holds the password; without it, the variable `PGPASSWORD` does, if one is wanted.
    pub password: Option<PathBuf>,
    /// The certificate of whoever signed the server's, PEM; without it, one that the machine trusts must have.
    pub ca: Option<PathBuf>,
}

/// A repository that is mirrored and built.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// Its name in the farm.
    pub name: RepositoryName,
    /// A path or URL that git can fetch.
    pub origin: String,
    /// How often a URL is asked for news when nothing tickles it.
    pub poll: Duration,
    /// Branches that are built.
    pub branches: Vec<Glob>,
    /// How many commits of one push are built, the newest. At least one.
    pub push_builds: u32,
    /// The preset (see [`crate::preset()`]) that is used in place of a `farmer.toml` in the repository.
    pub preset: Option<String>,
    /// Hosts that its builders may name; all if the file does not say.
    pub hosts: Vec<HostType>,
    /// Secrets that its builders may ask for, when they build what was submitted.
    pub secrets: Vec<String>,
    /// Where refs are pushed on to.
    pub mirrors: Vec<String>,
    /// The project at a Gerrit that it is, if it is one.
    pub gerrit: Option<GerritProject>,
    /// The repository at GitHub whose issues belong to it, if they are followed.
    pub github: Option<GithubRepository>,
    /// How its changes under review are tried; `None` means that they are not.
    pub tries: Option<Tries>,
}

/// A project at a Gerrit. Its changes are in the mutation log, as the repository's branches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GerritProject {
    /// Where its pages and its REST API are, without a slash at the end.
    pub url: String,
    /// Its name there.
    pub project: String,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostType,
    /// How machines are kept clean.
    pub reuse: Reuse,
    /// What its machines are trusted with.
    pub tier: Tier,
    /// Where its machines come from: `local` (children of `farmer up`) or `reverse` (they dial in).
    pub pool: String,
    /// Words that describe it, shown on pages.
    pub tags: Vec<String>,
    /// What an exec may use.
    pub limits: Limits,
    /// The image its machines run; part of a snapshot's address.
    pub image: String,
    /// How many machines should be connected.
    pub expected: u32,
    /// Who looks after them.
    pub owners: Vec<String>,
    /// Added to the environment of every exec.
    pub environment: Vec<(String, String)>,
    /// For people.
    pub notes: String,
}

/// How a machine is kept clean between builds (architecture.md D15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Made for a build, destroyed after it.
    Never,
    /// Proven to be clean before it is idle.
    Wiped,
    /// Not cleaned.
    Shared,
}

/// What the machines of a host are trusted with, and what they trust the farm to send (architecture.md D10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// All that the farm builds.
    Full,
    /// What was reviewed and submitted: machines that volunteers lend.
    Community,
}

/// What an exec may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of output.
    pub output_bytes: u64,
    /// The longest timeout that a builder may ask for.
    pub timeout: Duration,
}

/// Which builders build a branch of a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The repositories it is about.
    pub repository: Glob,
    /// The branches it is about.
    pub branch: Glob,
    /// The builders that build what is submitted there.
    pub build: Vec<Glob>,
    /// The builders that try changes for it; `None` leaves it to the builders' own `try`.
    pub try_: Option<Vec<Glob>>,
}

/// Why something is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It was submitted.
    Submitted,
    /// It is under review, or somebody's working tree.
    Try,
}

/// Where GitHub and Gerrit tell of news; at least one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The file that holds the secret that GitHub signs with.
    pub secret: Option<PathBuf>,
    /// The file that holds the secret in the address that Gerrit posts to.
    pub gerrit_secret: Option<PathBuf>,
}

/// The bot.
#[derive(Debug, Clone, PartialEq)]
pub struct Gopherbot {
    /// Whether it only says what it would do. The default.
    pub dry_run: bool,
    /// The tasks it runs, by name; empty means none.
    pub tasks: Vec<String>,
    /// The file that holds GitHub's token.
    pub github_token: Option<PathBuf>,
    /// GitHub's API.
    pub github_url: String,
}

impl Environment {
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("production", Self::Production), ("staging", Self::Staging), ("local", Self::Local)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, &self)
    }
}

impl Reuse {
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("never", Self::Never), ("wiped", Self::Wiped), ("shared", Self::Shared)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, &self)
    }
}

impl Tier {
    pub(crate) const WORDS: &[(&str, Self)] = &[("full", Self::Full), ("community", Self::Community)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        word(Self::WORDS, &self)
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word)
}

impl Default for Farm {
    /// A farm on this machine that builds nothing yet.
    fn default() -> Self {
        let listen = Listen::default();
        Self {
            name: "Farmer".to_owned(),
            environment: Environment::Local,
            timeout_scale: 1.0,
            url: None,
            data: PathBuf::from("farmer-data"),
            buildlets: None,
            services: Services::at(&listen),
            listen,
            tls: None,
            records: None,
            telemetry: runtime::telemetry::Config::default(),
            repositories: Vec::new(),
            hosts: vec![Host::local()],
            policies: Vec::new(),
            mutation_log: None,
            webhook: None,
            gopherbot: Gopherbot::default(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Default for Listen {
    /// Fixed ports on loopback.
    fn default() -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            public: at(8790),
            coordinator: at(8791),
            advertise: None,
            ssh: None,
            gitmirror: at(8792),
            maintnerd: at(8793),
            logs: None,
            pubsubhelper: at(8794),
            webhook: at(8795),
            gopherbot: at(8796),
            devapp: at(8797),
        }
    }
}

impl Services {
    /// Where services that listen so are found on the same machine.
    pub fn at(listen: &Listen) -> Self {
        let url = |address: SocketAddr| format!("https://{address}");
        Self {
            coordinator: url(listen.coordinator),
            gitmirror: url(listen.gitmirror),
            maintnerd: url(listen.maintnerd),
            pubsubhelper: url(listen.pubsubhelper),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_bytes: 16 << 30, timeout: Duration::from_hours(24) }
    }
}

impl Host {
    /// The host that every farm has unless it says otherwise: this machine.
    pub fn local() -> Self {
        Self {
            name: "local".parse().expect("`local` is a name"),
            reuse: Reuse::Wiped,
            tier: Tier::Full,
            pool: "local".to_owned(),
            tags: Vec::new(),
            limits: Limits::default(),
            image: String::new(),
            expected: 0,
            owners: Vec::new(),
            environment: Vec::new(),
            notes: "This machine: children of `farmer up`.".to_owned(),
        }
    }
}

impl Default for Gopherbot {
    fn default() -> Self {
        Self {
            dry_run: true,
            tasks: Vec::new(),
            github_token: None,
            github_url: "https://api.github.com".to_owned(),
        }
    }
}

impl Repository {
    /// How many commits of one push are built if the file does not say. More in one push is an import.
    pub const PUSH_BUILDS: u32 = 1000;

    /// A repository with defaults for all but its name and origin.
    pub fn new(name: RepositoryName, origin: impl Into<String>) -> Self {
        Self {
            name,
            origin: origin.into(),
            poll: Duration::from_secs(15),
            branches: Glob::all(),
            push_builds: Self::PUSH_BUILDS,
            preset: None,
            hosts: Vec::new(),
            secrets: Vec::new(),
            mirrors: Vec::new(),
            gerrit: None,
            github: None,
            tries: None,
        }
    }

    /// Whether a branch is built. Takes `main` and `refs/heads/main`.
    pub fn builds_branch(&self, branch: &str) -> bool {
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        self.branches.iter().any(|glob| glob.matches(branch))
    }
}

impl GerritProject {
    /// How the mutation log calls it: `host/project`. As for Go's maintner, the host of a review site at
    /// googlesource.com is that of its git.
    pub fn key(&self) -> String {
        let host = self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host);
        match host.strip_suffix("-review.googlesource.com") {
            Some(host) => format!("{host}.googlesource.com/{}", self.project),
            None => format!("{host}/{}", self.project),
        }
    }
}

impl Farm {
    /// The address of the pages as links to them say it.
    pub fn pages_url(&self) -> String {
        self.url.clone().unwrap_or_else(|| format!("http://{}", self.listen.public))
    }

    /// A farm on this machine for one repository.
    pub fn local(name: RepositoryName, origin: &str, data: PathBuf) -> Self {
        Self { repositories: vec![Repository::new(name, origin)], data, ..Self::default() }
    }

    /// The host of this name.
    pub fn host(&self, name: &HostType) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// The repository of this name.
    pub fn repository(&self, name: &RepositoryName) -> Option<&Repository> {
        self.repositories.iter().find(|repository| repository.name == *name)
    }

    /// What the builders of a repository may name.
    pub fn offer(&self, repository: &Repository) -> Offer {
        let offered = |host: &&Host| repository.hosts.is_empty() || repository.hosts.contains(&host.name);
        let host = |host: &Host| OfferedHost {
            name: host.name.clone(),
            pool: host.pool.clone(),
            timeout: host.limits.timeout,
        };
        Offer {
            hosts: self.hosts.iter().filter(offered).map(host).collect(),
            secrets: repository.secrets.clone(),
        }
    }

    /// The policy of a branch, if there is one. Takes `main` and `refs/heads/main`.
    pub fn policy(&self, repository: &RepositoryName, branch: &str) -> Option<&Policy> {
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let applies = |policy: &&Policy| {
            policy.repository.matches(repository.as_str()) && policy.branch.matches(branch)
        };
        self.policies.iter().find(applies)
    }

    /// The builders that build a branch of a repository, in the order of its `farmer.toml`. It does not ask whether the
    /// branch is built at all: see [`Repository::builds_branch`].
    pub fn select<'b>(
        &self,
        repository: &RepositoryName,
        branch: &str,
        purpose: Purpose,
        builders: &'b [Builder],
    ) -> Vec<&'b Builder> {
        let policy = self.policy(repository, branch);
        let any =
            |globs: &[Glob], builder: &Builder| globs.iter().any(|glob| glob.matches(builder.name.as_str()));
        let wanted = |builder: &&Builder| match (purpose, policy) {
            (Purpose::Submitted, None) => true,
            (Purpose::Submitted, Some(policy)) => any(&policy.build, builder),
            (Purpose::Try, _) if !self.may_try(builder) => false,
            (Purpose::Try, Some(Policy { try_: Some(globs), .. })) => any(globs, builder),
            (Purpose::Try, _) => builder.try_,
        };
        builders.iter().filter(wanted).collect()
    }

    /// Whether a builder may build what is not submitted: it has no secrets, and its machines are not lent for reviewed work
    /// only.
    pub fn may_try(&self, builder: &Builder) -> bool {
        let lent = self.host(&builder.host).is_some_and(|host| host.tier == Tier::Community);
        builder.may_try() && !lent
    }

    /// A timeout of a builder, as this farm counts it.
    pub fn scaled(&self, timeout: Duration) -> Duration {
        timeout.mul_f64(self.timeout_scale)
    }
}

#[cfg(test)]
mod tests {
    use runtime::config;

    use super::*;

    #[test]
    fn machines_of_volunteers_build_only_what_was_submitted() {
        let text = "[[hosts]]\nname = \"lent\"\ntier = \"community\"\n";
        let farm: Farm = config::parse("farm.toml", text).unwrap();
        let offer = Offer {
            hosts: vec![OfferedHost {
                name: "lent".parse().unwrap(),
                pool: "reverse".to_owned(),
                timeout: Duration::from_hours(1),
            }],
            secrets: Vec::new(),
        };
        let text = "[[builders]]\nname = \"a\"\nhost = \"lent\"\nmake = [\"true\"]\n";
        let file = crate::BuildFile::parse("farmer.toml", text, &offer).unwrap();
        let name = "example".parse().unwrap();
        let chosen = |purpose| farm.select(&name, "main", purpose, &file.builders).len();
        assert_eq!((chosen(Purpose::Submitted), chosen(Purpose::Try)), (1, 0));
        assert!(file.builders[0].may_try() && !farm.may_try(&file.builders[0]));
        assert!(config::parse::<Farm>("farm.toml", "[[hosts]]\nname = \"a\"\ntier = \"half\"\n").is_err());
    }

    fn farm(text: &str) -> Farm {
        config::parse("farm.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(text: &str) -> String {
        config::parse::<Farm>("farm.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_a_farm_on_this_machine() {
        assert_eq!(farm(""), Farm::default());
        assert_eq!(farm("").hosts, [Host::local()]);
    }

    #[test]
    fn every_key_is_read() {
        let farm = farm(include_str!("farm/example.toml"));
        assert_eq!(farm.environment, Environment::Staging);
        assert_eq!((farm.timeout_scale, farm.buildlets), (1.5, Some(2)));
        assert_eq!(farm.pages_url(), "https://farm.example.com");
        assert_eq!(farm.scaled(Duration::from_secs(2)), Duration::from_secs(3));
        assert_eq!(farm.services.coordinator, "https://coordinator:8443");
        assert_eq!(farm.services.gitmirror, format!("https://{}", farm.listen.gitmirror));
        let host = farm.host(&"linux-amd64".parse().unwrap()).unwrap();
        assert_eq!((host.reuse, host.pool.as_str(), host.expected), (Reuse::Shared, "reverse", 3));
        assert_eq!(host.environment, [("GOROOT_BOOTSTRAP".to_owned(), "/opt/go".to_owned())]);
        let repository = farm.repository(&"x/tools".parse().unwrap()).unwrap();
        assert_eq!(repository.poll, Duration::from_mins(1));
        assert!(
            repository.builds_branch("refs/heads/release-branch.go1") && !repository.builds_branch("wip")
        );
        let offer = farm.offer(repository);
        assert_eq!(offer.hosts.len(), 1);
        assert_eq!(offer.secrets, ["NPM_TOKEN"]);
        assert!(!farm.gopherbot.dry_run);
        let keys: Vec<_> =
            farm.repositories.iter().filter_map(|one| Some(one.gerrit.as_ref()?.key())).collect();
        assert_eq!(keys, ["go.googlesource.com/go", "go.googlesource.com/tools"]);
    }

    #[test]
    fn a_project_at_gerrit_is_named_once_and_without_secrets() {
        let repository = |name: &str, gerrit: &str| {
            format!("[[repositories]]\nname = \"{name}\"\norigin = \"/x\"\ngerrit = {{ {gerrit} }}\n")
        };
        let own = repository("tools", "url = \"http://review.example.com:8080/r/\"");
        assert_eq!(
            farm(&own).repositories[0].gerrit.as_ref().map(GerritProject::key).as_deref(),
            Some("review.example.com:8080/r/tools")
        );
        let same = repository("other", "url = \"http://review.example.com:8080/r\", project = \"tools\"");
        assert!(
            errors(&(own + &same))
                .contains("there is another repository at `review.example.com:8080/r/tools`")
        );
        for (bad, said) in [
            ("url = \"review.example.com\"", "is not a URL"),
            ("url = \"https://me:secret@review.example.com\"", "may not hold a user"),
            ("url = \"https://review.example.com\", project = \"/a\"", "is not the name of a project"),
            ("project = \"a\"", "url"),
        ] {
            let said_then = errors(&repository("tools", bad));
            assert!(said_then.contains(said) && !said_then.contains("secret"), "{bad}: {said_then}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said_at_its_place() {
        let text = r#"
timeout_scale = -1
[services]
gitmirror = "gitmirror:8443"
[secrets]
TOKEN = "/run/secrets/token"
[[hosts]]
name = "linux"
reuse = "never"
[[hosts]]
name = "linux"
pool = "moon"
environment = { "A B" = "1" }
[[repositories]]
name = "a"
origin = ""
preset = "cobol"
hosts = ["linux", "darwin"]
secrets = ["TOKEN", "PASSWORD"]
branches = ["main", ""]
[[repositories]]
name = "a"
origin = "/a"
poll = "0s"
[gopherbot]
dry_run = false
"#;
        let expected = "\
farm.toml:2:17: `timeout_scale` must be above 0 and at most 100
farm.toml:4:13: `gitmirror:8443` is not a URL, as in `https://coordinator:8443`
farm.toml:9:9: `reuse = \"never\"` needs a pool that makes and destroys machines; `local` and `reverse` keep theirs: use `wiped` or `shared`
farm.toml:11:8: there is another host `linux`
farm.toml:12:8: there is no pool `moon`: `local`, `reverse` are
farm.toml:13:25: `A B` is not the name of a variable: letters, digits and `_` are
farm.toml:16:10: `origin` must be a path or URL that git can fetch
farm.toml:17:10: there is no preset `cobol`: `cargo`, `go` are
farm.toml:18:19: there is no host `darwin`
farm.toml:19:21: there is no secret `PASSWORD`
farm.toml:20:21: a pattern may not be empty
farm.toml:22:8: there is another repository `a`
farm.toml:24:8: `poll` must be at least 1s
farm.toml:26:11: `dry_run = false` needs `github_token`, the file that holds it";
        assert_eq!(errors(text), expected);
    }

    #[test]
    fn records_in_postgresql_have_a_url_without_a_password() {
        let records = |url: &str| format!("[records]\nurl = \"{url}\"\npassword = \"/p\"\nca = \"/c\"\n");
        for url in ["postgres://farmer@db/farm", "postgresql:///farm?host=/run/postgresql&user=a:b"] {
            let wanted = Records { url: url.to_owned(), password: Some("/p".into()), ca: Some("/c".into()) };
            assert_eq!(farm(&records(url)).records, Some(wanted));
        }
        let secret =
            "farm.toml:2:7: `url` holds a password: put that into a file, and name the file in `password`";
        for url in ["postgres://a:opensesame@db/farm", "postgres://db/farm?user=a&password=opensesame"] {
            assert_eq!(errors(&records(url)), secret);
        }
        let other = "farm.toml:2:7: `url` is not as in `postgres://farmer@db.internal/farm`";
        assert_eq!(errors(&records("mysql://db/farm")), other);
    }

    #[test]
    fn a_policy_says_what_builds_and_tries_and_the_first_that_applies_counts() {
        let farm = farm(
            r#"
[[policies]]
repository = "go"
branch = "release-*"
build = ["linux-*"]
try = ["linux-amd64"]
[[policies]]
repository = "go"
build = ["*-race"]
"#,
        );
        let file = r#"
[[builders]]
name = "linux-amd64"
host = "local"
make = ["make"]
[[builders]]
name = "linux-amd64-race"
host = "local"
make = ["make"]
[[builders]]
name = "darwin-arm64"
host = "local"
make = ["make"]
try = false
[[builders]]
name = "publish"
host = "local"
make = ["make publish"]
secrets = ["TOKEN"]
"#;
        let offer = Offer { secrets: vec!["TOKEN".to_owned()], ..Offer::local() };
        let file = crate::BuildFile::parse("farmer.toml", file, &offer).unwrap();
        let selected = |repository: &str, branch: &str, purpose| {
            let builders = farm.select(&repository.parse().unwrap(), branch, purpose, &file.builders);
            builders.iter().map(|builder| builder.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            selected("go", "refs/heads/release-1", Purpose::Submitted),
            "linux-amd64 linux-amd64-race"
        );
        assert_eq!(selected("go", "release-1", Purpose::Try), "linux-amd64");
        assert_eq!(selected("go", "main", Purpose::Submitted), "linux-amd64-race");
        assert_eq!(selected("go", "main", Purpose::Try), "linux-amd64 linux-amd64-race");
        let all = "linux-amd64 linux-amd64-race darwin-arm64 publish";
        assert_eq!(selected("tools", "main", Purpose::Submitted), all);
        assert_eq!(selected("tools", "main", Purpose::Try), "linux-amd64 linux-amd64-race");
    }
}
