//! `farmer.toml`: the repository's own file, read at the commit that is built.

use std::time::Duration;

use runtime::config;
use types::{BuilderName, HostType};

use crate::{Host, script::Separator};

/// The whole of `farmer.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildFile {
    /// Its builders; at least one.
    pub builders: Vec<Builder>,
}

/// A named way to build and test.
#[derive(Debug, Clone, PartialEq)]
pub struct Builder {
    /// Its name.
    pub name: BuilderName,
    /// The kind of machine it needs.
    pub host: HostType,
    /// The folder, below the work folder, that the source is unpacked into. Empty means the work folder itself.
    pub source_folder: String,
    /// The folder, below the work folder, that commands run in. By default the source folder.
    pub folder: String,
    /// Shell scripts that make it, one after the other; see [`crate::script::shell`].
    pub make: Vec<String>,
    /// How it is tested; `None` stops after make.
    pub tests: Option<Tests>,
    /// Added to the environment of every command. `$WORK` in a value stands for the work folder, `$PATH` for the PATH
    /// so far.
    pub environment: Vec<(String, String)>,
    /// Names of secrets: each becomes a variable of that name. Only what is submitted is built with them.
    pub secrets: Vec<String>,
    /// How long make, and then the listing of tests, may run, before the farm's `timeout_scale`.
    pub timeout: Duration,
    /// How long a shard may run, before the farm's `timeout_scale`.
    pub test_timeout: Duration,
    /// What is kept of make.
    pub snapshot: Snapshot,
    /// Issues that explain failures: a builder with any is shown as noise.
    pub known_issues: Vec<u64>,
    /// Who looks after it.
    pub owners: Vec<String>,
    /// Whether changes are tried on it when the farm's policy does not say.
    pub try_: bool,
    /// Whether the other shards go on when one fails.
    pub keep_going: bool,
    /// For people.
    pub notes: String,
}

/// How a builder is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Tests {
    /// A script that prints the tests; `None` means one shard without names.
    pub list: Option<String>,
    /// A script that runs some: `{tests}` in it is replaced by their names, quoted for the shell; `$FARMER_TESTS` is a
    /// file of their names. See [`crate::script::run`].
    pub run: String,
    /// What stands between names, as listed and in `$FARMER_TESTS`.
    pub separator: Separator,
    /// How long a shard should take.
    pub shard_seconds: f64,
    /// The most shards there may be; more tests then go into each.
    pub max_shards: usize,
    /// How many machines beside the first run shards.
    pub helpers: u32,
}

/// What is kept of make for helpers and for other builders.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Whether anything is.
    pub enabled: bool,
    /// Paths below the work folder that are left out.
    pub exclude: Vec<String>,
    /// Whether what make left works in another work folder.
    pub movable: bool,
}

/// What the farm offers a repository; a `farmer.toml` that names anything else is refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offer {
    /// Hosts, each with its pool.
    pub hosts: Vec<OfferedHost>,
    /// Secrets.
    pub secrets: Vec<String>,
}

/// A host that builders may name.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedHost {
    /// Its name.
    pub name: HostType,
    /// The pool its machines come from.
    pub pool: String,
    /// The longest timeout.
    pub timeout: Duration,
}

impl BuildFile {
    /// Reads a `farmer.toml`; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// All that is wrong, each at its place: also a host, pool or secret that is not offered.
    pub fn parse(name: &str, text: &str, offer: &Offer) -> Result<Self, config::Errors> {
        config::parse_with(name, text, |table| crate::build_file_toml::read(table, offer))
    }

    /// The builder of this name.
    pub fn builder(&self, name: &BuilderName) -> Option<&Builder> {
        self.builders.iter().find(|builder| builder.name == *name)
    }
}

impl Builder {
    /// Whether it may build what is not submitted. A builder with secrets may not: a change could print them.
    pub fn may_try(&self) -> bool {
        self.secrets.is_empty()
    }
}

impl Offer {
    /// What a farm without a `farm.toml` offers: host `local`, no secrets.
    pub fn local() -> Self {
        let Host { name, pool, limits, .. } = Host::local();
        Self { hosts: vec![OfferedHost { name, pool, timeout: limits.timeout }], secrets: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let host = |name: &str, pool: &str| OfferedHost {
            name: name.parse().unwrap(),
            pool: pool.to_owned(),
            timeout: Duration::from_hours(1),
        };
        Offer {
            hosts: vec![host("linux", "local"), host("mac", "reverse")],
            secrets: vec!["TOKEN".to_owned()],
        }
    }

    fn errors(text: &str) -> String {
        BuildFile::parse("farmer.toml", text, &offer()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_what_most_builders_want() {
        let text =
            "[[builders]]\nname = 'linux-amd64'\nhost = 'linux'\nmake = ['make']\nsource_folder = 'src'\n";
        let file = BuildFile::parse("farmer.toml", text, &offer()).unwrap();
        let builder = file.builder(&"linux-amd64".parse().unwrap()).unwrap();
        assert_eq!((builder.source_folder.as_str(), builder.folder.as_str()), ("src", "src"));
        assert!(builder.tests.is_none() && builder.try_ && builder.keep_going && builder.snapshot.enabled);
        assert_eq!(builder.timeout, Duration::from_mins(20));
        assert!(builder.may_try());
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
[[builders]]
name = "mac"
host = "mac"
pool = "reverse"
source_folder = "."
folder = "a/b"
make = ["./configure", "make"]
environment = { CC = "clang", EMPTY = "" }
secrets = ["TOKEN"]
timeout = "1h"
known_issues = [12]
owners = ["me"]
try = false
keep_going = false
notes = "slow"
[builders.snapshot]
exclude = ["a/tmp"]
movable = true
[builders.tests]
list = "./list"
run = "./run {tests}"
separator = "nul"
shard_seconds = 2.5
max_shards = 7
helpers = 2
timeout = "5m"
"#;
        let file = BuildFile::parse("farmer.toml", text, &offer()).unwrap();
        let tests = Tests {
            list: Some("./list".to_owned()),
            run: "./run {tests}".to_owned(),
            separator: Separator::Nul,
            shard_seconds: 2.5,
            max_shards: 7,
            helpers: 2,
        };
        let builder = Builder {
            name: "mac".parse().unwrap(),
            host: "mac".parse().unwrap(),
            source_folder: String::new(),
            folder: "a/b".to_owned(),
            make: vec!["./configure".to_owned(), "make".to_owned()],
            tests: Some(tests),
            environment: vec![("CC".to_owned(), "clang".to_owned()), ("EMPTY".to_owned(), String::new())],
            secrets: vec!["TOKEN".to_owned()],
            timeout: Duration::from_hours(1),
            test_timeout: Duration::from_mins(5),
            snapshot: Snapshot { enabled: true, exclude: vec!["a/tmp".to_owned()], movable: true },
            known_issues: vec![12],
            owners: vec!["me".to_owned()],
            try_: false,
            keep_going: false,
            notes: "slow".to_owned(),
        };
        assert_eq!(file.builders, [builder]);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_its_line() {
        let text = r#"
[[builders]]
name = "a"
host = "gpu"
make = ["make"]
[[builders]]
name = "b"
host = "linux"
pool = "reverse"
secrets = ["TOKEN", "PASSWORD", "not a name"]
timeout = "2h"
make = ["make"]
"#;
        let expected = "\
farmer.toml:4:8: this repository is not offered host `gpu` (offered: `linux`, `mac`)
farmer.toml:9:8: this repository is not offered pool `reverse`: host `linux` is of `local`
farmer.toml:10:21: this repository is not offered secret `PASSWORD`
farmer.toml:10:33: `not a name` is not the name of a variable
farmer.toml:11:11: host `linux` allows no timeout above 3600s";
        assert_eq!(errors(text), expected);
    }

    #[test]
    fn every_error_is_found_at_once() {
        let text = r#"
[[builders]]
host = 3
source_folder = "../x"
mak = ["make"]
timeout = "0s"
known_issues = [1, 0]
[builders.snapshot]
enabled = false
exclude = ["/etc"]
[builders.tests]
list = " "
run = "a\u0000b"
helpers = 200
shard_seconds = 0
max_shards = 0
separator = "comma"
[[builders]]
name = "a"
host = "linux"
[[builders]]
name = "a"
host = "linux"
tests = { run = "x {tests}", helpers = 1 }
"#;
        let expected = "\
farmer.toml:2:1: missing key `builders[0].name`
farmer.toml:3:8: `builders[0].host` must be a string, not an integer
farmer.toml:4:17: `../x` is not a folder below the work folder
farmer.toml:5:1: unknown key `builders[0].mak`: did you mean `make`?
farmer.toml:6:11: `timeout` must be above 0s
farmer.toml:7:20: issues are numbered from 1
farmer.toml:8:1: `tests.helpers` start from a snapshot: it must be enabled
farmer.toml:10:12: `/etc` is not a path below the work folder
farmer.toml:12:8: the script is empty
farmer.toml:13:7: the script has a zero byte
farmer.toml:14:11: `helpers` must be at most 100
farmer.toml:15:17: `shard_seconds` must be above 0
farmer.toml:16:14: `max_shards` must be from 1 to 10000
farmer.toml:17:13: `comma` is not a separator: `line` and `nul` are
farmer.toml:18:1: the builder does nothing: it has neither `make` nor `tests`
farmer.toml:22:8: there is another builder `a`
farmer.toml:24:17: `{tests}` stands for names, so it needs a `list`
farmer.toml:24:40: `helpers` share tests out, so they need a `list`";
        assert_eq!(errors(text), expected);
        assert_eq!(errors(""), "farmer.toml:1:1: there is no builder: begin one with `[[builders]]`");
    }
}
