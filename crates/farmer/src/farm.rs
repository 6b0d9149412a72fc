//! Finds the farm that a command speaks to.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use api::coordinator::{
    build_service_client::BuildServiceClient, farm_service_client::FarmServiceClient,
    gomote_service_client::GomoteServiceClient, machine_service_client::MachineServiceClient,
    retry_service_client::RetryServiceClient, why_service_client::WhyServiceClient,
};
use serde::{Deserialize, Serialize};

use crate::{cli::FarmArgs, output, tree, up::data};

/// The largest answer that is taken: a chunk of a log and more.
const MAX_MESSAGE: usize = rpc::MAX_MESSAGE;

/// What a running `farmer up` leaves in its data folder for the commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The address of pages and RPCs.
    pub(crate) url: String,
    /// The process.
    pub(crate) pid: u32,
}

/// The name of that file.
pub(crate) const RUNNING: &str = "running.json";
/// The name of the file with the bearer token.
pub(crate) const TOKEN: &str = "token";

/// A farm that can be spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Its address, as links to its pages begin: of several replicas, the first one's.
    pub(crate) url: String,
    /// All of its addresses, with commas between.
    replicas: String,
    token: String,
    /// The data folder of one on this machine.
    data: Option<PathBuf>,
}

impl Location {
    /// By `--farm`, by `--data`, by the repository of the current folder, or the only one that runs.
    pub(crate) fn find(args: &FarmArgs) -> anyhow::Result<Self> {
        if let Some(url) = &args.farm {
            let file = args.token_file.as_ref().ok_or_else(|| {
                output::usage("--farm needs a token: give the file that holds it with --token-file (or FARMER_TOKEN_FILE)")
            })?;
            let first = rpc::urls(url).next().unwrap_or(url).trim_end_matches('/').to_owned();
            return Ok(Self { url: first, replicas: url.clone(), token: read_token(file)?, data: None });
        }
        if let Some(data) = &args.data {
            return Self::in_folder(data)?
                .ok_or_else(|| not_running(&format!("with data folder `{}`", data.display())));
        }
        let here = std::env::current_dir().context("find the current folder")?;
        if let Some(farm) =
            tree::root(&here).ok().and_then(|root| Self::in_folder(&data_folder(&root)).transpose())
        {
            return farm;
        }
        Self::only_one()
    }

    fn in_folder(data: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(text) = std::fs::read_to_string(data.join(RUNNING)) else { return Ok(None) };
        let running: Running = serde_json::from_str(&text)
            .with_context(|| format!("read `{}`", data.join(RUNNING).display()))?;
        let token = read_token(&data.join(TOKEN))?;
        Ok(Some(Self { url: running.url.clone(), replicas: running.url, token, data: Some(data.into()) }))
    }

    fn only_one() -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(data_root()).into_iter().flatten().flatten() {
            found.extend(Self::in_folder(&entry.path())?);
        }
        match found.len() {
            0 => Err(not_running("of this repository")),
            1 => Ok(found.remove(0)),
            count => Err(output::usage(format!("{count} farms run on this machine: choose one with --data"))),
        }
    }

    /// A channel to its address with our token, which connects when it is first used.
    pub(crate) fn channel(&self) -> anyhow::Result<rpc::Channel> {
        let urls = &self.replicas;
        let channel = rpc::connect(urls, None).with_context(|| format!("connect to `{urls}`"))?;
        Ok(channel.with_bearer(&self.token))
    }

    /// Machines and their certificates.
    pub(crate) fn machines(&self) -> anyhow::Result<MachineServiceClient<rpc::Channel>> {
        Ok(MachineServiceClient::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Why things are as they are.
    pub(crate) fn why(&self) -> anyhow::Result<WhyServiceClient<rpc::Channel>> {
        Ok(WhyServiceClient::new(self.channel()?))
    }

    /// The data folder, of a farm on this machine.
    pub(crate) fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Debugging sessions.
    pub(crate) fn gomotes(&self) -> anyhow::Result<GomoteServiceClient<rpc::Channel>> {
        Ok(GomoteServiceClient::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// The farm itself.
    pub(crate) fn farms(&self) -> anyhow::Result<FarmServiceClient<rpc::Channel>> {
        Ok(FarmServiceClient::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Builds that are begun again.
    pub(crate) fn retries(&self) -> anyhow::Result<RetryServiceClient<rpc::Channel>> {
        Ok(RetryServiceClient::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Builds and logs.
    pub(crate) fn builds(&self) -> anyhow::Result<BuildServiceClient<rpc::Channel>> {
        Ok(BuildServiceClient::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE))
    }
}

/// Where the mutation log of a farm on this machine is, and an identity of its authority to follow it with: whoever may
/// read the data folder holds the authority's key.
pub(crate) fn local_maintnerd(
    data: Option<&Path>,
    name: &str,
) -> anyhow::Result<(SocketAddr, rpc::Identity)> {
    let farm = FarmArgs { data: data.map(Into::into), farm: None, token_file: None, json: false };
    let data = Location::find(&farm)?.data.context("find the data folder of the farm")?;
    let identity = rpc::Authority::open(&data.join("ca"))
        .and_then(|authority| authority.issue_service(name))
        .context("issue a certificate")?;
    Ok((data::loopback(data::ports(&data).maintnerd), identity))
}

fn not_running(which: &str) -> anyhow::Error {
    output::infrastructure(format!(
        "no farm {which} runs: start one with `farmer up`, or name one with --data or --farm"
    ))
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("read the token in `{}`", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Where farms of this user keep their data unless told otherwise.
fn data_root() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(|| home().join(".local/share"), PathBuf::from)
        .join("farmer")
}

/// The data folder of the farm of one repository: its name, and what tells it from others of that name.
pub(crate) fn data_folder(origin: &Path) -> PathBuf {
    let name =
        origin.file_name().map_or_else(|| "repository".into(), |name| name.to_string_lossy().into_owned());
    let digest =
        origin.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    data_root().join(format!("{}-{:08x}", name.trim_end_matches(".git"), digest as u32))
}
