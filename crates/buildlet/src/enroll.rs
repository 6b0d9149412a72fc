//! `buildlet enroll`: a key is made here, the farm signs it, and from then on the machine renews its certificate itself.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use api::coordinator::{Certificate, EnrollRequest, enrolment_service_client::EnrolmentServiceClient};
use rpc::{KeyRequest, Proxy, Trust};
use runtime::Failure;
use tonic::Code;
use types::{HostType, MachineName};

use crate::{
    config::proxy_for,
    keys::{Keys, write},
    platform,
};

/// How often a machine that waits for an operator asks.
const ASK: Duration = Duration::from_secs(3);
/// The first and the longest pause when the coordinator cannot be reached.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Arguments of `buildlet enroll`.
#[derive(Debug, Clone, clap::Args)]
pub struct EnrollArgs {
    /// The coordinator
    #[arg(long, value_name = "URL", required_unless_present_any = ["csr", "install"])]
    coordinator: Option<String>,
    /// The file that `farmer machine token` or `farmer key` wrote. Without one, an operator is asked
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The farm's authority (PEM), if there is no token file that has it
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// This machine's name, stable over restarts [default: its host name]
    #[arg(long)]
    name: Option<MachineName>,
    /// A host type that this machine is to serve; may be repeated [default: all that the token allows]
    #[arg(long = "host-type", value_name = "TYPE")]
    host_types: Vec<HostType>,
    /// The folder for the buildlet's own state, in which key and certificate are kept
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Only make the key and a request for a machine of this name, to be carried to the farm by hand
    #[arg(long, value_name = "NAME", conflicts_with_all = ["coordinator", "token_file", "install"])]
    csr: Option<MachineName>,
    /// Keep the certificate that the farm signed for that request (`farmer machine approve --out FILE`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["coordinator", "token_file"])]
    install: Option<PathBuf>,
    /// How long to wait for an operator
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Runs `buildlet enroll`.
pub(crate) async fn run(args: EnrollArgs) -> anyhow::Result<()> {
    let keys = Keys::in_state(&args.state);
    if let Some(name) = &args.csr {
        return offline(&keys, name, &args.state);
    }
    if let Some(file) = &args.install {
        return install(&keys, file);
    }
    let name = args.name.clone().map_or_else(own_name, Ok)?;
    let token = args.token_file.as_deref().map(TokenFile::read).transpose()?;
    let authority = match (&args.authority, &token) {
        (Some(path), _) => read(path)?,
        (None, Some(TokenFile { authority, .. })) if !authority.is_empty() => authority.clone(),
        _ => bail!("`--authority` is needed: the farm's `ca.pem`, or a token file that has it"),
    };
    let asking = Asking {
        url: args.coordinator.context("`--coordinator` is missing")?,
        authority,
        token: token.map(|token| token.secret).unwrap_or_default(),
        name,
        host_types: args.host_types,
    };
    let certificate = asking.until_signed(&keys, args.wait).await?;
    asking.keep(&keys, &certificate)?;
    let (name, url, state) = (&asking.name, &asking.url, args.state.display());
    say(&format!(
        "`{name}` is enrolled at {url} for {}. Run it with\n    buildlet --state {state} --work FOLDER\n\
         It renews its certificate itself; one that is away for longer than {} is enrolled again.",
        certificate.host_types.join(", "),
        humantime::format_duration(lifetime(&certificate)),
    ))
}

/// For how long it is good, to the minute.
fn lifetime(certificate: &Certificate) -> Duration {
    let lifetime = certificate.lifetime.as_ref().map(rpc::from_duration).unwrap_or_default();
    // A certificate ends at a full second: a week is some milliseconds less.
    Duration::from_mins(lifetime.as_secs().div_ceil(60))
}

/// What a machine shows when it asks for its certificate.
pub(crate) struct Asking {
    pub(crate) url: String,
    pub(crate) authority: String,
    pub(crate) token: String,
    pub(crate) name: MachineName,
    pub(crate) host_types: Vec<HostType>,
}

impl Asking {
    /// Asks until the farm has signed, or says no. A coordinator that cannot be reached is waited for.
    pub(crate) async fn until_signed(&self, keys: &Keys, wait: Duration) -> anyhow::Result<Certificate> {
        let request = keys.request(&self.name)?;
        let proxy = proxy_for(&self.url).as_deref().map(Proxy::parse).transpose()?;
        let channel = rpc::connect_via(&self.url, Trust::Guest(&self.authority), proxy.as_ref())
            .map_err(|error| Failure::Configuration.of(error))
            .context("connect")?;
        let mut client = EnrolmentServiceClient::new(channel);
        let message = EnrollRequest {
            csr_pem: request.csr_pem.clone(),
            name: self.name.to_string(),
            host_types: self.host_types.iter().map(ToString::to_string).collect(),
            token: self.token.clone(),
        };
        let begin = tokio::time::Instant::now();
        let (mut pause, mut told) = (PAUSES.0, false);
        while begin.elapsed() <= wait {
            match client.enroll(rpc::request(message.clone())).await {
                Ok(answer) => match answer.into_inner().certificate {
                    Some(certificate) => return Ok(certificate),
                    None if told => tokio::time::sleep(ASK).await,
                    None => {
                        told = true;
                        self.tell_to_wait(&request)?;
                    }
                },
                Err(status) if rpc::is_transient(&status) => {
                    tracing::warn!("{}; trying again", status.message());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(status) => return Err(refused(&status)),
            }
        }
        let error = anyhow::anyhow!("no answer within {}: run it again", humantime::format_duration(wait));
        Err(Failure::Unavailable.of(error))
    }

    fn tell_to_wait(&self, request: &KeyRequest) -> anyhow::Result<()> {
        let digest = KeyRequest::key_digest(&request.csr_pem).context("name the key")?;
        let name = &self.name;
        say(&format!(
            "`{name}` waits to be let in. An operator does it with `farmer machine approve {name}`, if this is the key that \
             `farmer machine list` shows:\n    {digest}"
        ))
    }

    /// Keeps what the farm signed.
    pub(crate) fn keep(&self, keys: &Keys, certificate: &Certificate) -> anyhow::Result<()> {
        keys.keep(&certificate.certificate_pem, &certificate.authority_pem)?;
        keys.note_coordinator(&self.url)
    }
}

fn refused(status: &tonic::Status) -> anyhow::Error {
    let error = anyhow::anyhow!("the farm refuses: {}", status.message());
    match status.code() {
        Code::ResourceExhausted => Failure::Unavailable.of(error),
        Code::Internal => Failure::Bug.of(error),
        _ => Failure::Configuration.of(error),
    }
}

fn offline(keys: &Keys, name: &MachineName, state: &Path) -> anyhow::Result<()> {
    let request = keys.request(name)?;
    let path = keys.key.with_file_name(format!("{name}.csr"));
    write(&path, request.csr_pem.as_bytes(), 0o644).with_context(|| format!("write `{}`", path.display()))?;
    let (path, state) = (path.display(), state.display());
    say(&format!(
        "Carry `{path}` to an operator of the farm, who does\n    farmer machine sign {name}.csr --host-type TYPE --out {name}.pem\n\
         and bring that back; then\n    buildlet enroll --install {name}.pem --state {state}\n\
         Key: {}",
        KeyRequest::key_digest(&request.csr_pem).context("name the key")?
    ))
}

/// Keeps a certificate that came by hand: the machine's first, then the authority's.
fn install(keys: &Keys, file: &Path) -> anyhow::Result<()> {
    let text = read(file)?;
    let end = "-----END CERTIFICATE-----";
    let cut = text.find(end).map(|at| at + end.len());
    let (certificate, authority) = cut.map(|at| text.split_at(at)).unwrap_or_default();
    if !authority.contains(end) {
        bail!("`{}` does not hold a machine's certificate and the farm's authority", file.display());
    }
    let key = read(&keys.key).context("`buildlet enroll --csr NAME` comes first, with the same --state")?;
    let identity = rpc::Identity {
        certificate_pem: format!("{certificate}\n"),
        key_pem: key,
        ca_pem: authority.trim_start().to_owned(),
    };
    if let Err(error) = rpc::connect("https://farm.invalid", Some(&identity)) {
        return Err(error).context("the certificate does not fit the key that is here");
    }
    keys.keep(&identity.certificate_pem, &identity.ca_pem)?;
    say("The certificate is kept. Run it with `buildlet --coordinator URL` and the same --state.")
}

/// A file that lets machines in: a secret, and the authority to trust.
pub(crate) struct TokenFile {
    pub(crate) secret: String,
    pub(crate) authority: String,
}

impl TokenFile {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        Self::parse(&read(path)?).with_context(|| format!("`{}` is no token", path.display()))
    }

    /// The secret is the first line that is no comment; what begins with the first `-----BEGIN` is the authority.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (head, authority) = text.find("-----BEGIN").map_or((text, ""), |at| text.split_at(at));
        let mut lines = head.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let secret = lines.next().context("it holds no secret")?.to_owned();
        if secret.contains(char::is_whitespace) {
            bail!("its first line is no secret");
        }
        Ok(Self { secret, authority: authority.to_owned() })
    }
}

/// The name of this machine as the farm writes names.
pub(crate) fn own_name() -> anyhow::Result<MachineName> {
    let host = platform::host_name().to_ascii_lowercase();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().context("this machine's host name cannot be its name: say one with --name")
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read `{}`", path.display()))
}

/// A line for the person at the terminal.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_has_a_secret_and_an_authority() {
        let file = TokenFile::parse("# for host linux\n\n  abc \n-----BEGIN CERTIFICATE-----\nx\n").unwrap();
        assert_eq!((file.secret.as_str(), file.authority.starts_with("-----BEGIN")), ("abc", true));
        assert_eq!(TokenFile::parse("abc\r\n").unwrap().secret, "abc");
        for bad in ["", "# only\n", "-----BEGIN CERTIFICATE-----\n", "two words\n"] {
            assert!(TokenFile::parse(bad).is_err(), "{bad}");
        }
    }
}
