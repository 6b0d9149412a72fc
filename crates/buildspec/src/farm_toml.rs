//! Reads `farm.toml` and checks it as a whole.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use runtime::config::{FromToml, FromValue, Table};
use types::{HostType, RepositoryName};

use crate::{
    Environment, Farm, GerritProject, GithubRepository, Glob, Gopherbot, Host, Limits, Listen, PRESETS,
    Policy, Records, Repository, Reuse, Services, Tier, TlsPaths, Webhook, tries::tries,
};

/// Where the machines of a host may come from.
pub(crate) const POOLS: &[&str] = &["local", "reverse"];

impl FromToml for Farm {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let listen: Listen = table.table("listen");
        let services = table.table_with("services", |table| services(table, &listen));
        let hosts = hosts(table);
        let secrets: BTreeMap<String, PathBuf> = table.pairs("secrets").into_iter().collect();
        let repositories = repositories(table, &hosts, &secrets);
        let farm = Self {
            name: table.default("name", default.name),
            environment: table.choice("environment", Environment::WORDS).unwrap_or(default.environment),
            timeout_scale: table.default("timeout_scale", default.timeout_scale),
            url: url(table, "url").map(|url| url.trim_end_matches('/').to_owned()),
            data: table.default("data", default.data),
            buildlets: table.optional("buildlets"),
            listen,
            services,
            tls: table.optional_table("tls"),
            records: table.optional_table("records"),
            telemetry: table.table("telemetry"),
            repositories,
            hosts,
            policies: table.tables("policies"),
            mutation_log: table.optional("mutation_log"),
            webhook: table.optional_table("webhook"),
            gopherbot: table.table("gopherbot"),
            secrets,
        };
        if !(farm.timeout_scale > 0.0 && farm.timeout_scale <= 100.0) {
            table.error_at("timeout_scale", "`timeout_scale` must be above 0 and at most 100");
        }
        if farm.buildlets.is_some_and(|count| count > 1000) {
            table.error_at("buildlets", "`buildlets` must be at most 1000");
        }
        farm
    }
}

/// The hosts; without any, the one that every farm has.
fn hosts(table: &mut Table<'_>) -> Vec<Host> {
    let mut seen = HashSet::from([HostType::placeholder()]);
    let hosts = table.tables_with("hosts", |table| {
        let host = Host::from_toml(table);
        if host.name != HostType::placeholder() && !seen.insert(host.name.clone()) {
            table.error_at("name", format!("there is another host `{}`", host.name));
        }
        host
    });
    if hosts.is_empty() { vec![Host::local()] } else { hosts }
}

fn repositories(
    table: &mut Table<'_>,
    hosts: &[Host],
    secrets: &BTreeMap<String, PathBuf>,
) -> Vec<Repository> {
    let (mut seen, mut projects, mut at_github) = (HashSet::new(), HashSet::new(), HashSet::new());
    table.tables_with("repositories", |table| {
        let repository = Repository::from_toml(table);
        if let Some(key) = repository.gerrit.as_ref().map(GerritProject::key)
            && !projects.insert(key.clone())
        {
            table.error_at("gerrit", format!("there is another repository at `{key}`"));
        }
        if let Some(github) = &repository.github {
            let key = format!("{}/{}", github.owner, github.name);
            if !at_github.insert((github.url.clone(), key.to_lowercase())) {
                table.error_at("github", format!("there is another repository at `{key}`"));
            }
        }
        let name = &repository.name;
        if *name != RepositoryName::placeholder() && !seen.insert(name.clone()) {
            table.error_at("name", format!("there is another repository `{name}`"));
        }
        for (index, offered) in repository.hosts.iter().enumerate() {
            if !hosts.iter().any(|host| host.name == *offered) {
                table.error_at_index("hosts", index, format!("there is no host `{offered}`"));
            }
        }
        for (index, offered) in repository.secrets.iter().enumerate() {
            if !secrets.contains_key(offered) {
                table.error_at_index("secrets", index, format!("there is no secret `{offered}`"));
            }
        }
        repository
    })
}

impl FromToml for Listen {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        Self {
            public: table.default("public", default.public),
            coordinator: table.default("coordinator", default.coordinator),
            advertise: address(table, "advertise"),
            ssh: table.optional("ssh"),
            gitmirror: table.default("gitmirror", default.gitmirror),
            maintnerd: table.default("maintnerd", default.maintnerd),
            logs: table.optional("logs"),
            pubsubhelper: table.default("pubsubhelper", default.pubsubhelper),
            webhook: table.default("webhook", default.webhook),
            gopherbot: table.default("gopherbot", default.gopherbot),
            devapp: table.default("devapp", default.devapp),
        }
    }
}

fn services(table: &mut Table<'_>, listen: &Listen) -> Services {
    let default = Services::at(listen);
    Services {
        coordinator: url(table, "coordinator").unwrap_or(default.coordinator),
        gitmirror: url(table, "gitmirror").unwrap_or(default.gitmirror),
        maintnerd: url(table, "maintnerd").unwrap_or(default.maintnerd),
        pubsubhelper: url(table, "pubsubhelper").unwrap_or(default.pubsubhelper),
    }
}

/// A host and a port.
fn address(table: &mut Table<'_>, key: &str) -> Option<String> {
    let address: String = table.optional(key)?;
    let parts = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    if parts.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        table.error_at(key, format!("`{address}` is not a host and a port, as in `coordinator-1:8791`"));
    }
    Some(address)
}

/// An address that is reached by HTTP.
fn url(table: &mut Table<'_>, key: &str) -> Option<String> {
    let url: String = table.optional(key)?;
    if !is_url(&url) {
        table.error_at(key, not_a_url(&url));
    }
    Some(url)
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn not_a_url(url: &str) -> String {
    format!("`{url}` is not a URL, as in `https://coordinator:8443`")
}

impl FromToml for Records {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let url: String = table.required("url");
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let user = rest.and_then(|rest| rest.split(['/', '?']).next()?.rsplit_once('@'));
        // The URL itself is not repeated: it may hold the password.
        if rest.is_none() && !url.is_empty() {
            table.error_at("url", "`url` is not as in `postgres://farmer@db.internal/farm`");
        } else if user.is_some_and(|(user, _)| user.contains(':'))
            || rest.is_some_and(|rest| rest.contains("password="))
        {
            table.error_at(
                "url",
                "`url` holds a password: put that into a file, and name the file in `password`",
            );
        }
        Self { url, password: table.optional("password"), ca: table.optional("ca") }
    }
}

impl FromToml for TlsPaths {
    fn from_toml(table: &mut Table<'_>) -> Self {
        Self {
            ca: table.required("ca"),
            certificate: table.required("certificate"),
            key: table.required("key"),
            ca_key: table.optional("ca_key"),
        }
    }
}

impl FromToml for Repository {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let name: RepositoryName = table.required("name");
        let origin: String = table.required("origin");
        let gerrit = gerrit(table, &name);
        // So that a vote is seen within 15 s, also while its refs are being fetched.
        let poll = Duration::from_secs(if gerrit.is_some() { 10 } else { 15 });
        let repository = Self {
            tries: tries(table, gerrit.as_ref()),
            gerrit,
            github: github(table, &origin),
            name,
            origin,
            poll: table.default("poll", poll),
            branches: globs(table, "branches").unwrap_or_else(Glob::all),
            push_builds: table.default("push_builds", Self::PUSH_BUILDS),
            preset: table.optional("preset"),
            hosts: words(table, "hosts"),
            secrets: table.default("secrets", Vec::new()),
            mirrors: table.default("mirrors", Vec::new()),
        };
        if table.has("origin") && repository.origin.trim().is_empty() {
            table.error_at("origin", "`origin` must be a path or URL that git can fetch");
        }
        if repository.poll < Duration::from_secs(1) {
            table.error_at("poll", "`poll` must be at least 1s");
        }
        if !(1..=100_000).contains(&repository.push_builds) {
            table.error_at("push_builds", "`push_builds` must be from 1 to 100000");
        }
        if let Some(preset) = repository.preset.as_deref().filter(|name| !PRESETS.contains(name)) {
            table.error_at("preset", format!("there is no preset `{preset}`: {} are", quoted(PRESETS)));
        }
        repository
    }
}

/// The project at a Gerrit that a repository is; there it is called as here unless said otherwise.
fn gerrit(table: &mut Table<'_>, name: &RepositoryName) -> Option<GerritProject> {
    let mut table = table.value("gerrit")?.table()?;
    let url: String = table.required("url");
    if url.contains('@') {
        // Not repeated: it may hold a password.
        table.error_at("url", "`url` may not hold a user: those are of `origin`");
    } else if !url.is_empty() && !is_url(&url) {
        table.error_at("url", not_a_url(&url));
    }
    let project: String = table.default("project", name.to_string());
    if project.is_empty() || project.starts_with('/') || project.ends_with('/') {
        table.error_at("project", format!("`{project}` is not the name of a project"));
    }
    Some(GerritProject { url: url.trim_end_matches('/').to_owned(), project })
}

/// The repository at GitHub whose issues are followed; that of the origin unless said otherwise.
fn github(table: &mut Table<'_>, origin: &str) -> Option<GithubRepository> {
    let mut table = table.value("github")?.table()?;
    let named: Option<String> = table.optional("repository");
    let place = match &named {
        Some(named) => GithubRepository::parse(named),
        None => GithubRepository::of_origin(origin),
    };
    match (&place, named) {
        (None, Some(named)) => table.error_at("repository", format!("`{named}` is not as in `owner/name`")),
        (None, None) => {
            table.error("`github` needs `repository`, as in `owner/name`: `origin` is not at github.com");
        }
        _ => {}
    }
    let token: Option<PathBuf> = table.optional("token");
    let url: String = table.default("url", GithubRepository::URL.to_owned());
    if url.contains('@') {
        // Not repeated: it may hold a password.
        table.error_at("url", "`url` may not hold a user: name the file of the token in `token`");
    } else if !is_url(&url) {
        table.error_at("url", not_a_url(&url));
    } else if token.is_some() && url.starts_with("http://") && !is_of_this_machine(&url) {
        table.error_at("url", format!("`{url}` would bring the token there in the clear: use `https://`"));
    }
    let poll = table.default("poll", Duration::from_mins(1));
    if poll < Duration::from_secs(1) {
        table.error_at("poll", "`poll` must be at least 1s");
    }
    let (owner, name) = place?;
    Some(GithubRepository { owner, name, url: url.trim_end_matches('/').to_owned(), token, poll })
}

/// Whether an address of HTTP is one of this machine.
fn is_of_this_machine(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

impl FromToml for Host {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let default = Self::local();
        let host = Self {
            name: table.required("name"),
            reuse: table.choice("reuse", Reuse::WORDS).unwrap_or(default.reuse),
            tier: table.choice("tier", Tier::WORDS).unwrap_or(default.tier),
            pool: table.default("pool", default.pool),
            tags: table.default("tags", Vec::new()),
            limits: table.table("limits"),
            image: table.default("image", String::new()),
            expected: table.default("expected", 0),
            owners: table.default("owners", Vec::new()),
            environment: environment(table),
            notes: table.default("notes", String::new()),
        };
        if !POOLS.contains(&host.pool.as_str()) {
            table.error_at("pool", format!("there is no pool `{}`: {} are", host.pool, quoted(POOLS)));
        }
        if host.reuse == Reuse::Never {
            let message = "`reuse = \"never\"` needs a pool that makes and destroys machines; `local` and `reverse` \
                           keep theirs: use `wiped` or `shared`";
            table.error_at("reuse", message);
        }
        host
    }
}

impl FromToml for Limits {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let limits = Self {
            output_bytes: table.default("output_bytes", default.output_bytes),
            timeout: table.default("timeout", default.timeout),
        };
        if limits.output_bytes == 0 {
            table.error_at("output_bytes", "`output_bytes` must be above 0");
        }
        positive(table, "timeout", limits.timeout);
        limits
    }
}

impl FromToml for Policy {
    fn from_toml(table: &mut Table<'_>) -> Self {
        Self {
            repository: glob(table, "repository"),
            branch: glob(table, "branch"),
            build: globs(table, "build").unwrap_or_else(Glob::all),
            try_: globs(table, "try"),
        }
    }
}

impl FromToml for Webhook {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let hook = Self { secret: table.optional("secret"), gerrit_secret: table.optional("gerrit_secret") };
        if hook.secret.is_none() && hook.gerrit_secret.is_none() {
            table.error("a webhook needs a `secret` for GitHub or a `gerrit_secret`");
        }
        hook
    }
}

impl FromToml for Gopherbot {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let default = Self::default();
        let bot = Self {
            dry_run: table.default("dry_run", default.dry_run),
            tasks: table.default("tasks", Vec::new()),
            github_token: table.optional("github_token"),
            github_url: url(table, "github_url").unwrap_or(default.github_url),
        };
        if !bot.dry_run && bot.github_token.is_none() {
            table.error_at("dry_run", "`dry_run = false` needs `github_token`, the file that holds it");
        }
        bot
    }
}

/// A pattern; left out it matches all.
fn glob(table: &mut Table<'_>, key: &str) -> Glob {
    table.parsed(key).unwrap_or_else(Glob::any)
}

/// A list of patterns. None if left out.
fn globs(table: &mut Table<'_>, key: &str) -> Option<Vec<Glob>> {
    table.has(key).then(|| words(table, key))
}

/// A list of strings that are parsed, each at its place. Empty if left out.
fn words<V: FromStr<Err: std::fmt::Display>>(table: &mut Table<'_>, key: &str) -> Vec<V> {
    let items = table.value(key).and_then(|value| value.items()).unwrap_or_default();
    let parse = |text: &str| text.parse().map_err(|error: V::Err| error.to_string());
    let word =
        |item: &runtime::config::Value<'_>| parse(item.string()?).map_err(|error| item.error(error)).ok();
    items.iter().filter_map(word).collect()
}

/// Variables of a process.
pub(crate) fn environment(table: &mut Table<'_>) -> Vec<(String, String)> {
    let Some(mut variables) = table.value("environment").and_then(|value| value.table()) else {
        return Vec::new();
    };
    let names = variables.keys();
    let variable = |name: String| {
        let value: String = variables.optional(&name)?;
        if let Some(problem) = variable_problem(&name, &value) {
            variables.error_at(&name, problem);
        }
        Some((name, value))
    };
    names.into_iter().filter_map(variable).collect()
}

fn variable_problem(name: &str, value: &str) -> Option<String> {
    if !is_variable(name) {
        return Some(format!("`{name}` is not the name of a variable: letters, digits and `_` are"));
    }
    value.contains('\0').then(|| format!("the value of `{name}` has a zero byte"))
}

/// Whether a shell takes it as the name of a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed) && !name.as_bytes()[0].is_ascii_digit()
}

/// Complains about a duration that is none.
pub(crate) fn positive(table: &mut Table<'_>, key: &str, duration: Duration) {
    if duration.is_zero() {
        table.error_at(key, format!("`{key}` must be above 0s"));
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
