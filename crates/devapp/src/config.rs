//! What devapp must be told.

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;
use pages::NavEntry;
use rpc::Identity;
use runtime::{SharedClock, clock::system_clock, telemetry};

/// The configuration of one devapp.
#[derive(Clone)]
pub struct Config {
    /// Where to serve pages in the clear; a loopback address.
    pub listen: SocketAddr,
    /// Who we are, to maintnerd.
    pub identity: Identity,
    /// maintnerd's URL.
    pub maintnerd: String,
    /// What the farm is called on pages.
    pub farm_name: String,
    /// What the navigation has beside the farm's own pages: should name `/recent`.
    pub nav: Vec<NavEntry>,
    /// Host names that requests may name beside those of this machine.
    pub hosts: Vec<String>,
    /// The time.
    pub clock: SharedClock,
    /// What we say about ourselves; [`crate::Server`] does not look at it.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the part of `farm.toml` that is ours.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let farm: buildspec::Farm = runtime::config::load(path)?;
        let tls =
            farm.tls.as_ref().context("find `[tls]`: a service that runs by itself needs a certificate")?;
        let identity = Identity::load(&tls.certificate, &tls.key, &tls.ca).context("load the certificate")?;
        Ok(Self::of(&farm, identity, system_clock()))
    }

    /// The part of a farm's configuration that is ours.
    pub fn of(farm: &buildspec::Farm, identity: Identity, clock: SharedClock) -> Self {
        Self {
            listen: farm.listen.devapp,
            identity,
            maintnerd: farm.services.maintnerd.clone(),
            farm_name: farm.name.clone(),
            nav: vec![NavEntry::new("Recent", "/recent")],
            hosts: Vec::new(),
            clock,
            telemetry: farm.telemetry.clone(),
        }
    }
}
