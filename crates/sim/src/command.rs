//! What commands do: what they write, how long they take, how they end. By the tree that they run on.

use std::time::Duration;

use buildlet_client::{EndedByUs, Error, ExecSpec, How};
use bytes::Bytes;
use store::Blobs;
use types::CommitHash;

use crate::{
    project::{Tree, Verdict},
    world::World,
};

/// How the output of a make step begins.
pub(crate) const MAKING: &[u8] = b"making ";

/// A command in advance.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) output: Bytes,
    pub(crate) millis: u64,
    pub(crate) how: How,
}

impl Default for Script {
    fn default() -> Self {
        Self { output: Bytes::new(), millis: 10, how: How::Exited(0) }
    }
}

/// A tree that was fetched.
pub(crate) struct Tarball {
    pub(crate) name: String,
    /// It is what make left.
    pub(crate) made: bool,
}

fn script(text: String, millis: u64, verdict: Verdict, timeout: Option<Duration>) -> Script {
    let limit = timeout.map_or(u64::MAX, |timeout| timeout.as_millis() as u64);
    let (millis, how) = match verdict {
        _ if millis > limit => (limit, How::Ended(EndedByUs::TimedOut)),
        Verdict::Passes | Verdict::Flakes => (millis, How::Exited(0)),
        Verdict::Fails => (millis, How::Exited(1)),
        Verdict::Hangs => (limit.min(3_600_000), How::Ended(EndedByUs::TimedOut)),
    };
    Script { output: text.into_bytes().into(), millis, how }
}

/// What a command does. The error says what is wrong with the folder that it runs in.
pub(crate) fn of(
    world: &World,
    spec: &ExecSpec,
    made: Option<&str>,
    from: Option<&str>,
    luck: u64,
) -> Result<Script, String> {
    let variable = |name: &str| {
        let found = spec.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let commit: CommitHash =
        variable("FARMER_COMMIT").parse().map_err(|_| "no commit is named".to_owned())?;
    let known = world.project.find(commit).ok_or("the commit is not of this world")?;
    let (tree, name): (&Tree, &str) = (&known.tree, &known.tree_name);
    let text = spec.argv.last().map(String::as_str).unwrap_or_default();
    let expect = |found: Option<&str>, what: &str| {
        let right = found == Some(name);
        let said = || format!("build {} found {found:?} {what}, and not {name}", variable("FARMER_BUILD"));
        if right { Ok(()) } else { Err(said()) }
    };
    if text.contains("simulate make") {
        expect(from, "unpacked")?;
        let said = format!("making {name}\n{}", "compiling\n".repeat(60));
        return Ok(script(said, tree.make_millis, tree.make, spec.timeout));
    }
    expect(made, "made")?;
    if text.contains("simulate list") {
        let names: Vec<&str> = tree.tests.iter().map(|test| test.name.as_str()).collect();
        return Ok(script(names.join("\n"), 50, tree.list, spec.timeout));
    }
    let names = String::from_utf8_lossy(&spec.stdin);
    let names: Vec<&str> = names.lines().collect();
    let (millis, said, verdict) = tree.run(&names, luck);
    Ok(script(said, millis, verdict, spec.timeout))
}

/// What is behind a URL.
pub(crate) async fn fetched(world: &World, url: &str) -> Result<Tarball, Error> {
    if let Some(archive) = url.strip_prefix("gitmirror/archive/") {
        if world.context.weather().mirror_down > 0 {
            return Err(Error::FetchFailed("gitmirror does not run".to_owned()));
        }
        let commit =
            archive.rsplit('/').next().and_then(|name| name.strip_suffix(".tar")).unwrap_or_default();
        let made = commit.parse().ok().and_then(|commit| world.project.find(commit));
        let made = made.filter(|made| !made.vanished);
        let made = made.ok_or_else(|| Error::FetchRefused("there is no such commit".to_owned()))?;
        return Ok(Tarball { name: made.tree_name, made: false });
    }
    let key = url.strip_prefix("coordinator/snapshot/").and_then(|name| name.strip_suffix(".tar.zst"));
    if world.seat.coordinator().is_none() {
        return Err(Error::FetchFailed("the coordinator does not run".to_owned()));
    }
    let name = format!("snapshots/{}.tar.zst", key.unwrap_or_default());
    let bytes = world.blobs.read(&name, 0..1000).await;
    let bytes = bytes.map_err(|_| Error::FetchRefused("there is no such snapshot".to_owned()))?;
    Ok(Tarball { name: String::from_utf8_lossy(&bytes).into_owned(), made: true })
}
