//! Entry point: what is of this service alone; `runtime` has the rest.

use std::process::ExitCode;

use anyhow::Context as _;
use coordinator::{Config, Server};
use runtime::service::Service;

fn main() -> ExitCode {
    let service = Service {
        name: "coordinator",
        about: "Finds work, owns all machines, runs builds, keeps results and logs, serves the farm and build pages",
        version: env!("CARGO_PKG_VERSION"),
    };
    service.main(
        Config::load,
        |config| &config.farm.telemetry,
        async |config, shutdown| {
            // It may be a follower for long.
            let Some(bound) = shutdown.run_until_cancelled(Box::pin(Server::bind(config))).await else {
                return Ok(());
            };
            let server = bound.map_err(|error| error.failure().of(error)).context("start")?;
            server.run(shutdown).await.context("serve")
        },
    )
}
