//! Entry point: what is of this service alone; `runtime` has the rest.

use std::process::ExitCode;

use anyhow::Context as _;
use gopherbot::{Config, Server};
use runtime::service::Service;

fn main() -> ExitCode {
    let service = Service {
        name: "gopherbot",
        about: "The bot: rules over the mutation stream, acting on GitHub and Gerrit",
        version: env!("CARGO_PKG_VERSION"),
    };
    service.main(
        Config::load,
        |config| &config.telemetry,
        async |config, shutdown| {
            let server =
                Server::bind(config).await.map_err(|error| error.failure().of(error)).context("start")?;
            server.run(shutdown).await.context("serve")
        },
    )
}
