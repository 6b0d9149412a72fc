//! `farmer maintner status`: how fresh each source of the mutation log is, and what is wrong.

use std::{process::ExitCode, time::Duration};

use api::maintner::{GetLogStatusRequest, SourceStatus, mutation_service_client::MutationServiceClient};
use comfy_table::{Table, presets};
use serde_json::json;
use types::Timestamp;

use super::endpoint::Endpoint;
use crate::output;

/// Arguments of `farmer maintner status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Print JSON, one line for each source
    #[arg(long)]
    json: bool,
}

/// Runs `farmer maintner status`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let asked =
        MutationServiceClient::new(args.endpoint.connect()?).get_log_status(GetLogStatusRequest {}).await;
    let status = asked.map_err(|status| output::refused(&status))?.into_inner();
    if args.json {
        for source in &status.sources {
            output::line(as_json(source).to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let now = runtime::system_clock().now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "SOURCE",
        "FRESH",
        "AUDITED",
        "ALL WITHIN",
        "REPAIRED",
        "WHAT IS WRONG",
    ]);
    for source in &status.sources {
        let ago = |at: Option<&prost_types::Timestamp>| {
            at.map_or_else(|| "never".to_owned(), |at| ago(now, rpc::from_timestamp(at)))
        };
        table.add_row([
            source.source.clone(),
            ago(source.fresh_at.as_ref()),
            ago(source.audited_at.as_ref()),
            within(source).map(output::duration).unwrap_or_default(),
            source.repaired.to_string(),
            source.error.clone(),
        ]);
    }
    output::line(table.trim_fmt())?;
    output::line(format!("{} mutations, {} bytes", status.position, status.log_bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// Within what time the auditor reads all of it again.
fn within(source: &SourceStatus) -> Option<Duration> {
    source.audited_within.and_then(|within| within.try_into().ok())
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("{} ago", output::duration(now.since(at)))
}

fn as_json(source: &SourceStatus) -> serde_json::Value {
    let time = |at: Option<&prost_types::Timestamp>| at.map(ToString::to_string);
    json!({
        "source": source.source,
        "fresh_at": time(source.fresh_at.as_ref()),
        "audited_at": time(source.audited_at.as_ref()),
        "audited_within_seconds": within(source).map(|within| within.as_secs()),
        "repaired": source.repaired,
        "error": source.error,
    })
}
