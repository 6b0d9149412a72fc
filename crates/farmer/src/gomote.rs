//! `farmer gomote`: a machine of the farm for a person, to find out why a build fails on a machine they do not have.

mod archive;
mod cli;
mod files;
mod push;
mod run;
mod session;
mod ssh;
mod walk;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::Context;
use api::coordinator::{ListSessionsRequest, Session, gomote_service_client::GomoteServiceClient};

pub(crate) use cli::Args;
use cli::{Command, Common};

use crate::{cli::FarmArgs, farm::Location, output};

/// The calls of the service.
pub(crate) type Client = GomoteServiceClient<rpc::Channel>;

/// How many sessions are asked for at once.
const PAGE: i32 = 500;

/// Runs `farmer gomote`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => session::create(args).await,
        Command::List(args) => session::list(args).await,
        Command::Ping(args) => session::ping(args).await,
        Command::Extend(args) => session::extend(args).await,
        Command::Destroy(args) => session::destroy(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Push(args) => push::run(args).await,
        Command::Put(args) => files::put(args).await,
        Command::Get(args) => files::get(args).await,
        Command::Puttar(args) => files::puttar(args).await,
        Command::Gettar(args) => files::gettar(args).await,
        Command::Ls(args) => files::ls(args).await,
        Command::Rm(args) => files::rm(args).await,
        Command::Repro(args) => session::repro(args).await,
        Command::Ssh(args) => ssh::ssh(args).await,
        Command::SshConfig(args) => ssh::ssh_config(args).await,
        Command::Certify(args) => ssh::certify(args).await,
    }
}

/// How long nobody may use what `farmer try --hold` holds.
const IDLE: Duration = Duration::from_mins(30);

/// Holds a machine like that on which a build failed, with what was on it: a shell at a terminal, else how to come in.
pub(crate) async fn hold(farm: &FarmArgs, build: u64) -> anyhow::Result<()> {
    let common = Common { group: None, farm: farm.clone() };
    let owner = std::env::var("FARMER_GOMOTE_OWNER").ok();
    let new = cli::NewArgs { idle: IDLE, owner, no_wait: false, common };
    let targets = session::reproduce(&build.to_string(), &new).await?.targets;
    let name = targets.sessions.first().map(|session| session.name.clone()).unwrap_or_default();
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        ssh::shell(&targets).await?;
    }
    say(format!(
        "{name} is yours until nobody has used it for 30 min:\n  farmer gomote ssh {name}\n  farmer gomote destroy {name}"
    ));
    Ok(())
}

/// The sessions that a command is about, and what is left of its words.
pub(crate) struct Targets {
    pub(crate) common: Common,
    pub(crate) client: Client,
    pub(crate) sessions: Vec<Session>,
    pub(crate) words: Vec<String>,
}

impl Common {
    /// The farm's sessions.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.location()?.gomotes()
    }

    /// The same after the farm was away: it may have come back elsewhere. While it is away, the old way stays.
    pub(crate) fn again(&self, client: &mut Client) {
        if let Ok(found) = self.client() {
            *client = found;
        }
    }

    fn location(&self) -> anyhow::Result<Location> {
        self.farm.location()
    }

    /// Finds what a command is about: its first word is a session, or the group is.
    pub(crate) async fn targets(&self, mut words: Vec<String>) -> anyhow::Result<Targets> {
        let client = self.client()?;
        let all = sessions(&client, "", "").await?;
        let named = words.first().and_then(|first| all.iter().find(|session| session.name == *first));
        if let Some(session) = named.cloned() {
            words.remove(0);
            return Ok(Targets { common: self.clone(), client, sessions: vec![session], words });
        }
        let Some(group) = &self.group else {
            return Err(match words.first() {
                Some(first) => output::usage(missing(&client, first).await),
                None => output::usage("name a session, or a group with --group"),
            });
        };
        let sessions: Vec<Session> = all.into_iter().filter(|session| session.group == *group).collect();
        if sessions.is_empty() {
            return Err(output::usage(format!("there is no session of group `{group}`")));
        }
        Ok(Targets { common: self.clone(), client, sessions, words })
    }
}

/// Why there is no session of a name: perhaps it ended.
async fn missing(client: &Client, name: &str) -> String {
    let request = api::coordinator::ExtendSessionRequest { name: name.to_owned(), hold: None };
    match client.clone().extend_session(rpc::request(request)).await {
        Err(status) => status.message().to_owned(),
        Ok(_) => format!("there is no session `{name}`"),
    }
}

/// All live sessions of an owner and a group; empty means any.
pub(crate) async fn sessions(client: &Client, owner: &str, group: &str) -> anyhow::Result<Vec<Session>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            owner: owner.to_owned(),
            group: group.to_owned(),
            page_size: PAGE,
            page_token,
        };
        let answer = client.clone().list_sessions(rpc::request(request)).await;
        let answer = answer.map_err(|status| output::refused(&status))?.into_inner();
        all.extend(answer.sessions);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Whose sessions this user makes.
fn owner(given: Option<String>) -> String {
    let name = given
        .or_else(|| std::env::var("USER").ok())
        .or_else(|| std::env::var("LOGNAME").ok())
        .unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(*c);
    let name: String = name.to_ascii_lowercase().chars().filter(allowed).take(24).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() { "somebody".to_owned() } else { name.to_owned() }
}

/// Says something to the person, beside what the command prints.
#[expect(clippy::print_stderr, reason = "what a person reads beside the output goes there")]
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Sends the same to several sessions at once, and answers in their order.
pub(crate) async fn each<T, F>(
    targets: &Targets,
    work: impl Fn(Client, Session) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let all = targets.sessions.iter().map(|session| {
        let name = session.name.clone();
        let work = work(targets.client.clone(), session.clone());
        async move { work.await.with_context(|| format!("session `{name}`")) }
    });
    futures_util::future::join_all(all).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_has_a_name_that_the_farm_takes() {
        assert_eq!(owner(Some("Ada.L".to_owned())), "ada.l");
        assert_eq!(owner(Some("-x y-".to_owned())), "xy-");
        assert_eq!(owner(Some("!".to_owned())), "somebody");
    }
}
