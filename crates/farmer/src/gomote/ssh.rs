//! `farmer gomote ssh` and what plain OpenSSH needs: a key of this user, a short-lived certificate for each session, and
//! lines for `~/.ssh/config` that get a new one before each connection.

use std::{
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::Context;
use api::coordinator::{Session, SessionState, SignKeyRequest, SignKeyResponse};

use super::{
    Client, Targets,
    cli::{CertifyArgs, SshArgs, SshConfigArgs},
    say, session,
};
use crate::{cli::FarmArgs, farm::Location, output};

/// Runs `farmer gomote ssh`.
pub(super) async fn ssh(args: SshArgs) -> anyhow::Result<ExitCode> {
    let mut targets = args.common.targets(args.words).await?;
    let words = std::mem::take(&mut targets.words);
    // In place of this program: signals, the terminal and the exit status are its own.
    let error = connection(&targets).await?.args(words).exec();
    Err(absent(error, "ssh"))
}

/// A shell in the one session there is, for whoever is at the terminal.
pub(super) async fn shell(targets: &Targets) -> anyhow::Result<()> {
    connection(targets).await?.status().map_err(|error| absent(error, "ssh"))?;
    Ok(())
}

/// `ssh` into the one session there is, with a fresh certificate.
async fn connection(targets: &Targets) -> anyhow::Result<Command> {
    let [target] = targets.sessions.as_slice() else {
        return Err(output::usage("one session at a time"));
    };
    let target = session::wait(targets.client.clone(), target.clone()).await?;
    let wallet = Wallet::open()?;
    let signed = wallet.certify(&targets.client, &target.name).await?;
    let farm = targets.common.farm.location()?;
    let config = wallet.folder.join(format!("{}.config", target.name));
    wallet.write(&config, wallet.lines(&target.name, &signed, &farm).as_bytes())?;
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(&config).arg(&target.name);
    Ok(ssh)
}

/// Runs `farmer gomote ssh-config`.
pub(super) async fn ssh_config(args: SshConfigArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.client()?;
    let farm = args.common.farm.location()?;
    let sessions: Vec<Session> = if args.words.is_empty() && args.common.group.is_none() {
        super::sessions(&client, "", "").await?
    } else {
        args.common.targets(args.words).await?.sessions
    };
    let wallet = Wallet::open()?;
    let program = std::env::current_exe().context("find this program")?;
    let program = quoted(&program.display().to_string());
    let farm_arguments = arguments(&args.common.farm, &farm)?;
    for session in &sessions {
        if session.state() != SessionState::Ready {
            say(format!("{} has no machine yet: it is left out", session.name));
            continue;
        }
        let signed = wallet.certify(&client, &session.name).await?;
        output::line(wallet.lines(&session.name, &signed, &farm).trim_end())?;
        // Run before each connection, so that the certificate is always a fresh one.
        let renew = format!("{program} gomote certify {} {farm_arguments}", session.name);
        output::line(format!("Match originalhost {} exec \"{}\"\n", session.name, renew.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `farmer gomote certify`.
pub(super) async fn certify(args: CertifyArgs) -> anyhow::Result<ExitCode> {
    let client = args.farm.location()?.gomotes()?;
    Wallet::open()?.certify(&client, &args.session).await?;
    Ok(ExitCode::SUCCESS)
}

/// What names the farm again, wherever the command is run.
fn arguments(args: &FarmArgs, farm: &Location) -> anyhow::Result<String> {
    let full = |path: &Path| -> anyhow::Result<String> {
        Ok(quoted(&std::path::absolute(path).context("find the current folder")?.display().to_string()))
    };
    Ok(match (&args.farm, &args.token_file, farm.data()) {
        (Some(url), Some(file), _) => format!("--farm {} --token-file {}", quoted(url), full(file)?),
        (_, _, Some(data)) => format!("--data {}", full(data)?),
        _ => String::new(),
    })
}

/// A word for the shell that `Match exec` runs, within the double quotes of a line in which `%` begins a token.
fn quoted(text: &str) -> String {
    let word = text.replace('\'', r"'\''").replace('%', "%%");
    format!("'{}'", word.replace('\\', r"\\").replace('"', r#"\""#))
}

fn absent(error: std::io::Error, program: &str) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            output::usage(format!("there is no `{program}` on the PATH: install OpenSSH"))
        }
        _ => anyhow::Error::from(error).context(format!("start {program}")),
    }
}

/// The folder with this user's key and the certificates for it.
struct Wallet {
    folder: PathBuf,
}

impl Wallet {
    fn open() -> anyhow::Result<Self> {
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let config =
            std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
        let folder = std::path::absolute(config.join("farmer/ssh")).context("find the current folder")?;
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make `{}`", folder.display()))?;
        let wallet = Self { folder };
        if !wallet.key().exists() {
            wallet.make_key()?;
        }
        Ok(wallet)
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn certificate(&self, session: &str) -> PathBuf {
        self.folder.join(format!("{session}-cert.pub"))
    }

    fn known_hosts(&self, session: &str) -> PathBuf {
        self.folder.join(format!("{session}.known_hosts"))
    }

    /// Made under another name, so that two that begin at once do not make half a key each.
    fn make_key(&self) -> anyhow::Result<()> {
        let scratch = tempfile::tempdir_in(&self.folder).context("make a temporary folder")?;
        let made = scratch.path().join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "farmer gomote", "-f"]).arg(&made);
        let status = keygen.stdin(Stdio::null()).status().map_err(|error| absent(error, "ssh-keygen"))?;
        anyhow::ensure!(status.success(), "`ssh-keygen` failed");
        let public = made.with_extension("pub");
        std::fs::rename(&public, self.key().with_extension("pub")).context("keep the key")?;
        std::fs::rename(&made, self.key()).context("keep the key")
    }

    /// Gets a new certificate for a session.
    async fn certify(&self, client: &Client, session: &str) -> anyhow::Result<SignKeyResponse> {
        let public = self.key().with_extension("pub");
        let public_key =
            std::fs::read_to_string(&public).with_context(|| format!("read `{}`", public.display()))?;
        let request = SignKeyRequest { session: session.to_owned(), public_key };
        let answer = client.clone().sign_key(rpc::request(request)).await;
        let signed = answer.map_err(|status| output::refused(&status))?.into_inner();
        self.write(&self.certificate(session), format!("{}\n", signed.certificate.trim()).as_bytes())?;
        let known = format!("{session} {}\n", signed.host_key.trim());
        self.write(&self.known_hosts(session), known.as_bytes())?;
        Ok(signed)
    }

    /// Whole or not at all: `ssh` may read it at the same time.
    fn write(&self, file: &Path, content: &[u8]) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let part = tempfile::Builder::new().prefix("part-").make_in(&self.folder, |path| {
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
            })?;
            std::io::Write::write_all(&mut part.as_file(), content)?;
            part.persist(file)?;
            Ok(())
        };
        write().with_context(|| format!("write `{}`", file.display()))
    }

    /// The lines of `ssh`'s configuration for a session.
    fn lines(&self, session: &str, signed: &SignKeyResponse, farm: &Location) -> String {
        let own = || {
            let rest = farm.url.split("://").nth(1).unwrap_or(&farm.url);
            let host = rest.split('/').next().unwrap_or(rest);
            host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']).to_owned()
        };
        let host = if signed.host.is_empty() { own() } else { signed.host.clone() };
        // In a path, too, `%` begins a token.
        let path = |path: PathBuf| path.display().to_string().replace('%', "%%");
        format!(
            "Host {session}\n  HostName {host}\n  Port {}\n  User {session}\n  IdentityFile \"{}\"\n  \
             IdentitiesOnly yes\n  CertificateFile \"{}\"\n  HostKeyAlias {session}\n  UserKnownHostsFile \"{}\"\n  \
             StrictHostKeyChecking yes\n  ControlPath none\n",
            signed.port,
            path(self.key()),
            path(self.certificate(session)),
            path(self.known_hosts(session)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell_are_quoted() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("100%"), "'100%%'");
        // What `ssh` makes of it is the shell's `'it'\''s'`.
        assert_eq!(quoted("it's"), r"'it'\\''s'");
        assert_eq!(quoted(r#"a"b"#), r#"'a\"b'"#);
    }
}
