//! `farmer machine` and `farmer key`: who may build for the farm.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use api::coordinator::{
    ApproveIdentityRequest, Certificate, CreateTokenRequest, Identity, LiftQuarantineRequest,
    ListIdentitiesRequest, QuarantineMachineRequest, RequestIdentityRequest, RevokeIdentityRequest,
    RevokeTokenRequest, Token,
};
use serde_json::{Value, json};

use crate::{cli::FarmArgs, output};

/// Arguments of `farmer machine`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List machines that are enrolled or have asked to be, and tokens that can be used
    List(ListArgs),
    /// Make a token that enrols machines
    Token(TokenArgs),
    /// Note the request of a machine that cannot ask itself
    Request(RequestArgs),
    /// Note such a request and let the machine in
    Sign(SignArgs),
    /// Let a machine in that has asked
    Approve(ApproveArgs),
    /// Shut a machine out, or make a token useless
    Revoke(RevokeArgs),
    /// Give a machine no work until `farmer machine lift`; what it does is begun elsewhere
    Quarantine(QuarantineArgs),
    /// Give a machine work again
    Lift(LiftArgs),
}

#[derive(Debug, clap::Args)]
struct QuarantineArgs {
    /// The machine
    name: String,
    /// Why, for whoever looks at its page
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct LiftArgs {
    /// The machine
    name: String,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// A host type that the machines may serve; may be repeated
    #[arg(long = "host-type", value_name = "TYPE", required = true)]
    host_types: Vec<String>,
    /// How many machines it may enrol; 0 for any number
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How long it may be used
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Write it to this file, for its owner only, in place of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Arguments of `farmer key`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// The host type whose machines are to use it
    host_type: String,
    /// Write it to this file, for its owner only, in place of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct RequestArgs {
    /// The request that `buildlet enroll --csr NAME` made
    file: PathBuf,
    /// The machine's name [default: the one in the request]
    #[arg(long)]
    name: Option<String>,
    /// A host type that it may serve; may be repeated
    #[arg(long = "host-type", value_name = "TYPE", required = true)]
    host_types: Vec<String>,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Write the certificate to this file, for `buildlet enroll --install`, in place of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ApproveArgs {
    /// The machine
    name: String,
    /// Host types, if others than it asked for; may be repeated
    #[arg(long = "host-type", value_name = "TYPE")]
    host_types: Vec<String>,
    /// Write the certificate to this file; a machine that has asked online fetches it itself
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The machine
    #[arg(required_unless_present = "token")]
    name: Option<String>,
    /// Why, for people
    #[arg(long, default_value = "")]
    reason: String,
    /// A token, by its id, in place of a machine
    #[arg(long, value_name = "ID", conflicts_with = "name")]
    token: Option<String>,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer machine`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(&args.farm).await?,
        Command::Token(args) => {
            let request = CreateTokenRequest {
                host_types: args.host_types,
                uses: args.uses,
                lifetime: Some(rpc::duration(args.expires)),
            };
            create(&args.farm, request, args.out.as_deref()).await?;
        }
        Command::Request(args) => {
            let identity = request(&args).await?;
            show(&args.farm, &identity, "waits: let it in with `farmer machine approve`")?;
        }
        Command::Sign(args) => {
            let identity = request(&args.request).await?;
            let approve = ApproveIdentityRequest { name: identity.name, host_types: Vec::new() };
            let certificate = approve_request(&args.request.farm, approve).await?;
            deliver(&bundle(&certificate), args.out.as_deref())?;
        }
        Command::Approve(args) => {
            let request = ApproveIdentityRequest { name: args.name.clone(), host_types: args.host_types };
            let certificate = approve_request(&args.farm, request).await?;
            if args.out.is_some() {
                deliver(&bundle(&certificate), args.out.as_deref())?;
            }
            let hosts = certificate.host_types.join(", ");
            answer(
                &args.farm,
                &json!({ "name": args.name, "state": "enrolled" }),
                &format!("`{}` is let in for {hosts}", args.name),
            )?;
        }
        Command::Revoke(args) => revoke(args).await?,
        Command::Quarantine(args) => quarantine(args).await?,
        Command::Lift(args) => lift(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `farmer key`.
pub(crate) async fn key(args: KeyArgs) -> anyhow::Result<ExitCode> {
    let request = CreateTokenRequest { host_types: vec![args.host_type], uses: 0, lifetime: None };
    create(&args.farm, request, args.out.as_deref()).await?;
    Ok(ExitCode::SUCCESS)
}

async fn list(farm: &FarmArgs) -> anyhow::Result<()> {
    let mut client = farm.location()?.machines()?;
    let listed = client.list_identities(rpc::request(ListIdentitiesRequest {})).await;
    let listed = listed.map_err(|status| output::refused(&status))?.into_inner();
    if farm.json {
        let machines: Vec<_> = listed.identities.iter().map(identity_json).collect();
        let tokens: Vec<_> = listed.tokens.iter().map(token_json).collect();
        return output::line(json!({ "machines": machines, "tokens": tokens }).to_string());
    }
    if listed.identities.is_empty() && listed.tokens.is_empty() {
        return output::line(
            "no machine was enrolled; `farmer machine token --host-type TYPE` is the first step",
        );
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "MACHINE",
        "STATE",
        "HOST TYPES",
        "CERTIFICATE",
        "NOTE",
        "KEY",
    ]);
    for machine in &listed.identities {
        let ends = machine.expires.as_ref().map(|at| format!("until {}", day(at))).unwrap_or_default();
        let hosts = machine.host_types.join(" ");
        table.add_row([&machine.name, &machine.state, &hosts, &ends, &machine.note, &machine.key_digest]);
    }
    for token in &listed.tokens {
        let uses =
            if token.uses_left == 0 { "any number".to_owned() } else { format!("{} left", token.uses_left) };
        let ends = token.expires.as_ref().map(|at| format!("until {}", day(at))).unwrap_or_default();
        let id = format!("token {}", token.id);
        table.add_row([&id, &uses, &token.host_types.join(" "), &ends, &String::new(), &String::new()]);
    }
    output::line(table.to_string())
}

async fn create(farm: &FarmArgs, request: CreateTokenRequest, out: Option<&Path>) -> anyhow::Result<()> {
    let hosts = request.host_types.join(", ");
    let mut client = farm.location()?.machines()?;
    let made = client.create_token(rpc::request(request)).await;
    let made = made.map_err(|status| output::refused(&status))?.into_inner();
    let id = made.token.map(|token| token.id).unwrap_or_default();
    let text = format!(
        "# Enrols machines for {hosts}. A secret; revoke it with: farmer machine revoke --token {id}\n{}\n{}",
        made.secret, made.authority_pem
    );
    deliver(&text, out)
}

async fn request(args: &RequestArgs) -> anyhow::Result<Identity> {
    let csr_pem =
        std::fs::read_to_string(&args.file).with_context(|| format!("read `{}`", args.file.display()))?;
    let mut client = args.farm.location()?.machines()?;
    let message = RequestIdentityRequest {
        csr_pem,
        name: args.name.clone().unwrap_or_default(),
        host_types: args.host_types.clone(),
    };
    let noted = client.request_identity(rpc::request(message)).await;
    noted
        .map_err(|status| output::refused(&status))?
        .into_inner()
        .identity
        .context("the farm answered nothing")
}

async fn approve_request(farm: &FarmArgs, request: ApproveIdentityRequest) -> anyhow::Result<Certificate> {
    let mut client = farm.location()?.machines()?;
    let approved = client.approve_identity(rpc::request(request)).await;
    let approved = approved.map_err(|status| output::refused(&status))?.into_inner();
    approved.certificate.context("the farm answered without a certificate")
}

async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let mut client = args.farm.location()?.machines()?;
    if let Some(id) = args.token {
        let revoked = client.revoke_token(rpc::request(RevokeTokenRequest { id: id.clone() })).await;
        revoked.map_err(|status| output::refused(&status))?;
        return answer(
            &args.farm,
            &json!({ "token": id, "state": "revoked" }),
            &format!("token `{id}` is useless now"),
        );
    }
    let name = args.name.unwrap_or_default();
    let request = RevokeIdentityRequest { name: name.clone(), reason: args.reason };
    client.revoke_identity(rpc::request(request)).await.map_err(|status| output::refused(&status))?;
    answer(&args.farm, &json!({ "name": name, "state": "revoked" }), &format!("`{name}` is shut out"))
}

async fn quarantine(args: QuarantineArgs) -> anyhow::Result<()> {
    let QuarantineArgs { name, reason, farm } = args;
    let mut client = farm.location()?.machines()?;
    let request = QuarantineMachineRequest { name: name.clone(), reason };
    client.quarantine_machine(rpc::request(request)).await.map_err(|status| output::refused(&status))?;
    answer(
        &farm,
        &json!({ "name": name, "state": "quarantined" }),
        &format!("`{name}` takes no work until: farmer machine lift {name}"),
    )
}

async fn lift(args: LiftArgs) -> anyhow::Result<()> {
    let LiftArgs { name, farm } = args;
    let mut client = farm.location()?.machines()?;
    let request = LiftQuarantineRequest { name: name.clone() };
    client.lift_quarantine(rpc::request(request)).await.map_err(|status| output::refused(&status))?;
    answer(&farm, &json!({ "name": name, "state": "lifted" }), &format!("`{name}` takes work"))
}

fn show(farm: &FarmArgs, identity: &Identity, what: &str) -> anyhow::Result<()> {
    answer(
        farm,
        &identity_json(identity),
        &format!("`{}` {what}\nkey {}", identity.name, identity.key_digest),
    )
}

fn answer(farm: &FarmArgs, json: &Value, text: &str) -> anyhow::Result<()> {
    output::line(if farm.json { json.to_string() } else { text.to_owned() })
}

/// What `buildlet enroll --install` takes.
fn bundle(certificate: &Certificate) -> String {
    format!("{}{}", certificate.certificate_pem, certificate.authority_pem)
}

/// Prints a text, or writes it to a file that only its owner can read.
fn deliver(text: &str, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = out else { return output::line(text.trim_end()) };
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("write `{}`", path.display()))
}

fn identity_json(identity: &Identity) -> Value {
    json!({
        "name": identity.name,
        "host_types": identity.host_types,
        "state": identity.state,
        "key": identity.key_digest,
        "expires": identity.expires.as_ref().map(instant),
        "requested": identity.requested.as_ref().map(instant),
        "note": identity.note,
    })
}

fn token_json(token: &Token) -> Value {
    json!({
        "id": token.id,
        "host_types": token.host_types,
        "uses_left": (token.uses_left > 0).then_some(token.uses_left),
        "expires": token.expires.as_ref().map(instant),
    })
}

pub(crate) fn instant(time: &prost_types::Timestamp) -> String {
    jiff::Timestamp::from_microsecond(rpc::from_timestamp(time).0).unwrap_or_default().to_string()
}

fn day(time: &prost_types::Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(rpc::from_timestamp(time).0).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}
