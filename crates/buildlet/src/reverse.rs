//! Dialling out: the coordinator is called until it answers, and answered until it is gone, again and again.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use rpc::reverse::{self, DialError};
use runtime::SharedClock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{VERSION, keys::Credentials, orphan::Presence};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A coordinator that comes back has all its machines again within twice this.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The pause when dialling again helps only once somebody has done something.
const HOPELESS: Duration = Duration::from_secs(30);
/// How wrong a clock may be before its owner is told.
const CLOCK: Duration = Duration::from_secs(30);
/// A connection that lasted so long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(5);
/// How many reasons are remembered as said.
const REASONS: usize = 8;

/// Whom to dial, and as whom.
#[derive(Clone)]
pub(crate) struct Dialling {
    /// The coordinator's, or those of its replicas with commas between: one that is gone is followed by the next.
    pub(crate) url: String,
    pub(crate) identity: Credentials,
    pub(crate) proxy: Option<String>,
    pub(crate) clock: SharedClock,
    /// Whether somebody replaces a buildlet that is too old for the farm.
    pub(crate) supervised: bool,
}

impl Dialling {
    /// Dials and answers until `shutdown`. Fails only if dialling can never work.
    pub(crate) async fn run(
        self,
        service: rpc::Service,
        presence: Presence,
        shutdown: CancellationToken,
    ) -> Result<(), DialError> {
        let mut pause = Pause::default();
        let instance = runtime::new_id().to_string();
        let mut replicas = rpc::urls(&self.url).cycle();
        let mut url = replicas.next().unwrap_or(&self.url);
        loop {
            let ended = tokio::select! {
                ended = self.connection(url, &instance, &service, &presence, &shutdown) => ended,
                () = shutdown.cancelled() => return Ok(()),
            };
            match ended {
                Ok(lasted) if lasted > GOOD => pause = Pause::default(),
                Ok(_) => {}
                Err(error @ (DialError::Url(_) | DialError::Identity(_))) => return Err(error),
                Err(error @ DialError::Outdated(_)) if self.supervised => return Err(error),
                Err(error) => {
                    pause.report(&error);
                    url = replicas.next().unwrap_or(url);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause.next()) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// One connection, from dialling to its end; returns how long it lasted.
    async fn connection(
        &self,
        url: &str,
        instance: &str,
        service: &rpc::Service,
        presence: &Presence,
        shutdown: &CancellationToken,
    ) -> Result<Duration, DialError> {
        let mut headers = HeaderMap::new();
        headers.insert(reverse::VERSION_HEADER, HeaderValue::from_static(VERSION));
        if let Ok(instance) = HeaderValue::from_str(instance) {
            headers.insert(reverse::INSTANCE_HEADER, instance);
        }
        let identity = self.identity.current();
        let stream = reverse::dial(url, &identity, headers, self.proxy.as_deref()).await?;
        if let Some(theirs) = stream.time() {
            let wrong = self.identity.note_time(theirs, &self.clock);
            if wrong > CLOCK {
                let wrong = humantime::format_duration(Duration::from_secs(wrong.as_secs()));
                warn!(
                    "the clock of this machine and that of the farm differ by {wrong}: set this machine's clock"
                );
            }
        }
        let begin = Instant::now();
        let present = presence.enter();
        info!("connected to {}", stream.peer());
        if let Err(error) = reverse::serve(stream, service.clone(), shutdown.clone()).await {
            debug!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
        }
        drop(present);
        if !shutdown.is_cancelled() {
            info!("the connection to the coordinator ended; dialling again");
        }
        Ok(begin.elapsed())
    }
}

/// Pauses between attempts: longer and longer, each a random part of what it could be, so that a thousand machines do
/// not come back in step.
#[derive(Debug)]
struct Pause {
    longest: Duration,
    /// What was said, so that an outage fills no log: each replica may have its own reason.
    said: Vec<String>,
}

impl Default for Pause {
    fn default() -> Self {
        Self { longest: FIRST_PAUSE, said: Vec::new() }
    }
}

impl Pause {
    fn next(&mut self) -> Duration {
        let part = (runtime::new_id().as_u128() & 0xffff) as f64 / 65536.0;
        let pause = self.longest.mul_f64(0.25 + 0.75 * part);
        self.longest =
            if self.longest > LONGEST_PAUSE { LONGEST_PAUSE } else { (self.longest * 2).min(LONGEST_PAUSE) };
        pause
    }

    fn report(&mut self, error: &DialError) {
        if !error.is_transient() {
            self.longest = HOPELESS;
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        if self.said.contains(&text) {
            debug!("{text}");
        } else {
            warn!("{text}; trying again");
            if self.said.len() == REASONS {
                self.said.remove(0);
            }
            self.said.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..50).map(|_| pause.next()).collect();
        assert!(pauses[0] <= FIRST_PAUSE);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[20..].iter().any(|pause| *pause > LONGEST_PAUSE / 2));
        assert!(pauses[20..].windows(2).any(|two| two[0] != two[1]));
    }
}
