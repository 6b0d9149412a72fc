//! Follows builds to their end: their merged logs on standard output, where they stand on standard error.

use std::{cell::RefCell, collections::BTreeMap, io::Write, process::ExitCode, time::Duration};

use api::coordinator::{Build, ReadLogRequest, WatchBuildsRequest, watch_builds_response::Event};
use futures_util::{StreamExt, stream::FuturesUnordered};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tonic::Status;

use crate::{build, farm::Location, output};

/// How long a lost farm is asked again before the command gives up.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(300);

/// Follows builds until all have ended; the exit code is that of the worst.
pub(crate) async fn follow(farm: &Location, builds: Vec<Build>, json: bool) -> anyhow::Result<ExitCode> {
    if builds.is_empty() {
        return Err(output::usage(
            "policy builds nothing of this: name a builder with --builder, or use --all",
        ));
    }
    let screen = RefCell::new(Screen::new(&builds, json));
    for build in &builds {
        screen.borrow_mut().show(build)?;
    }
    let numbers: Vec<_> = builds.iter().map(|build| build.number).collect();
    let logs: FuturesUnordered<_> = numbers.iter().map(|number| log(farm, *number, &screen)).collect();
    let logs = async { if json { Ok(()) } else { all(logs).await } };
    let mut show = |build: &Build| screen.borrow_mut().show(build);
    let (ended, logs) = tokio::join!(watch(farm, &numbers, &mut show), logs);
    let ended = ended?;
    logs?;
    screen.into_inner().finish(farm, &ended)
}

async fn all(mut logs: FuturesUnordered<impl Future<Output = anyhow::Result<()>>>) -> anyhow::Result<()> {
    while let Some(result) = logs.next().await {
        result?;
    }
    Ok(())
}

/// Waits until every build has ended, and says nothing.
pub(crate) async fn wait(farm: &Location, numbers: &[u64]) -> anyhow::Result<Vec<Build>> {
    watch(farm, numbers, &mut |_| Ok(())).await
}

/// Watches until every build has ended, through restarts of the farm.
async fn watch(
    farm: &Location,
    numbers: &[u64],
    show: &mut impl FnMut(&Build) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Build>> {
    let mut ended = BTreeMap::new();
    let mut patience = Patience::default();
    while ended.len() < numbers.len() {
        let wanted = numbers.iter().copied().filter(|number| !ended.contains_key(number)).collect();
        let result = watch_once(farm, wanted, show, &mut ended, &mut patience).await;
        if let Err(status) = result {
            patience.after(&status).await?;
        }
    }
    Ok(ended.into_values().collect())
}

async fn watch_once(
    farm: &Location,
    numbers: Vec<u64>,
    show: &mut impl FnMut(&Build) -> anyhow::Result<()>,
    ended: &mut BTreeMap<u64, Build>,
    patience: &mut Patience,
) -> Result<(), Status> {
    let mut left = numbers.len();
    let mut stream = client(farm)?.watch_builds(WatchBuildsRequest { numbers }).await?.into_inner();
    while let Some(response) = stream.message().await? {
        patience.renew();
        let Some(Event::Build(build)) = response.event else { continue };
        show(&build).map_err(|error| local(&error))?;
        if build.ended.is_some() && ended.insert(build.number, build).is_none() {
            left -= 1;
        }
        if left == 0 {
            return Ok(());
        }
    }
    Err(Status::unavailable("the stream ended"))
}

/// Copies the merged log of one build, from where it broke after a restart of the farm.
async fn log(farm: &Location, number: u64, screen: &RefCell<Screen>) -> anyhow::Result<()> {
    let mut offset = 0;
    let mut patience = Patience::default();
    loop {
        match log_once(farm, number, &mut offset, screen, &mut patience).await {
            Ok(()) => return screen.borrow_mut().log_end(number),
            Err(status) => patience.after(&status).await?,
        }
    }
}

async fn log_once(
    farm: &Location,
    number: u64,
    offset: &mut u64,
    screen: &RefCell<Screen>,
    patience: &mut Patience,
) -> Result<(), Status> {
    let request = ReadLogRequest { number, attempt: 0, offset: *offset, follow: true, limit: 0 };
    let mut stream = client(farm)?.read_log(request).await?.into_inner();
    while let Some(piece) = stream.message().await? {
        patience.renew();
        screen.borrow_mut().log(number, &piece.data).map_err(|error| local(&error))?;
        *offset = piece.offset + piece.data.len() as u64;
    }
    Ok(())
}

fn client(
    farm: &Location,
) -> Result<api::coordinator::build_service_client::BuildServiceClient<rpc::Channel>, Status> {
    farm.builds().map_err(|error| local(&error))
}

/// An error of ours in the clothes of a status, so that one type passes through.
fn local(error: &anyhow::Error) -> Status {
    Status::internal(format!("{error:#}"))
}

/// How long the farm may be away.
#[derive(Default)]
pub(crate) struct Patience {
    lost: Option<tokio::time::Instant>,
}

impl Patience {
    /// The farm is there.
    pub(crate) fn renew(&mut self) {
        self.lost = None;
    }

    /// Waits a little after a lost connection; gives up on other errors, and after a minute.
    pub(crate) async fn after(&mut self, status: &Status) -> anyhow::Result<()> {
        let now = tokio::time::Instant::now();
        let lost = *self.lost.get_or_insert(now);
        if !rpc::is_transient(status) || now - lost > PATIENCE {
            return Err(output::refused(status));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// Everything that is printed while builds run.
struct Screen {
    json: bool,
    live: Option<MultiProgress>,
    bars: BTreeMap<u64, ProgressBar>,
    shown: BTreeMap<u64, String>,
    /// With several builds each line of a log begins with its builder's name; the rest of a line waits here.
    prefixes: BTreeMap<u64, (String, Vec<u8>)>,
}

impl Screen {
    fn new(builds: &[Build], json: bool) -> Self {
        let live = (output::is_live() && !json).then(MultiProgress::new);
        let width = builds.iter().map(|build| build.builder.len()).max().unwrap_or(0);
        let prefixes = match builds {
            [_] => BTreeMap::new(),
            _ => builds
                .iter()
                .map(|build| (build.number, (format!("{:width$} │ ", build.builder), Vec::new())))
                .collect(),
        };
        Self { json, live, bars: BTreeMap::new(), shown: BTreeMap::new(), prefixes }
    }

    fn show(&mut self, build: &Build) -> anyhow::Result<()> {
        if self.json {
            return output::line(build::build_json(build).to_string());
        }
        let text = build::headline(build);
        match &self.live {
            Some(live) => {
                let bar = self.bars.entry(build.number).or_insert_with(|| bar(live));
                bar.set_length(u64::from(build.shards_total.max(1)));
                bar.set_position(u64::from(build.shards_done));
                bar.set_message(line_of(build));
                if build.ended.is_some() {
                    bar.finish_and_clear();
                }
            }
            None => self.event(build, &text),
        }
        Ok(())
    }

    /// Not on a terminal: one line for each change of state, with the time.
    #[expect(clippy::print_stderr, reason = "progress of a command line goes there")]
    fn event(&mut self, build: &Build, text: &str) {
        let state = output::state(build).1;
        if self.shown.insert(build.number, state.clone()).is_none_or(|before| before != state) {
            eprintln!("{} {text}", output::time_of_day());
        }
    }

    fn log(&mut self, number: u64, data: &[u8]) -> anyhow::Result<()> {
        let text = match self.prefixes.get_mut(&number) {
            None => data.to_vec(),
            Some((prefix, rest)) => prefixed(prefix, rest, data),
        };
        self.print(&text)
    }

    fn log_end(&mut self, number: u64) -> anyhow::Result<()> {
        let Some((prefix, rest)) = self.prefixes.get_mut(&number) else { return Ok(()) };
        let text = if rest.is_empty() { Vec::new() } else { prefixed(prefix, rest, b"\n") };
        self.print(&text)
    }

    fn print(&self, text: &[u8]) -> anyhow::Result<()> {
        let write = || std::io::stdout().lock().write_all(text);
        match &self.live {
            Some(live) => live.suspend(write)?,
            None => write()?,
        }
        Ok(())
    }

    /// The verdict, and where to see more.
    #[expect(clippy::print_stderr, reason = "progress of a command line goes there")]
    fn finish(self, farm: &Location, ended: &[Build]) -> anyhow::Result<ExitCode> {
        std::io::stdout().flush()?;
        if !self.json {
            for build in ended {
                eprintln!("{}  {}{}", build::headline(build), farm.url, build.page);
            }
        }
        // A failure of the code says more than a fault of the farm: it will not go away.
        let codes: Vec<_> = ended.iter().map(|build| output::code(build.outcome())).collect();
        let worst = [output::FAILED, output::INFRASTRUCTURE].into_iter().find(|code| codes.contains(code));
        Ok(ExitCode::from(worst.unwrap_or(0)))
    }
}

fn bar(live: &MultiProgress) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {bar:20.green/dim} {elapsed}");
    let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    live.add(bar)
}

fn line_of(build: &Build) -> String {
    let state = build.waits_for.as_ref().map_or_else(|| output::state(build).1, |wait| wait.text.clone());
    format!("{} ({}) {state}", build.builder, build.number)
}

/// Whole lines with their prefix; what is left of the last line stays in `rest`.
fn prefixed(prefix: &str, rest: &mut Vec<u8>, data: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(data.len() + 64);
    for piece in data.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            text.extend_from_slice(prefix.as_bytes());
            text.append(rest);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_get_a_prefix() {
        let mut rest = Vec::new();
        assert_eq!(prefixed("a │ ", &mut rest, b"one\ntw"), "a │ one\n".as_bytes());
        assert_eq!(prefixed("a │ ", &mut rest, b"o\n"), "a │ two\n".as_bytes());
        assert!(rest.is_empty());
    }
}
