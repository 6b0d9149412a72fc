//! `farmer maintner stats`: how much there is of everything, and what reading it costs.

use std::{path::PathBuf, process::ExitCode};

use api::maintner::{
    GetLogStatusRequest, GetStatisticsRequest, mutation_service_client::MutationServiceClient,
    query_service_client::QueryServiceClient,
};
use maintner::snapshot;
use serde_json::{Map, Value, json};
use tokio::{task::spawn_blocking, time::Instant};

use super::endpoint::Endpoint;
use crate::output;

/// Arguments of `farmer maintner stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder with a log, which may be in use; without one a farm is asked
    dir: Option<PathBuf>,
    #[command(flatten)]
    endpoint: Endpoint,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `farmer maintner stats`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let answer = match args.dir {
        Some(dir) => of_folder(dir).await?,
        None => of_farm(&args.endpoint).await?,
    };
    if args.json {
        output::line(Value::Object(answer).to_string())?;
    } else {
        print(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn of_folder(dir: PathBuf) -> anyhow::Result<Map<String, Value>> {
    let begun = Instant::now();
    let opened = spawn_blocking(move || snapshot::open(&dir)).await?;
    let (corpus, opened) = opened.map_err(|error| anyhow::Error::new(error).context("read the log"))?;
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    let statistics = corpus.statistics();
    let mut answer = objects(corpus.counts());
    answer.insert("mutations".into(), statistics.mutations.into());
    answer.insert("skipped".into(), statistics.skipped.into());
    answer.insert("malformed".into(), statistics.malformed.into());
    answer.insert("segments_from_snapshot".into(), opened.from_snapshot.into());
    answer.insert("mutations_read".into(), opened.replayed.mutations.into());
    answer.insert("bytes_read".into(), opened.replayed.bytes.into());
    answer.insert("elapsed_ms".into(), json!((milliseconds * 10.0).round() / 10.0));
    if let (Some(anonymous), Some(resident)) = (memory("RssAnon"), memory("VmRSS")) {
        answer.insert("anonymous_memory_bytes".into(), anonymous.into());
        answer.insert("resident_memory_bytes".into(), resident.into());
    }
    Ok(answer)
}

async fn of_farm(endpoint: &Endpoint) -> anyhow::Result<Map<String, Value>> {
    let channel = endpoint.connect()?;
    let begun = Instant::now();
    let asked = QueryServiceClient::new(channel.clone()).get_statistics(GetStatisticsRequest {}).await;
    let statistics = asked.map_err(|status| output::refused(&status))?.into_inner();
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    let asked = MutationServiceClient::new(channel).get_log_status(GetLogStatusRequest {}).await;
    let status = asked.map_err(|status| output::refused(&status))?.into_inner();
    let counts = statistics.objects.iter().map(|object| (object.name.as_str(), object.count));
    let mut answer = objects(counts);
    answer.insert("mutations".into(), statistics.mutations.into());
    answer.insert("skipped".into(), statistics.skipped.into());
    answer.insert("malformed".into(), statistics.malformed.into());
    answer.insert("log_bytes".into(), status.log_bytes.into());
    answer.insert("elapsed_ms".into(), json!((milliseconds * 10.0).round() / 10.0));
    let source = |source: api::maintner::SourceStatus| {
        let time = |at: Option<prost_types::Timestamp>| at.map(|at| at.to_string());
        json!({
            "source": source.source,
            "fresh_at": time(source.fresh_at),
            "error": source.error,
            "audited_at": time(source.audited_at),
            "repaired": source.repaired,
            "votes_compared_at": time(source.votes_compared_at),
            "vote_disagreements": source.vote_disagreements,
        })
    };
    answer.insert("sources".into(), status.sources.into_iter().map(source).collect());
    Ok(answer)
}

fn objects<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Map<String, Value> {
    let counts: Map<String, Value> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    Map::from_iter([("objects".to_owned(), Value::Object(counts))])
}

/// A number of this process in bytes, if the kernel tells it.
fn memory(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn print(answer: &Map<String, Value>) -> anyhow::Result<()> {
    for (name, value) in answer {
        match value {
            Value::Object(counts) => {
                for (name, count) in counts {
                    output::line(format!("{:>12}  {}", count, name.replace('_', " ")))?;
                }
            }
            Value::Array(sources) => {
                for source in sources {
                    let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
                    let fresh =
                        if text("fresh_at").is_empty() { "never".to_owned() } else { text("fresh_at") };
                    let error =
                        if text("error").is_empty() { String::new() } else { format!(": {}", text("error")) };
                    output::line(format!("{} is fresh as of {fresh}{error}", text("source")))?;
                }
            }
            _ => output::line(format!("{value:>12}  {}", name.replace('_', " ")))?,
        }
    }
    Ok(())
}
