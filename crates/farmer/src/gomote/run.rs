//! Commands on sessions: their output as it comes, again and again until it matches, and what they leave.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use api::coordinator::{
    CancelCommandRequest, CommandEnd, Session, SessionVariable, StartCommandRequest, WatchCommandRequest,
    command_end::How, watch_command_response::Event,
};
use regex::bytes::Regex;

use super::{
    Client, Targets,
    cli::{Common, RunArgs},
    each, files, say,
};
use crate::{output, progress::Patience};

/// How long a call that ends a command may take.
const CANCEL: std::time::Duration = std::time::Duration::from_secs(40);

/// What is to be run.
#[derive(Debug, Clone, Default)]
struct Wanted {
    argv: Vec<String>,
    environment: Vec<(String, String)>,
    folder: String,
    bare: bool,
    timeout: Option<std::time::Duration>,
    until: Option<Regex>,
    /// The output goes to standard output too.
    shown: bool,
}

/// Runs `farmer gomote run`.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut targets = args.common.targets(args.words).await?;
    let argv = std::mem::take(&mut targets.words);
    if argv.is_empty() {
        return Err(output::usage("say what to run"));
    }
    let mut environment = args.environment;
    if !args.path.is_empty() {
        environment.push(("PATH".to_owned(), format!("{}:$PATH", args.path.join(":"))));
    }
    let wanted = Wanted {
        argv,
        environment,
        folder: args.dir.unwrap_or_default(),
        bare: args.bare,
        timeout: args.timeout,
        until: args.until,
        shown: targets.sessions.len() == 1,
    };
    execute(&targets, wanted, args.collect).await
}

/// Runs a shell command.
pub(super) async fn shell(targets: &Targets, script: &str) -> anyhow::Result<ExitCode> {
    let argv = ["sh", "-ec", script].map(str::to_owned).to_vec();
    execute(targets, Wanted { argv, shown: targets.sessions.len() == 1, ..Wanted::default() }, false).await
}

async fn execute(targets: &Targets, wanted: Wanted, collect: bool) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("gomote-").tempdir().context("make a temporary folder")?;
    let file = |session: &Session| folder.path().join(format!("{}.stdout", session.name));
    let ends = each(targets, |client, session| {
        let (wanted, file) = (wanted.clone(), file(&session));
        async move { one((&targets.common, client), &session, &wanted, &file).await }
    })
    .await;
    let ends = ends?;
    // What one session printed was shown, and is kept only if something is to be found out about it.
    let well = wanted.shown && ends.iter().all(|end| judge(end).0 == 0);
    let kept = (!well).then(|| folder.path().to_owned());
    if let Some(kept) = &kept {
        say(format!("the output is in {}", kept.display()));
    }
    let mut code = 0;
    for (session, end) in targets.sessions.iter().zip(&ends) {
        let (failed, words) = judge(end);
        if failed > 0 || !wanted.shown {
            say(format!("{}: {words}", session.name));
        }
        code = code.max(failed);
        if collect {
            let kept = PathBuf::from(format!("{}.stdout", session.name));
            std::fs::copy(folder.path().join(&kept), &kept)
                .with_context(|| format!("write `{}`", kept.display()))?;
            let tree = PathBuf::from(format!("{}.tar.zst", session.name));
            files::save_tree(&targets.client, &session.name, "", &tree).await?;
            say(format!("saved {} and {}", kept.display(), tree.display()));
        }
    }
    if kept.is_some() {
        let _ = folder.keep();
    }
    Ok(ExitCode::from(code))
}

/// The exit code of how a command ended, and words for it.
fn judge(end: &CommandEnd) -> (u8, String) {
    match &end.how {
        Some(How::ExitCode(0)) => (0, "done".to_owned()),
        Some(How::ExitCode(code)) => (output::FAILED, format!("exit status {code}")),
        Some(How::Signal(signal)) => (output::FAILED, format!("ended by signal {signal}")),
        Some(How::NotStarted(why)) => (output::FAILED, format!("it could not be started: {why}")),
        Some(How::Stopped(why)) => (output::INFRASTRUCTURE, format!("the farm ended it: {why}")),
        None => (output::INFRASTRUCTURE, "it ended in no known way".to_owned()),
    }
}

/// Runs a command to its end, and again until its output matches.
async fn one(
    (common, mut client): (&Common, Client),
    session: &Session,
    wanted: &Wanted,
    file: &Path,
) -> anyhow::Result<CommandEnd> {
    let mut runs = 0_u64;
    loop {
        runs += 1;
        let end = once(common, &mut client, session, (wanted, file)).await?;
        let Some(until) = &wanted.until else { return Ok(end) };
        let output = std::fs::read(file).with_context(|| format!("read `{}`", file.display()))?;
        let stopped = !matches!(end.how, Some(How::ExitCode(_) | How::Signal(_)));
        if until.is_match(&output) || stopped {
            say(format!("{}: run {runs} matches", session.name));
            return Ok(end);
        }
    }
}

async fn once(
    common: &Common,
    client: &mut Client,
    session: &Session,
    (wanted, file): (&Wanted, &Path),
) -> anyhow::Result<CommandEnd> {
    let command_id = runtime::new_id().to_string();
    let mut sink = Sink {
        file: std::fs::File::create(file).with_context(|| format!("write `{}`", file.display()))?,
        shown: wanted.shown,
        offset: 0,
    };
    let mut way = client.clone();
    let follow = follow(common, client, session, (wanted, &command_id), &mut sink);
    tokio::select! {
        end = follow => end,
        _ = tokio::signal::ctrl_c() => {
            say(format!("{}: called off", session.name));
            let request = CancelCommandRequest { session: session.name.clone(), command_id };
            common.again(&mut way);
            let cancelled = way.cancel_command(rpc::with_deadline(request, CANCEL)).await;
            cancelled.map_err(|status| output::refused(&status))?;
            Ok(CommandEnd { how: Some(How::Stopped("it was called off".to_owned())), ..CommandEnd::default() })
        }
    }
}

/// Starts a command and follows it, from where it broke when a connection is lost or the farm is started again.
async fn follow(
    common: &Common,
    client: &mut Client,
    session: &Session,
    (wanted, command_id): (&Wanted, &str),
    sink: &mut Sink,
) -> anyhow::Result<CommandEnd> {
    let variable =
        |(name, value): &(String, String)| SessionVariable { name: name.clone(), value: value.clone() };
    let start = StartCommandRequest {
        session: session.name.clone(),
        command_id: command_id.to_owned(),
        argv: wanted.argv.clone(),
        environment: wanted.environment.iter().map(variable).collect(),
        folder: wanted.folder.clone(),
        timeout: wanted.timeout.map(rpc::duration),
        bare: wanted.bare,
    };
    let mut patience = Patience::default();
    while let Err(status) = client.start_command(rpc::request(start.clone())).await {
        patience.after(&status).await?;
        common.again(client);
    }
    let mut patience = Patience::default();
    loop {
        match watch(client, session, command_id, sink, &mut patience).await {
            Ok(end) => return Ok(end),
            Err(status) => patience.after(&status).await?,
        }
        common.again(client);
    }
}

async fn watch(
    client: &Client,
    session: &Session,
    command_id: &str,
    sink: &mut Sink,
    patience: &mut Patience,
) -> Result<CommandEnd, tonic::Status> {
    let request = WatchCommandRequest {
        session: session.name.clone(),
        command_id: command_id.to_owned(),
        offset: sink.offset,
    };
    let mut stream = client.clone().watch_command(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        patience.renew();
        match answer.event {
            Some(Event::Output(output)) => {
                let write = sink.write(&output.data);
                write.map_err(|error| tonic::Status::internal(format!("write the output: {error}")))?;
            }
            Some(Event::End(end)) => return Ok(end),
            None => {}
        }
    }
    Err(tonic::Status::unavailable("the stream ended"))
}

/// Where output goes.
struct Sink {
    file: std::fs::File,
    shown: bool,
    offset: u64,
}

impl Sink {
    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.file.write_all(data)?;
        if self.shown {
            let mut out = std::io::stdout().lock();
            out.write_all(data)?;
            out.flush()?;
        }
        self.offset += data.len() as u64;
        Ok(())
    }
}
