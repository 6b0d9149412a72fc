//! What `farmer up` prints while it runs: one line with the address, then where builds stand.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use api::coordinator::{Build, WatchBuildsRequest, watch_builds_response::Event};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::Tasks;
use tonic::Status;

use super::{data::DataFolder, farm_file::Wanted};
use crate::{build, cli::FarmArgs, farm::Location, output};

/// The pause after a lost stream.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints the address and begins to follow builds.
pub(crate) fn start(wanted: &Wanted, url: &str, data: &DataFolder, tasks: &Tasks) -> anyhow::Result<()> {
    let names: Vec<_> = wanted.farm.repositories.iter().map(|repository| repository.name.as_str()).collect();
    output::line(format!("farm of {} at {url}", names.join(", ")))?;
    std::io::stdout().flush()?;
    let args = FarmArgs { data: Some(data.root().to_owned()), farm: None, token_file: None, json: false };
    let location = Location::find(&args)?;
    let shutdown = tasks.shutdown();
    tasks.service("status", async move {
        let mut screen = Screen::new();
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                result = follow(&location, &mut screen) => {
                    if let Err(status) = result {
                        tracing::debug!("lost sight of the builds: {status}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        screen.close();
        Ok(())
    });
    Ok(())
}

async fn follow(location: &Location, screen: &mut Screen) -> Result<(), Status> {
    let mut client = location.builds().map_err(|error| Status::internal(format!("{error:#}")))?;
    let mut stream = client.watch_builds(WatchBuildsRequest { numbers: Vec::new() }).await?.into_inner();
    while let Some(response) = stream.message().await? {
        if let Some(Event::Build(build)) = response.event {
            screen.show(&build);
        }
    }
    Ok(())
}

/// A line for each build that ended and, on a terminal, one that says what goes on.
struct Screen {
    bar: Option<ProgressBar>,
    active: BTreeMap<u64, Build>,
    passed: u64,
    others: u64,
}

impl Screen {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let screen = Self { bar, active: BTreeMap::new(), passed: 0, others: 0 };
        screen.draw();
        screen
    }

    fn show(&mut self, build: &Build) {
        if build.ended.is_none() {
            self.active.insert(build.number, build.clone());
        } else {
            self.active.remove(&build.number);
            let counter =
                if output::code(build.outcome()) == 0 { &mut self.passed } else { &mut self.others };
            *counter += 1;
            self.say(&build::headline(build));
        }
        self.draw();
    }

    #[expect(clippy::print_stderr, reason = "progress of a command line goes there")]
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let running = self.active.values().filter(|build| build.started.is_some()).count();
        let waiting = self.active.len() - running;
        let first = self.active.values().find(|build| build.started.is_some());
        let what =
            first.map(|build| format!(" · {} ({}) {}", build.builder, build.number, output::phase(build)));
        let what = what.unwrap_or_default();
        bar.set_message(format!(
            "{running} running · {waiting} waiting · {} passed · {} not{what}",
            self.passed, self.others
        ));
        bar.tick();
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
