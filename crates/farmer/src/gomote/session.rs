//! Sessions come, are listed, renewed and given back.

use std::{process::ExitCode, time::Duration};

use api::coordinator::{
    CreateSessionRequest, CreateSessionResponse, DestroySessionRequest, ExtendSessionRequest,
    ListBuildersRequest, Session, SessionState, WatchSessionRequest,
};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    Client, Targets,
    cli::{CreateArgs, DestroyArgs, ExtendArgs, ListArgs, NewArgs, PingArgs, ReproArgs},
    each, owner, push, run, say, sessions,
};
use crate::{cli::FarmArgs, machine::instant, output, progress::Patience};

/// Runs `farmer gomote create`.
pub(super) async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let Some(name) = &args.name else { return list_kinds(&args.new.common.farm).await };
    let client = args.new.common.client()?;
    let request = if args.host {
        CreateSessionRequest { host_type: name.clone(), ..CreateSessionRequest::default() }
    } else {
        CreateSessionRequest { builder: name.clone(), ..CreateSessionRequest::default() }
    };
    let mut made = Vec::new();
    for _ in 0..args.count {
        made.push(ask(&client, request.clone(), &args.new).await?.session.unwrap_or_default());
    }
    if !args.new.no_wait {
        let common = args.new.common.clone();
        let targets = Targets { common, client, sessions: made, words: Vec::new() };
        let ready = each(&targets, wait).await?;
        if let Some(setup) = &args.setup {
            let targets = Targets { sessions: ready.clone(), ..targets };
            push::push(&targets, &push::Wanted::default()).await?;
            let code = run::shell(&targets, setup).await?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
        made = ready;
    }
    for session in &made {
        show(&args.new.common.farm, session, &session.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `farmer gomote repro`.
pub(super) async fn repro(args: ReproArgs) -> anyhow::Result<ExitCode> {
    if args.new.no_wait {
        let client = args.new.common.client()?;
        let asked = ask(&client, like(&args.build), &args.new).await?;
        let session = asked.session.unwrap_or_default();
        show(&args.new.common.farm, &session, &session.name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Reproduced { targets, command, made } = reproduce(&args.build, &args.new).await?;
    if made != ExitCode::SUCCESS {
        return Ok(made);
    }
    if args.run {
        return run::shell(&targets, &command).await;
    }
    for session in &targets.sessions {
        show(&args.new.common.farm, session, &session.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A session like the machine on which something failed.
pub(super) struct Reproduced {
    /// The one session.
    pub(super) targets: Targets,
    /// What failed there.
    command: String,
    /// How make fared, where it was made again.
    made: ExitCode,
}

fn like(build: &str) -> CreateSessionRequest {
    CreateSessionRequest { build: build.to_owned(), ..CreateSessionRequest::default() }
}

/// Makes a session like the machine on which a build, attempt or shard failed, with what was on it, and says what there is.
pub(super) async fn reproduce(build: &str, new: &NewArgs) -> anyhow::Result<Reproduced> {
    let client = new.common.client()?;
    let CreateSessionResponse { session, command, make } = ask(&client, like(build), new).await?;
    let session = wait(client.clone(), session.unwrap_or_default()).await?;
    say(format!("{} has {}", session.name, session.found));
    let common = new.common.clone();
    let targets = Targets { common, client, sessions: vec![session.clone()], words: Vec::new() };
    let mut made = ExitCode::SUCCESS;
    if !session.made && !make.is_empty() && make != command {
        say("it is made again, as the build did");
        made = run::shell(&targets, &make).await?;
        if made != ExitCode::SUCCESS {
            say(format!("make failed; the machine is yours: farmer gomote run {} sh", session.name));
            return Ok(Reproduced { targets, command, made });
        }
    }
    say(format!("what ran there as {}:\n\n{}\n", session.repeats, command.trim_end()));
    Ok(Reproduced { targets, command, made })
}

/// Asks for a session; a call that was lost is repeated and makes no second one.
async fn ask(
    client: &Client,
    mut request: CreateSessionRequest,
    new: &NewArgs,
) -> anyhow::Result<CreateSessionResponse> {
    request.request_id = runtime::new_id().to_string();
    request.owner = owner(new.owner.clone());
    request.group = new.common.group.clone().unwrap_or_default();
    request.idle_timeout = Some(rpc::duration(new.idle));
    let mut patience = Patience::default();
    loop {
        match client.clone().create_session(rpc::request(request.clone())).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => patience.after(&status).await?,
        }
    }
}

/// Waits until a session has its machine, and says what it waits for.
pub(super) async fn wait(client: Client, session: Session) -> anyhow::Result<Session> {
    let mut patience = Patience::default();
    let mut told = String::new();
    loop {
        match watch(&client, &session, &mut told).await {
            Ok(ready) => return ready,
            Err(status) => patience.after(&status).await?,
        }
    }
}

async fn watch(
    client: &Client,
    session: &Session,
    told: &mut String,
) -> Result<anyhow::Result<Session>, tonic::Status> {
    let request = WatchSessionRequest { name: session.name.clone() };
    let mut stream = client.clone().watch_session(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        let Some(seen) = answer.session.filter(|seen| seen.id == session.id) else { break };
        match seen.state() {
            SessionState::Ready => return Ok(Ok(seen)),
            SessionState::Ended => {
                let ended = format!("session `{}` has ended: {}", seen.name, seen.reason);
                return Ok(Err(output::infrastructure(ended)));
            }
            _ => {}
        }
        let words = match &seen.waits_for {
            Some(wait) => format!("{} waits, place {}: {}", seen.name, seen.position, wait.text),
            None => format!("{} is made ready on {}", seen.name, seen.machine),
        };
        if words != *told {
            say(&words);
            *told = words;
        }
    }
    Err(tonic::Status::unavailable("the stream ended"))
}

/// Runs `farmer gomote list`.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.client()?;
    let group = args.common.group.clone().unwrap_or_default();
    let all = sessions(&client, &args.owner.unwrap_or_default(), &group).await?;
    if args.common.farm.json {
        for session in &all {
            output::line(session_json(session).to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["session", "state", "machine", "kind", "group", "ends unless used"]);
    for session in &all {
        table.add_row([
            session.name.clone(),
            word(session.state()).to_owned(),
            session.machine.clone(),
            kind(session),
            session.group.clone(),
            left(session),
        ]);
    }
    output::line(table.trim_fmt())?;
    Ok(ExitCode::SUCCESS)
}

/// What a session can be made of.
async fn list_kinds(farm: &FarmArgs) -> anyhow::Result<ExitCode> {
    let answer = farm.location()?.farms()?.list_builders(rpc::request(ListBuildersRequest {})).await;
    let answer = answer.map_err(|status| output::refused(&status))?.into_inner();
    let machines =
        |host: &str| answer.hosts.iter().find(|known| known.name == host).map_or(0, |h| h.connected);
    if farm.json {
        for builder in &answer.builders {
            let connected = machines(&builder.host_type);
            let line = json!({
                "builder": builder.name, "host_type": builder.host_type, "machines": connected,
            });
            output::line(line.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    say("name a builder:");
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["builder", "host type", "machines"]);
    for builder in &answer.builders {
        let connected = machines(&builder.host_type).to_string();
        table.add_row([builder.name.clone(), builder.host_type.clone(), connected]);
    }
    output::line(table.trim_fmt())?;
    Ok(ExitCode::from(output::USAGE))
}

/// Runs `farmer gomote ping`.
pub(super) async fn ping(args: PingArgs) -> anyhow::Result<ExitCode> {
    let targets = args.common.targets(args.words).await?;
    let waits = args.wait;
    let all = each(&targets, |client, session| async move {
        if waits { wait(client, session).await } else { hold(client, session, None).await }
    })
    .await?;
    for session in &all {
        let text =
            format!("{} is {}, ends {} unless used", session.name, word(session.state()), left(session));
        show(&args.common.farm, session, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `farmer gomote extend`.
pub(super) async fn extend(args: ExtendArgs) -> anyhow::Result<ExitCode> {
    let mut words = args.words;
    let text = words.pop().unwrap_or_default();
    let wanted = humantime::parse_duration(&text)
        .map_err(|error| output::usage(format!("`{text}` is no duration, such as `8h`: {error}")))?;
    let targets = args.common.targets(words).await?;
    let all = each(&targets, |client, session| hold(client, session, Some(wanted))).await?;
    for session in &all {
        show(&args.common.farm, session, &format!("{} ends {}", session.name, left(session)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn hold(client: Client, session: Session, hold: Option<Duration>) -> anyhow::Result<Session> {
    let request = ExtendSessionRequest { name: session.name, hold: hold.map(rpc::duration) };
    let answer = client.clone().extend_session(rpc::request(request)).await;
    let answer = answer.map_err(|status| output::refused(&status))?;
    Ok(answer.into_inner().session.unwrap_or_default())
}

/// Runs `farmer gomote destroy`.
pub(super) async fn destroy(args: DestroyArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.client()?;
    let mut names = args.words;
    if names.is_empty() {
        names = args.common.targets(Vec::new()).await?.sessions.into_iter().map(|one| one.name).collect();
    }
    for name in names {
        let request = DestroySessionRequest { name: name.clone() };
        client
            .clone()
            .destroy_session(rpc::request(request))
            .await
            .map_err(|status| output::refused(&status))?;
        let json = json!({ "name": name, "state": "ended" });
        let text = if args.common.farm.json { json.to_string() } else { format!("{name} is given back") };
        output::line(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(farm: &FarmArgs, session: &Session, text: &str) -> anyhow::Result<()> {
    output::line(if farm.json { session_json(session).to_string() } else { text.to_owned() })
}

fn word(state: SessionState) -> &'static str {
    match state {
        SessionState::Unspecified => "unknown",
        SessionState::Waiting => "waiting",
        SessionState::Preparing => "preparing",
        SessionState::Ready => "ready",
        SessionState::Ended => "ended",
    }
}

fn kind(session: &Session) -> String {
    match (session.builder.as_str(), session.repeats.as_str()) {
        ("", _) => session.host_type.clone(),
        (builder, "") => format!("{} as {builder}", session.host_type),
        (builder, repeats) => format!("{} as {builder}, repeats {repeats}", session.host_type),
    }
}

/// How long until a session ends unless it is used.
fn left(session: &Session) -> String {
    let now = runtime::system_clock().now();
    let expires = session.expires.as_ref().map_or(now, rpc::from_timestamp);
    format!("in {}", output::duration(expires.since(now)))
}

fn session_json(session: &Session) -> Value {
    json!({
        "name": session.name,
        "owner": session.owner,
        "group": session.group,
        "state": word(session.state()),
        "host_type": session.host_type,
        "builder": session.builder,
        "machine": session.machine,
        "platform": session.platform,
        "work_folder": session.work_folder,
        "folder": session.folder,
        "source_folder": session.source_folder,
        "found": session.found,
        "repeats": session.repeats,
        "created": session.created.as_ref().map(instant),
        "expires": session.expires.as_ref().map(instant),
        "waits_for": session.waits_for.as_ref().map(|wait| json!({
            "code": wait.code, "text": wait.text, "unblock": wait.unblock, "position": session.position,
        })),
    })
}
