//! `farmer logs`: the merged log of a build; logs of many builds, fetched into a folder or searched.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use api::coordinator::{Build, ListBuildsRequest, Outcome, ReadLogRequest};
use base64::Engine as _;
use serde_json::json;

use crate::{build::short, cli::FarmArgs, farm::Location, output, progress::Patience};

/// A line is cut here when it is searched, so that a log of one endless line costs little.
const LONGEST_LINE: usize = 64 << 10;

/// Arguments of `farmer logs`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    /// The build
    #[arg(required = true)]
    number: Option<u64>,
    /// The attempt [default: the last]
    #[arg(long)]
    attempt: Option<u32>,
    /// Go on until the build ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    farm: FarmArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write logs of builds to files of a folder
    Fetch(FetchArgs),
    /// Print the lines of logs that contain a text; the exit code is 1 if none does
    Grep(GrepArgs),
}

/// Which builds.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only of this builder
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Only of this commit, its first 7 digits or more
    #[arg(long)]
    commit: Option<String>,
    /// Only those that failed
    #[arg(long)]
    failed: bool,
    /// How many at the most, the newest first
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct FetchArgs {
    /// The folder; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct GrepArgs {
    /// The text
    text: String,
    /// Small and capital letters are the same
    #[arg(long, short)]
    ignore_case: bool,
    /// Only say which builds
    #[arg(long, short = 'l')]
    builds: bool,
    #[command(flatten)]
    which: Which,
}

/// Runs `farmer logs`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(Command::Fetch(args)) => return fetch(args).await,
        Some(Command::Grep(args)) => return grep(args).await,
        None => {}
    }
    let farm = args.farm.location()?;
    let mut position = 0;
    let mut patience = Patience::default();
    loop {
        let request = ReadLogRequest {
            number: args.number.unwrap_or_default(),
            attempt: args.attempt.unwrap_or(0),
            offset: position,
            follow: args.follow,
            limit: 0,
        };
        // A broken stream is taken up where it broke.
        match copy(&farm, request, &mut position, args.farm.json).await {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(status) => patience.after(&status).await?,
        }
    }
}

async fn copy(
    farm: &Location,
    request: ReadLogRequest,
    position: &mut u64,
    json: bool,
) -> Result<(), tonic::Status> {
    let local = |error: anyhow::Error| tonic::Status::internal(format!("{error:#}"));
    let mut stream = farm.builds().map_err(local)?.read_log(request).await?.into_inner();
    while let Some(piece) = stream.message().await? {
        print(piece.offset, &piece.data, json).map_err(local)?;
        *position = piece.offset + piece.data.len() as u64;
    }
    Ok(())
}

fn print(offset: u64, data: &[u8], json: bool) -> anyhow::Result<()> {
    if !json {
        return Ok(std::io::stdout().lock().write_all(data)?);
    }
    let piece = if let Ok(text) = std::str::from_utf8(data) {
        json!({ "offset": offset, "text": text })
    } else {
        json!({ "offset": offset, "base64": base64::engine::general_purpose::STANDARD.encode(data) })
    };
    output::line(piece.to_string())
}

impl Which {
    /// The builds that have begun and ended, the newest first.
    async fn list(&self, farm: &Location) -> anyhow::Result<Vec<Build>> {
        let request = ListBuildsRequest {
            page_size: self.limit.cast_signed(),
            page_token: String::new(),
            builder: self.builder.clone().unwrap_or_default(),
            commit: self.commit.clone().unwrap_or_default(),
            outcome: if self.failed { Outcome::Failed.into() } else { Outcome::Unspecified.into() },
            active: false,
        };
        let listed = farm.builds()?.list_builds(rpc::request(request)).await;
        let listed = listed.map_err(|status| output::refused(&status))?.into_inner();
        Ok(listed.builds.into_iter().filter(|build| build.ended.is_some()).collect())
    }
}

/// Reads the log of a build, piece by piece.
async fn each_piece(
    farm: &Location,
    number: u64,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut client = farm.builds()?;
    let request = ReadLogRequest { number, ..ReadLogRequest::default() };
    let stream = client.read_log(request).await.map_err(|status| output::refused(&status))?;
    let mut stream = stream.into_inner();
    while let Some(piece) = stream.message().await.map_err(|status| output::refused(&status))? {
        take(&piece.data)?;
    }
    Ok(())
}

async fn fetch(args: FetchArgs) -> anyhow::Result<ExitCode> {
    let farm = args.which.farm.location()?;
    std::fs::create_dir_all(&args.to).with_context(|| format!("make `{}`", args.to.display()))?;
    for build in args.which.list(&farm).await? {
        let name = format!("{}-{}-{}.log", build.number, build.builder, short(&build.commit));
        let path = args.to.join(name);
        let wrote = || format!("write `{}`", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(wrote)?);
        each_piece(&farm, build.number, |data| file.write_all(data).with_context(wrote)).await?;
        file.flush().with_context(wrote)?;
        if args.which.farm.json {
            output::line(json!({ "build": build.number, "file": path }).to_string())?;
        } else {
            output::line(path.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn grep(args: GrepArgs) -> anyhow::Result<ExitCode> {
    let farm = args.which.farm.location()?;
    let wanted = Wanted::new(&args.text, args.ignore_case);
    let mut any = false;
    for build in args.which.list(&farm).await? {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut take = |number: u64, line: &[u8]| {
            if wanted.is_in(line) {
                found.push((number, String::from_utf8_lossy(line).into_owned()));
            }
        };
        each_piece(&farm, build.number, |data| {
            lines.push(data, &mut take);
            Ok(())
        })
        .await?;
        lines.end(&mut take);
        any |= !found.is_empty();
        show(&build, &found, &args)?;
    }
    Ok(if any { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
}

fn show(build: &Build, found: &[(u64, String)], args: &GrepArgs) -> anyhow::Result<()> {
    if args.builds && !found.is_empty() {
        let one = json!({ "build": build.number, "builder": build.builder, "lines": found.len() });
        let text = format!("{}  {}  {} lines", build.number, build.builder, found.len());
        return output::line(if args.which.farm.json { one.to_string() } else { text });
    }
    for (line, text) in found {
        output::line(if args.which.farm.json {
            json!({ "build": build.number, "builder": build.builder, "line": line, "text": text }).to_string()
        } else {
            format!("{}:{line}: {text}", build.number)
        })?;
    }
    Ok(())
}

/// A text that is looked for.
struct Wanted {
    text: Vec<u8>,
    ignore_case: bool,
}

impl Wanted {
    fn new(text: &str, ignore_case: bool) -> Self {
        let text = if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        Self { text: text.into_bytes(), ignore_case }
    }

    fn is_in(&self, line: &[u8]) -> bool {
        let lowered;
        let line = if self.ignore_case {
            lowered = line.to_ascii_lowercase();
            &lowered
        } else {
            line
        };
        self.text.is_empty() || line.windows(self.text.len()).any(|window| window == self.text)
    }
}

/// Bytes as lines with their numbers, from 1. Lines may be broken over pieces; what is beyond a bound is left out.
#[derive(Default)]
struct Lines {
    number: u64,
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, data: &[u8], take: &mut impl FnMut(u64, &[u8])) {
        let mut parts = data.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LONGEST_LINE.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                self.number += 1;
                take(self.number, &self.rest);
                self.rest.clear();
            }
        }
    }

    fn end(&mut self, take: &mut impl FnMut(u64, &[u8])) {
        if !self.rest.is_empty() {
            take(self.number + 1, &self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_broken_over_pieces_are_whole_and_counted() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut take =
            |number: u64, line: &[u8]| seen.push((number, String::from_utf8_lossy(line).into_owned()));
        for piece in ["one\ntw", "o\n\nfo", "ur"] {
            lines.push(piece.as_bytes(), &mut take);
        }
        lines.end(&mut take);
        let told: Vec<_> = seen.iter().map(|(number, line)| (*number, line.as_str())).collect();
        assert_eq!(told, [(1, "one"), (2, "two"), (3, ""), (4, "four")]);
    }

    #[test]
    fn capitals_count_unless_told_otherwise() {
        assert!(!Wanted::new("fail", false).is_in(b"--- FAIL: x"));
        assert!(Wanted::new("fail", true).is_in(b"--- FAIL: x"));
        assert!(!Wanted::new("longer than the line", true).is_in(b"line"));
    }
}
