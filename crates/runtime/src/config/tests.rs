//! What the reader promises: all errors, each at its place.

use std::{net::SocketAddr, time::Duration};

use types::HostType;

use super::*;

#[derive(Debug)]
struct Farm {
    listen: SocketAddr,
    scale: f64,
    poll: Duration,
    tags: Vec<String>,
    hosts: Vec<Host>,
    environment: Vec<(String, String)>,
    mode: Mode,
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Staging,
    Production,
}

#[derive(Debug)]
struct Limits {
    builds: u32,
}

#[derive(Debug)]
struct Host {
    name: HostType,
    expected: u32,
}

impl FromToml for Farm {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let farm = Self {
            listen: table.required("listen"),
            scale: table.default("timeout_scale", 1.0),
            poll: table.default("poll", Duration::from_secs(15)),
            tags: table.default("tags", Vec::new()),
            hosts: table.tables("host"),
            environment: table.pairs("environment"),
            mode: table
                .choice("mode", &[("staging", Mode::Staging), ("production", Mode::Production)])
                .unwrap_or(Mode::Staging),
            limits: table.table("limits"),
        };
        if farm.scale <= 0.0 {
            table.error_at("timeout_scale", "`timeout_scale` must be above zero");
        }
        farm
    }
}

impl FromToml for Limits {
    fn from_toml(table: &mut Table<'_>) -> Self {
        Self { builds: table.default("builds", 7) }
    }
}

impl FromToml for Host {
    fn from_toml(table: &mut Table<'_>) -> Self {
        Self { name: table.required("name"), expected: table.default("expected", 1) }
    }
}

fn errors(text: &str) -> String {
    parse::<Farm>("farm.toml", text).unwrap_err().to_string()
}

#[test]
fn a_valid_file_gives_its_values_and_the_defaults() {
    let text = r#"
listen = "127.0.0.1:80"
poll = "1m 30s"
tags = ["a", "b"]
mode = "production"
environment = { PATH = "/bin", A = "1" }
[[host]]
name = "linux"
expected = 0x10
[[host]]
name = "darwin"
"#;
    let farm: Farm = parse("farm.toml", text).unwrap();
    assert_eq!(farm.listen, SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!((farm.poll, farm.scale), (Duration::from_secs(90), 1.0));
    assert_eq!(farm.tags, ["a", "b"]);
    assert_eq!(farm.environment, [("PATH".into(), "/bin".into()), ("A".into(), "1".to_owned())]);
    assert_eq!((farm.mode, farm.limits.builds), (Mode::Production, 7));
    let hosts: Vec<_> = farm.hosts.iter().map(|host| (host.name.as_str(), host.expected)).collect();
    assert_eq!(hosts, [("linux", 16), ("darwin", 1)]);
}

#[test]
fn every_error_is_found_at_once_and_in_the_order_of_the_file() {
    let text = r#"timeout_scale = 0
lisen = "127.0.0.1:80"
poll = "soon"
tags = ["a", 2, "c", true]
mode = "fast"
[limits]
builds = -1
"ünknown" = 1
[[host]]
name = "Linux Box"
expcted = 3
[[host]]
expected = "many"
"#;
    let expected = "\
farm.toml:1:1: missing key `listen`
farm.toml:1:17: `timeout_scale` must be above zero
farm.toml:2:1: unknown key `lisen`: did you mean `listen`?
farm.toml:3:8: `soon` is not a duration, as in `90s`, `15m` or `1h 30m`
farm.toml:4:14: `tags[1]` must be a string, not an integer
farm.toml:4:22: `tags[3]` must be a string, not a boolean
farm.toml:5:8: `fast` is none of `staging`, `production`
farm.toml:7:10: `-1` is not from 0 to 4294967295
farm.toml:8:1: unknown key `limits.ünknown`
farm.toml:10:8: `Linux Box` is not the name of a host type: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, the first a letter or digit
farm.toml:11:1: unknown key `host[0].expcted`: did you mean `expected`?
farm.toml:12:1: missing key `host[1].name`
farm.toml:13:12: `host[1].expected` must be an integer, not a string";
    assert_eq!(errors(text), expected);
}

#[test]
fn broken_syntax_is_said_at_its_place_and_nothing_else_is() {
    let errors = parse::<Farm>("farm.toml", "a = \nb = [1\n").unwrap_err();
    assert_eq!(errors.list()[0].line, 1);
    assert!(errors.list().iter().all(|problem| !problem.message.contains("missing key")), "{errors}");
}

#[test]
fn what_should_be_a_table_is_one_error_not_many() {
    struct Strict;
    impl FromToml for Strict {
        fn from_toml(table: &mut Table<'_>) -> Self {
            table.table_with("listen", |listen| listen.required::<String>("public"));
            Self
        }
    }
    let errors = parse::<Strict>("farm.toml", "listen = 3").err().unwrap();
    assert_eq!(errors.to_string(), "farm.toml:1:10: `listen` must be a table, not an integer");
    let errors = parse::<Strict>("farm.toml", "").err().unwrap();
    assert_eq!(errors.to_string(), "farm.toml:1:1: missing key `listen.public`");
}

#[test]
fn columns_count_characters() {
    let errors = errors("listen = \"127.0.0.1:80\"\nenvironment = { \"ä\" = \"öö\", b = 2 }");
    assert_eq!(errors, "farm.toml:2:33: `environment.b` must be a string, not an integer");
}

#[test]
fn a_file_that_is_not_there_is_one_line() {
    let errors = load::<Farm>(Path::new("/nowhere/farm.toml")).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "/nowhere/farm.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_mark_reports_later_at_the_right_place() {
    let read = |table: &mut Table<'_>| {
        let marks = table.tables_with("host", |host| (host.required::<String>("name"), host.mark("name")));
        table.error_at_mark(marks[1].1, "a second one");
        table.error_at_index("tags", 1, "not this tag");
    };
    let errors =
        parse_with("f", "tags = [1, 2]\n[[host]]\nname = \"a\"\n[[host]]\nname = \"a\"", read).unwrap_err();
    assert_eq!(errors.to_string(), "f:1:12: not this tag\nf:5:8: a second one");
}
