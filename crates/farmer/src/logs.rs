//! `farmer logs`: the merged log of a build.

use std::{io::Write, process::ExitCode};

use api::coordinator::ReadLogRequest;
use base64::Engine as _;
use serde_json::json;

use crate::{cli::FarmArgs, farm::Location, output, progress::Patience};

/// Arguments of `farmer logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build
    number: u64,
    /// The attempt [default: the last]
    #[arg(long)]
    attempt: Option<u32>,
    /// Go on until the build ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer logs`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let mut position = 0;
    let mut patience = Patience::default();
    loop {
        let request = ReadLogRequest {
            number: args.number,
            attempt: args.attempt.unwrap_or(0),
            offset: position,
            follow: args.follow,
            limit: 0,
        };
        // A broken stream is taken up where it broke.
        match copy(&farm, request, &mut position, args.farm.json).await {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(status) => patience.after(&status).await?,
        }
    }
}

async fn copy(
    farm: &Location,
    request: ReadLogRequest,
    position: &mut u64,
    json: bool,
) -> Result<(), tonic::Status> {
    let local = |error: anyhow::Error| tonic::Status::internal(format!("{error:#}"));
    let mut stream = farm.builds().map_err(local)?.read_log(request).await?.into_inner();
    while let Some(piece) = stream.message().await? {
        print(piece.offset, &piece.data, json).map_err(local)?;
        *position = piece.offset + piece.data.len() as u64;
    }
    Ok(())
}

fn print(offset: u64, data: &[u8], json: bool) -> anyhow::Result<()> {
    if !json {
        return Ok(std::io::stdout().lock().write_all(data)?);
    }
    let piece = if let Ok(text) = std::str::from_utf8(data) {
        json!({ "offset": offset, "text": text })
    } else {
        json!({ "offset": offset, "base64": base64::engine::general_purpose::STANDARD.encode(data) })
    };
    output::line(piece.to_string())
}
