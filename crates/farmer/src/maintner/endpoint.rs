//! Which maintnerd a command speaks to: that of a farm on this machine, of one elsewhere at its address, or one elsewhere
//! with a certificate.

use std::path::PathBuf;

use anyhow::Context as _;
use rpc::Identity;

use crate::{cli::FarmArgs, farm};

/// Where maintnerd is.
#[derive(Debug, clap::Args)]
pub(super) struct Endpoint {
    /// The data folder of a farm on this machine [default: the farm of this repository, or the only one that runs]
    #[arg(long, env = "FARMER_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address of a farm elsewhere
    #[arg(long, env = "FARMER_URL", value_name = "URL", conflicts_with = "data")]
    farm: Option<String>,
    /// A file that holds the token for that farm
    #[arg(long, env = "FARMER_TOKEN_FILE", value_name = "FILE", requires = "farm")]
    token_file: Option<PathBuf>,
    /// The address of a maintnerd elsewhere, as https://HOST:8793
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "farm"], requires_all = ["ca", "certificate", "key"])]
    maintnerd: Option<String>,
    /// The certificate of the farm's authority, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate, PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Endpoint {
    /// A channel to it, which connects when it is first used.
    pub(super) fn connect(&self) -> anyhow::Result<rpc::Channel> {
        if let (Some(url), Some(ca), Some(certificate), Some(key)) =
            (&self.maintnerd, &self.ca, &self.certificate, &self.key)
        {
            let identity = Identity::load(certificate, key, ca).context("load the certificate")?;
            return rpc::connect(url, Some(&identity)).with_context(|| format!("connect to `{url}`"));
        }
        if self.farm.is_some() {
            let (farm, token_file) = (self.farm.clone(), self.token_file.clone());
            return FarmArgs { data: None, farm, token_file, json: false }.location()?.channel();
        }
        let (address, identity) = farm::local_maintnerd(self.data.as_deref(), "farmer")?;
        let url = format!("https://{address}");
        rpc::connect(&url, Some(&identity)).with_context(|| format!("connect to `{url}`"))
    }
}
