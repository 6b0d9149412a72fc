//! Where buildlets run: `docs/ports.toml` says what is to be done for each port of Go, this does it and writes the table.
//!
//! What a port needs (a target of rustc, a compiler for C, an emulator) is only looked for here;
//! `tests/real/ports/install` gets it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use crate::{say, stopwatch::Stopwatch};

mod profile;
pub(crate) mod table;
mod tools;

use profile::Profile;
use table::{How, Port};
use tools::Tools;

/// What is to be done for which ports.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which, as Go names them: `linux/arm64`.
    names: Vec<String>,
    #[arg(long, help = "Only write docs/ports.md", conflicts_with = "dist")]
    table: bool,
    #[arg(long, help = "Build it as machines get it: small; fail when it is too large")]
    dist: bool,
}

/// Does what the table says for the ports that are named, or for all, and writes the page.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<()> {
    let Args { names, table: table_only, dist } = args;
    let profile = if *dist { Profile::Dist } else { Profile::Dev };
    let ports = table::load(root)?;
    table::write(root, &ports)?;
    if *table_only {
        return Ok(());
    }
    if names.is_empty() {
        compare_with_go()?;
        compare_with_rust(&ports)?;
    }
    for name in names {
        ensure!(ports.iter().any(|port| port.name == *name), "`{name}` is no port of docs/ports.toml");
    }
    let mut failed = Vec::new();
    for port in ports.iter().filter(|port| names.is_empty() || names.contains(&port.name)) {
        let watch = Stopwatch::start();
        let done = match port.how {
            How::Run => conform(root, port, profile),
            How::Build => build(root, port, profile).map(|binary| described("built", &binary, profile)),
            How::Check => check(root, port),
            How::Driven | How::Untried | How::None => continue,
        };
        let how = done.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), Clone::clone);
        say(&format!("{}: {how} in {:.1} s", port.name, watch.elapsed().as_secs_f64()));
        if done.is_err() {
            failed.push(port.name.as_str());
        }
    }
    ensure!(failed.is_empty(), "docs/ports.toml says more than is so of {}", failed.join(", "));
    Ok(())
}

/// Runs the conformance test with the agents that the table has the long test run, if it may take so many minutes for each;
/// says which were left out and why.
pub(crate) fn test(root: &Path, minutes: u32) -> anyhow::Result<Vec<String>> {
    let ports = table::load(root)?;
    let mut left_out = Vec::new();
    for (port, needed) in ports.iter().filter_map(|port| Some((port, port.minutes?))) {
        let name = &port.name;
        let lacks = Tools::missing(port)?;
        if needed > minutes {
            left_out.push(format!("{name}: `cargo xtask test --long {needed}` runs it"));
        } else if lacks.is_empty() {
            let watch = Stopwatch::start();
            let done = conform(root, port, Profile::of_the_long_test(port))
                .with_context(|| format!("the agent of {name}"))?;
            say(&format!("{name}: {done} in {:.1} s", watch.elapsed().as_secs_f64()));
        } else {
            left_out.push(format!("{name}: no {}: `tests/real/ports/install {name}`", lacks.join(", no ")));
        }
    }
    Ok(left_out)
}

/// Builds the agent of a port.
fn build(root: &Path, port: &Port, profile: Profile) -> anyhow::Result<PathBuf> {
    let lacks = Tools::missing(port)?;
    ensure!(lacks.is_empty(), "no {}: `tests/real/ports/install {}`", lacks.join(", no "), port.name);
    let folder = target_folder(root)?;
    let mut build =
        cargo(root, &["build", "-p", "buildlet", "--bin", "buildlet", "--target", port.target()?]);
    build.args(["--profile", profile.name()]);
    Tools::compile(port, &mut build)?;
    succeed(&mut build, "cargo build")?;
    let name = if port.is_windows() { "buildlet.exe" } else { "buildlet" };
    let binary = folder.join(port.target()?).join(profile.folder()).join(name);
    profile.check(port, fs::metadata(&binary).context("look at the binary")?.len())?;
    Ok(binary)
}

/// Builds the agent of a port, and runs the conformance test with it.
fn conform(root: &Path, port: &Port, profile: Profile) -> anyhow::Result<String> {
    let (binary, folder) = (build(root, port, profile)?, target_folder(root)?);
    let mut test = cargo(root, &["test", "-p", "buildlet", "--test", "it"]);
    // The third conformance test measures memory, which an emulator has more of.
    test.args(["--", "conformance::an_agent_that"]);
    let runner = Tools::run(port, &binary, &folder, root, &mut test)?;
    let tested = succeed(&mut test, "the conformance test");
    runner.end();
    tested?;
    Ok(described("built and run", &binary, profile))
}

fn described(what: &str, binary: &Path, profile: Profile) -> String {
    let bytes = fs::metadata(binary).map_or(0, |found| found.len());
    format!("{what} ({}, {})", profile::mib(bytes), profile.words())
}

/// Type-checks the agent of a port.
fn check(root: &Path, port: &Port) -> anyhow::Result<String> {
    let lacks = Tools::missing(port)?;
    ensure!(lacks.is_empty(), "no {}: `tests/real/ports/install {}`", lacks.join(", no "), port.name);
    let mut check =
        cargo(root, &["check", "-p", "buildlet", "--bin", "buildlet", "--target", port.target()?]);
    Tools::leave_c_out(port, &target_folder(root)?, &mut check)?;
    succeed(&mut check, "cargo check")?;
    Ok("type-checked".to_owned())
}

fn cargo(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.arg(words[0]).args(["--locked", "--quiet"]).args(&words[1..]);
    command.current_dir(root).stdin(Stdio::null());
    command
}

fn succeed(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("run {what}"))?;
    ensure!(status.success(), "{what} fails");
    Ok(())
}

fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec();
    Ok(metadata.context("ask cargo for metadata")?.target_directory.into_std_path_buf())
}

/// Go may have come to know other ports than the list that is kept here.
fn compare_with_go() -> anyhow::Result<()> {
    let Ok(listed) = Command::new("go").args(["tool", "dist", "list"]).output() else {
        say("no `go` on the PATH: the list of its ports is taken as it is");
        return Ok(());
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    if listed.trim() != table::GO.trim() {
        bail!("Go has other ports now: put `go tool dist list` into crates/xtask/src/ports/go.txt");
    }
    Ok(())
}

/// rustc may have come to have a standard library for a port that had none.
fn compare_with_rust(ports: &[Port]) -> anyhow::Result<()> {
    let listed = tools::targets(&[])?;
    for port in ports.iter().filter(|port| port.how == How::None) {
        if port.target.as_ref().is_some_and(|target| listed.contains(target)) {
            bail!("rustc has a standard library for {} now: type-check it", port.name);
        }
    }
    Ok(())
}
