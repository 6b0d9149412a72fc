//! Renewing the machine's certificate while the coordinator can be reached. It runs beside everything else: builds never
//! notice.

use std::time::Duration;

use anyhow::Context as _;
use api::coordinator::{RenewRequest, enrolment_service_client::EnrolmentServiceClient};
use rpc::{Identity, KeyRequest, Peer, Proxy, Trust};
use runtime::SharedClock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::keys::{Credentials, Keys};

/// The pause after a failed attempt; half of the certificate's life is left for more.
const AGAIN: Duration = Duration::from_mins(1);
/// The longest sleep: a suspended machine's timers stand still, its certificate does not.
const LOOK: Duration = Duration::from_mins(10);
/// The shortest pause between two renewals.
const SHORTEST: Duration = Duration::from_millis(500);

/// What is renewed, where.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    pub(crate) credentials: Credentials,
    pub(crate) keys: Keys,
    pub(crate) url: String,
    pub(crate) proxy: Option<String>,
}

impl Renewal {
    /// Renews until `shutdown`.
    pub(crate) async fn run(self, clock: SharedClock, shutdown: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            let due = self.credentials.until_renewal(&clock).unwrap_or(LOOK);
            let wait = due.max(pause).max(SHORTEST).min(LOOK);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
            if self.credentials.until_renewal(&clock).is_none_or(|left| !left.is_zero()) {
                continue;
            }
            match self.renew().await {
                Ok(()) => pause = Duration::ZERO,
                Err(error) => {
                    warn!("cannot renew this machine's certificate: {error:#}; trying again");
                    pause = AGAIN;
                }
            }
        }
    }

    async fn renew(&self) -> anyhow::Result<()> {
        let old = self.credentials.current();
        let Some(Peer::Machine { name, .. }) = old.peer() else { anyhow::bail!("it is no machine's") };
        let request = KeyRequest::again(&name, &old.key_pem).context("use the key")?;
        let proxy = self.proxy.as_deref().map(Proxy::parse).transpose()?;
        let channel = rpc::connect_via(&self.url, Trust::Farm(&old), proxy.as_ref()).context("connect")?;
        let answer = EnrolmentServiceClient::new(channel)
            .renew(rpc::request(RenewRequest { csr_pem: request.csr_pem }))
            .await
            .map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        let new = answer.into_inner().certificate.context("the farm answered without a certificate")?;
        let identity = Identity {
            certificate_pem: new.certificate_pem,
            key_pem: old.key_pem,
            ca_pem: new.authority_pem,
        };
        self.keys.keep(&identity.certificate_pem, &identity.ca_pem)?;
        self.credentials.replace(identity);
        info!("this machine's certificate was renewed");
        Ok(())
    }
}
