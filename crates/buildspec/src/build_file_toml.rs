//! Reads `farmer.toml` and holds it against what the farm offers.

use std::{collections::HashSet, path::Component, path::Path, time::Duration};

use runtime::config::{FromToml, FromValue, Table};
use types::{BuilderName, HostType};

use crate::{
    BuildFile, Builder, Offer, Snapshot, Tests,
    farm_toml::{environment, is_variable, positive},
    script::PLACEHOLDER,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_mins(20);
/// The most builders of one file, helpers of one builder and shards of one build: more is a mistake.
const MAX_BUILDERS: usize = 1000;
const MAX_HELPERS: u32 = 100;
const MAX_SHARDS: usize = 10_000;
const DEFAULT_SHARDS: usize = 1000;

pub(crate) fn read(table: &mut Table<'_>, offer: &Offer) -> BuildFile {
    let mut seen = HashSet::new();
    let builders = table.tables_with("builders", |table| {
        let builder = builder(table, offer);
        if builder.name != BuilderName::placeholder() && !seen.insert(builder.name.clone()) {
            table.error_at("name", format!("there is another builder `{}`", builder.name));
        }
        builder
    });
    if builders.is_empty() && !table.has("builders") {
        table.error("there is no builder: begin one with `[[builders]]`");
    }
    if builders.len() > MAX_BUILDERS {
        table.error_at("builders", format!("there are more than {MAX_BUILDERS} builders"));
    }
    BuildFile { builders }
}

fn builder(table: &mut Table<'_>, offer: &Offer) -> Builder {
    let host: Option<HostType> = if table.has("host") {
        table.parsed("host")
    } else {
        table.required::<String>("host");
        None
    };
    let source_folder = folder(table, "source_folder").unwrap_or_default();
    let timeout = table.default("timeout", DEFAULT_TIMEOUT);
    positive(table, "timeout", timeout);
    let mut test_timeout = timeout;
    let tests =
        table.has("tests").then(|| table.table_with("tests", |table| tests(table, &mut test_timeout)));
    let builder = Builder {
        name: table.required("name"),
        host: host.clone().unwrap_or_else(HostType::placeholder),
        folder: folder(table, "folder").unwrap_or_else(|| source_folder.clone()),
        source_folder,
        make: table.default("make", Vec::new()),
        tests,
        environment: environment(table),
        secrets: table.default("secrets", Vec::new()),
        timeout,
        test_timeout,
        snapshot: table.table("snapshot"),
        known_issues: table.default("known_issues", Vec::new()),
        owners: table.default("owners", Vec::new()),
        try_: table.default("try", true),
        keep_going: table.default("keep_going", true),
        notes: table.default("notes", String::new()),
    };
    check_scripts(table, &builder);
    check_offer(table, &builder, host.as_ref(), offer);
    check_snapshot(table, &builder);
    for (index, issue) in builder.known_issues.iter().enumerate() {
        if *issue == 0 {
            table.error_at_index("known_issues", index, "issues are numbered from 1");
        }
    }
    builder
}

/// Reads also the test timeout, which is the builder's so that all timeouts are in one place.
fn tests(table: &mut Table<'_>, test_timeout: &mut Duration) -> Tests {
    *test_timeout = table.default("timeout", *test_timeout);
    if table.has("timeout") {
        positive(table, "timeout", *test_timeout);
    }
    let tests = Tests {
        list: table.optional("list"),
        run: table.required("run"),
        separator: table.parsed("separator").unwrap_or_default(),
        shard_seconds: table.default("shard_seconds", 10.0),
        max_shards: table.default("max_shards", DEFAULT_SHARDS),
        helpers: table.default("helpers", 0),
    };
    if table.has("run") {
        check_script(table, "run", &tests.run);
    }
    if let Some(list) = &tests.list {
        check_script(table, "list", list);
    } else {
        if tests.helpers > 0 {
            table.error_at("helpers", "`helpers` share tests out, so they need a `list`");
        }
        if tests.run.contains(PLACEHOLDER) {
            table.error_at("run", format!("`{PLACEHOLDER}` stands for names, so it needs a `list`"));
        }
    }
    if !(tests.shard_seconds.is_finite() && tests.shard_seconds > 0.0) {
        table.error_at("shard_seconds", "`shard_seconds` must be above 0");
    }
    if !(1..=MAX_SHARDS).contains(&tests.max_shards) {
        table.error_at("max_shards", format!("`max_shards` must be from 1 to {MAX_SHARDS}"));
    }
    if tests.helpers > MAX_HELPERS {
        table.error_at("helpers", format!("`helpers` must be at most {MAX_HELPERS}"));
    }
    tests
}

impl FromToml for Snapshot {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let snapshot = Self {
            enabled: table.default("enabled", true),
            exclude: table.default("exclude", Vec::new()),
            movable: table.default("movable", false),
        };
        for (index, path) in snapshot.exclude.iter().enumerate() {
            if !is_below(path) {
                table.error_at_index(
                    "exclude",
                    index,
                    format!("`{path}` is not a path below the work folder"),
                );
            }
        }
        snapshot
    }
}

fn check_scripts(table: &mut Table<'_>, builder: &Builder) {
    for (index, script) in builder.make.iter().enumerate() {
        if let Some(problem) = script_problem(script) {
            table.error_at_index("make", index, problem);
        }
    }
    if builder.make.is_empty() && builder.tests.is_none() && !table.has("make") {
        table.error("the builder does nothing: it has neither `make` nor `tests`");
    }
}

fn check_script(table: &mut Table<'_>, key: &str, script: &str) {
    if let Some(problem) = script_problem(script) {
        table.error_at(key, problem);
    }
}

fn script_problem(script: &str) -> Option<&'static str> {
    if script.trim().is_empty() {
        return Some("the script is empty");
    }
    script.contains('\0').then_some("the script has a zero byte")
}

fn check_offer(table: &mut Table<'_>, builder: &Builder, host: Option<&HostType>, offer: &Offer) {
    // A host that is missing or no name was said already.
    if host.is_some() {
        check_host(table, builder, offer);
    }
    for (index, secret) in builder.secrets.iter().enumerate() {
        if !is_variable(secret) {
            table.error_at_index("secrets", index, format!("`{secret}` is not the name of a variable"));
        } else if !offer.secrets.contains(secret) {
            table.error_at_index(
                "secrets",
                index,
                format!("this repository is not offered secret `{secret}`"),
            );
        }
    }
}

fn check_host(table: &mut Table<'_>, builder: &Builder, offer: &Offer) {
    let pool: Option<String> = table.optional("pool");
    let name = &builder.host;
    let Some(host) = offer.hosts.iter().find(|host| host.name == *name) else {
        let hosts: Vec<String> = offer.hosts.iter().map(|host| format!("`{}`", host.name)).collect();
        let offered =
            if hosts.is_empty() { "none is".to_owned() } else { format!("offered: {}", hosts.join(", ")) };
        table.error_at("host", format!("this repository is not offered host `{name}` ({offered})"));
        return;
    };
    if let Some(pool) = pool.filter(|pool| *pool != host.pool) {
        let message =
            format!("this repository is not offered pool `{pool}`: host `{name}` is of `{}`", host.pool);
        table.error_at("pool", message);
    }
    if builder.timeout.max(builder.test_timeout) > host.timeout {
        let key = if builder.timeout > host.timeout { "timeout" } else { "tests" };
        table.error_at(key, format!("host `{name}` allows no timeout above {}s", host.timeout.as_secs()));
    }
}

fn check_snapshot(table: &mut Table<'_>, builder: &Builder) {
    let helpers = builder.tests.as_ref().map_or(0, |tests| tests.helpers);
    if helpers > 0 && !builder.snapshot.enabled {
        table.error_at("snapshot", "`tests.helpers` start from a snapshot: it must be enabled");
    }
}

/// A folder below the work folder, as it is written without needless parts. None if left out.
fn folder(table: &mut Table<'_>, key: &str) -> Option<String> {
    let path: String = table.optional(key)?;
    if !path.is_empty() && path != "." && !is_below(&path) {
        table.error_at(key, format!("`{path}` is not a folder below the work folder"));
    }
    Some(if path == "." { String::new() } else { path })
}

fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && !path.contains('\0') && parts.all(|part| matches!(part, Component::Normal(_)))
}
