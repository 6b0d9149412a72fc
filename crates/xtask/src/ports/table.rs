//! The table of ports: read from `docs/ports.toml`, written to `docs/ports.md`.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use anyhow::{Context, bail};

/// What `go tool dist list` says.
pub(crate) const GO: &str = include_str!("go.txt");

/// Where the table comes from and goes to.
const DATA: &str = "docs/ports.toml";
const PAGE: &str = "docs/ports.md";

/// What has to be said of runners.
const EMULATED: &str = "`qemu-…-static` emulates the agent, and neither the kernel nor what the agent starts: the test's commands are this\n\
    machine's own, and as qemu-user has no child subreapers, the agent keeps processes as it does on the BSDs.\n\n";

/// How far a port has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Built, and run here.
    Run,
    /// Built.
    Build,
    /// Type-checked.
    Check,
    /// Its builds run from another machine.
    Driven,
    /// rustc could, but nobody has looked.
    Untried,
    /// Not yet.
    None,
}

/// A port, and what is needed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) how: How,
    pub(crate) target: Option<String>,
    pub(crate) compiler: Option<String>,
    pub(crate) linker: Option<String>,
    pub(crate) runner: Option<String>,
    /// The long test runs it if it may take so many minutes, which is enough for it when nothing was compiled before.
    pub(crate) minutes: Option<u32>,
    /// How large its agent may be as machines get it.
    pub(crate) mib: Option<u32>,
    pub(crate) note: String,
}

impl Port {
    /// rustc's name of it.
    pub(crate) fn target(&self) -> anyhow::Result<&str> {
        self.target.as_deref().with_context(|| format!("{} has no target", self.name))
    }

    pub(crate) fn is_windows(&self) -> bool {
        self.name.starts_with("windows/")
    }
}

/// Reads the table.
pub(crate) fn load(root: &Path) -> anyhow::Result<Vec<Port>> {
    let text = fs::read_to_string(root.join(DATA)).with_context(|| format!("read `{DATA}`"))?;
    parse(&text).with_context(|| format!("read `{DATA}`"))
}

/// Writes the page.
pub(crate) fn write(root: &Path, ports: &[Port]) -> anyhow::Result<()> {
    fs::write(root.join(PAGE), render(ports)).with_context(|| format!("write `{PAGE}`"))
}

/// What is wrong with the table and its page, each with the file.
pub(crate) fn problems(root: &Path) -> Vec<(&'static str, String)> {
    let ports = match load(root) {
        Ok(ports) => ports,
        Err(error) => return vec![(DATA, format!("{error:#}"))],
    };
    let mut problems: Vec<_> = gaps(&ports, GO).into_iter().map(|gap| (DATA, gap)).collect();
    if fs::read_to_string(root.join(PAGE)).unwrap_or_default() != render(&ports) {
        problems.push((PAGE, format!("is not what {DATA} gives: run `cargo xtask ports --table`")));
    }
    problems
}

pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Port>> {
    let data: toml::Table = text.parse()?;
    let entries = data.get("port").and_then(toml::Value::as_array).context("there is no `[[port]]`")?;
    entries.iter().map(|entry| port(entry.as_table().context("a port is a table")?)).collect()
}

fn port(entry: &toml::Table) -> anyhow::Result<Port> {
    let known = ["name", "how", "target", "compiler", "linker", "runner", "minutes", "mib", "note"];
    if let Some(key) = entry.keys().find(|key| !known.contains(&key.as_str())) {
        bail!("`{key}` is no key of a port");
    }
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let number = |key: &str| entry.get(key).map(|value| whole(key, value)).transpose();
    let name = text("name").context("a port has no name")?;
    let how = match text("how").as_deref() {
        Some("run") => How::Run,
        Some("build") => How::Build,
        Some("check") => How::Check,
        Some("driven") => How::Driven,
        Some("untried") => How::Untried,
        Some("none") => How::None,
        _ => bail!("`how` of {name} is not `run`, `build`, `check`, `driven`, `untried` or `none`"),
    };
    let port = Port {
        how,
        target: text("target"),
        compiler: text("compiler"),
        linker: text("linker"),
        runner: text("runner"),
        minutes: number("minutes").with_context(|| format!("read {name}"))?,
        mib: number("mib").with_context(|| format!("read {name}"))?,
        note: text("note").unwrap_or_default(),
        name,
    };
    if matches!(how, How::Run | How::Build | How::Check) && port.target.is_none() {
        bail!("{} has no target", port.name);
    }
    if port.minutes.is_some() && how != How::Run {
        bail!("{} is not run, so no test can", port.name);
    }
    if port.mib.is_some() && !matches!(how, How::Run | How::Build) {
        bail!("{} is not built, so it has no size", port.name);
    }
    if matches!(how, How::Driven | How::Untried | How::None) && port.note.is_empty() {
        bail!("{} has no note that says how, or why not", port.name);
    }
    Ok(port)
}

fn whole(key: &str, value: &toml::Value) -> anyhow::Result<u32> {
    let number = value.as_integer().and_then(|number| number.try_into().ok());
    number.with_context(|| format!("`{key}` is no whole number"))
}

/// Ports that are missing, of nobody, or there twice.
fn gaps(ports: &[Port], go: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut gaps = Vec::new();
    for port in ports {
        if !seen.insert(port.name.as_str()) {
            gaps.push(format!("{} is there twice", port.name));
        }
        if !go.lines().any(|name| name == port.name) {
            gaps.push(format!("{} is no port of Go", port.name));
        }
    }
    gaps.extend(go.lines().filter(|name| !seen.contains(name)).map(|name| format!("{name} is missing")));
    gaps
}

fn render(ports: &[Port]) -> String {
    let mut page = "# Ports\n\n\
        Where a buildlet runs, for each port of Go (`go tool dist list`). Written by `cargo xtask ports` from\n\
        [ports.toml](ports.toml), which says for each what is to be done; the command does it, and fails when it cannot.\n\n\
        - **native, run here**: built for the target of rustc; the conformance test (exec, trees, escapes, limits, leases)\n  \
          passes with it, by the runner that is named, if there is one.\n\
        - **native, built**: a binary without libraries comes out; nobody has run it, for the reason that is named.\n\
        - **native, type-checked**: compiles; nobody has run it. Where the buildlet does less than on Linux, its\n  \
          [README](../crates/buildlet/README.md#elsewhere-than-on-linux) says what.\n\
        - **driven**: no buildlet of its own: one beside it runs what builds need on it. Nobody has set that up here.\n\
        - **not tried**: rustc has a standard library for it, but nobody has type-checked it, with the reason.\n\
        - **not yet**: with the reason.\n\n"
        .to_owned();
    page.push_str(EMULATED);
    let count = |how: How| ports.iter().filter(|port| port.how == how).count();
    let _ = writeln!(
        page,
        "{} run here, {} built, {} type-checked, {} driven, {} not tried, {} not yet.\n",
        count(How::Run),
        count(How::Build),
        count(How::Check),
        count(How::Driven),
        count(How::Untried),
        count(How::None)
    );
    page.push_str("| Port | State | rustc's target | By |\n|---|---|---|---|\n");
    for port in ports {
        let state = match port.how {
            How::Run => "native, run here",
            How::Build => "native, built",
            How::Check => "native, type-checked",
            How::Driven => "driven",
            How::Untried => "not tried",
            How::None => "not yet",
        };
        let target = port.target.as_ref().map(|target| format!("`{target}`")).unwrap_or_default();
        let by = match (&port.runner, port.how) {
            (Some(runner), _) => format!("`{runner}`"),
            (None, How::Run) => "this machine".to_owned(),
            (None, _) => port.note.clone(),
        };
        let _ = writeln!(page, "| {} | {state} | {target} | {by} |", port.name);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "[[port]]\nname = \"linux/amd64\"\nhow = \"run\"\ntarget = \"t\"\n\
        [[port]]\nname = \"plan9/386\"\nhow = \"none\"\nnote = \"no\"\n";

    #[test]
    fn no_port_is_absent_in_silence() {
        let ports = parse(DATA).unwrap();
        assert_eq!(gaps(&ports, "linux/amd64\nplan9/386\n"), Vec::<String>::new());
        assert_eq!(gaps(&ports, "linux/amd64\nplan9/386\njs/wasm"), ["js/wasm is missing"]);
        assert_eq!(gaps(&ports, "linux/amd64"), ["plan9/386 is no port of Go"]);
        let twice = [ports.clone(), ports].concat();
        assert_eq!(gaps(&twice, "linux/amd64\nplan9/386").len(), 2);
    }

    #[test]
    fn a_port_says_how_or_why_not() {
        for bad in [
            "name = \"a/b\"\nhow = \"run\"",
            "name = \"a/b\"\nhow = \"none\"",
            "name = \"a/b\"\nhow = \"soon\"\nnote = \"x\"",
            "how = \"none\"\nnote = \"x\"",
            "name = \"a/b\"\nhow = \"none\"\nnote = \"x\"\nwhy = \"y\"",
            "name = \"a/b\"\nhow = \"none\"\nnote = \"x\"\nminutes = 3",
            "name = \"a/b\"\nhow = \"run\"\ntarget = \"t\"\nminutes = \"3\"",
            "name = \"a/b\"\nhow = \"check\"\ntarget = \"t\"\nmib = 12",
        ] {
            assert!(parse(&format!("[[port]]\n{bad}\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_page_has_a_line_for_each_port() {
        let page = render(&parse(DATA).unwrap());
        assert!(page.contains("| linux/amd64 | native, run here | `t` | this machine |"), "{page}");
        assert!(page.contains("| plan9/386 | not yet |  | no |"), "{page}");
        assert!(
            page.contains("1 run here, 0 built, 0 type-checked, 0 driven, 0 not tried, 1 not yet."),
            "{page}"
        );
    }
}
