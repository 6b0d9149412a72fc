//! `farmer build` asks for builds of a commit; `farmer builds` lists builds or shows one.

use std::process::ExitCode;

use api::coordinator::{
    Attempt, Build, GetBuildRequest, ListBuildsRequest, Outcome, RequestBuildsRequest, Shard, Step,
};
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use crate::{cli::FarmArgs, farm::Location, output, progress};

/// Arguments of `farmer build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// A commit (all 40 digits) or a branch or tag of the farm's mirror
    revision: String,
    /// The repository, as the farm calls it [default: the only one]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only this builder; may be given again
    #[arg(long = "builder", value_name = "NAME")]
    builders: Vec<String>,
    /// Say the numbers and end, instead of waiting for the outcome
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Arguments of `farmer builds`.
#[derive(Debug, Args)]
pub(crate) struct BuildsArgs {
    /// Show this build with its steps and shards
    number: Option<u64>,
    /// Only of this builder
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Only of this commit, its first 7 digits or more
    #[arg(long)]
    commit: Option<String>,
    /// Only those that failed
    #[arg(long, conflicts_with = "active")]
    failed: bool,
    /// Only those that have not ended
    #[arg(long)]
    active: bool,
    /// How many at the most
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    farm: FarmArgs,
}

/// Runs `farmer build`.
pub(crate) async fn request(args: BuildArgs) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    let request = RequestBuildsRequest {
        repository: args.repository.unwrap_or_default(),
        revision: args.revision,
        builders: args.builders,
        request_id: runtime::new_id().to_string(),
        tests: Vec::new(),
        repeat: 0,
    };
    let answer = farm
        .builds()?
        .request_builds(rpc::request(request))
        .await
        .map_err(|status| output::refused(&status))?;
    let builds = answer.into_inner().builds;
    if args.no_wait {
        for build in &builds {
            if args.farm.json {
                output::line(build_json(build).to_string())?;
            } else {
                output::line(format!("{}  {}  {}{}", build.number, build.builder, farm.url, build.page))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    progress::follow(&farm, builds, args.farm.json).await
}

/// Runs `farmer builds`.
pub(crate) async fn list_or_show(args: BuildsArgs) -> anyhow::Result<ExitCode> {
    let farm = args.farm.location()?;
    match args.number {
        Some(number) => show(&farm, number, args.farm.json).await?,
        None => list(&farm, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(farm: &Location, args: &BuildsArgs) -> anyhow::Result<()> {
    let request = ListBuildsRequest {
        page_size: args.limit.cast_signed(),
        page_token: String::new(),
        builder: args.builder.clone().unwrap_or_default(),
        commit: args.commit.clone().unwrap_or_default(),
        outcome: if args.failed { Outcome::Failed.into() } else { Outcome::Unspecified.into() },
        active: args.active,
    };
    let answer =
        farm.builds()?.list_builds(rpc::request(request)).await.map_err(|status| output::refused(&status))?;
    let builds = answer.into_inner().builds;
    if args.farm.json {
        return builds.iter().try_for_each(|build| output::line(build_json(build).to_string()));
    }
    if builds.is_empty() {
        return output::line("no builds match");
    }
    let mut table = table(&["build", "state", "took", "builder", "commit", "subject"]);
    for build in &builds {
        let took = output::elapsed(build.started, build.ended).map(output::duration).unwrap_or_default();
        table.add_row([
            build.number.to_string(),
            output::coloured(build),
            took,
            build.builder.clone(),
            short(&build.commit).to_owned(),
            cut(&build.subject, 60),
        ]);
    }
    output::line(table.trim_fmt())
}

async fn show(farm: &Location, number: u64, json: bool) -> anyhow::Result<()> {
    let build = get(farm, number).await?;
    if json {
        return output::line(build_json(&build).to_string());
    }
    output::line(headline(&build))?;
    output::line(format!("{}{}", farm.url, build.page))?;
    for attempt in &build.attempts {
        show_attempt(attempt)?;
    }
    Ok(())
}

fn show_attempt(attempt: &Attempt) -> anyhow::Result<()> {
    let took = output::elapsed(attempt.started, attempt.ended).map(output::duration).unwrap_or_default();
    output::line(format!("\nattempt {}  {took}  {}", attempt.number, attempt.reason))?;
    let mut steps = table(&["step", "machine", "took", "", ""]);
    for step in attempt.steps.iter().filter(|step| step.shard == 0) {
        steps.add_row([
            phase_word(step).to_owned(),
            step.machine.clone(),
            output::elapsed(step.started, step.ended).map(output::duration).unwrap_or_default(),
            outcome_word(step.outcome()).to_owned(),
            step.detail.clone(),
        ]);
    }
    if steps.row_count() > 0 {
        output::line(steps.trim_fmt())?;
    }
    if attempt.shards.is_empty() {
        return Ok(());
    }
    let mut shards = table(&["shard", "tests", "machine", "took", "", ""]);
    for shard in &attempt.shards {
        shards.add_row([
            shard.number.to_string(),
            tests(shard),
            shard.machine.clone(),
            output::elapsed(shard.started, shard.ended).map(output::duration).unwrap_or_default(),
            if shard.flaky { "FLAKY" } else { outcome_word(shard.outcome()) }.to_owned(),
            shard.note.clone(),
        ]);
    }
    output::line(shards.trim_fmt())
}

/// One build with its attempts.
pub(crate) async fn get(farm: &Location, number: u64) -> anyhow::Result<Build> {
    let request = rpc::request(GetBuildRequest { number });
    let answer = farm.builds()?.get_build(request).await.map_err(|status| output::refused(&status))?;
    answer.into_inner().build.ok_or_else(|| output::infrastructure("the farm answered no build"))
}

/// What the build is and where it stands, in one line.
pub(crate) fn headline(build: &Build) -> String {
    let state = output::coloured(build);
    let took =
        output::elapsed(build.started, build.ended).map(|took| format!(" in {}", output::duration(took)));
    let reason = match (&build.waits_for, build.reason.as_str()) {
        (Some(wait), _) => format!(": {}", wait.text),
        (None, "") => String::new(),
        (None, reason) => format!(": {reason}"),
    };
    let took = took.unwrap_or_default();
    format!("{state} {} at {} (build {}){took}{reason}", build.builder, short(&build.commit), build.number)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.iter().copied());
    table
}

fn tests(shard: &Shard) -> String {
    match shard.tests.as_slice() {
        [only] if shard.test_count == 1 => cut(only, 40),
        [first, ..] => format!("{} and {} more", cut(first, 32), shard.test_count - 1),
        [] => shard.test_count.to_string(),
    }
}

fn phase_word(step: &Step) -> &'static str {
    step.phase().as_str_name().trim_start_matches("PHASE_")
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unspecified => "",
        other => other.as_str_name().trim_start_matches("OUTCOME_"),
    }
}

/// The first eight digits of a commit.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The stable JSON of a build: names as in `build.proto`, times in RFC 3339, outcomes and phases as lower-case words.
pub(crate) fn build_json(build: &Build) -> Value {
    let word = |name: &str| name.to_ascii_lowercase();
    json!({
        "number": build.number,
        "builder": build.builder,
        "repository": build.repository,
        "commit": build.commit,
        "subject": build.subject,
        "ref": build.r#ref,
        "is_try": build.is_try,
        "outcome": outcome_json(build.outcome()),
        "reason": build.reason,
        "phase": word(build.phase().as_str_name().trim_start_matches("PHASE_")),
        "created": time(build.created),
        "started": time(build.started),
        "ended": time(build.ended),
        "waits_for": build.waits_for.as_ref().map(|wait| json!({
            "code": wait.code, "text": wait.text, "unblock": wait.unblock, "since": time(wait.since),
        })),
        "shards_done": build.shards_done,
        "shards_total": build.shards_total,
        "flakes": build.flakes,
        "page": build.page,
        "attempts": build.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
    })
}

fn attempt_json(attempt: &Attempt) -> Value {
    json!({
        "number": attempt.number,
        "outcome": outcome_json(attempt.outcome()),
        "reason": attempt.reason,
        "started": time(attempt.started),
        "ended": time(attempt.ended),
        "steps": attempt.steps.iter().map(|step| json!({
            "phase": phase_word(step).to_ascii_lowercase(),
            "machine": step.machine,
            "shard": step.shard,
            "started": time(step.started),
            "ended": time(step.ended),
            "outcome": outcome_json(step.outcome()),
            "detail": step.detail,
        })).collect::<Vec<_>>(),
        "shards": attempt.shards.iter().map(|shard| json!({
            "number": shard.number,
            "tests": shard.tests,
            "test_count": shard.test_count,
            "outcome": outcome_json(shard.outcome()),
            "machine": shard.machine,
            "tries": shard.tries,
            "started": time(shard.started),
            "ended": time(shard.ended),
            "note": shard.note,
            "flaky": shard.flaky,
        })).collect::<Vec<_>>(),
    })
}

pub(crate) fn outcome_json(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Unspecified => Value::Null,
        other => other.as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase().into(),
    }
}

fn time(time: Option<prost_types::Timestamp>) -> Value {
    let Some(time) = time else { return Value::Null };
    jiff::Timestamp::new(time.seconds, time.nanos).map_or(Value::Null, |time| time.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_null_for_what_has_not_happened() {
        let json = build_json(&Build { number: 7, builder: "b".to_owned(), ..Build::default() });
        assert_eq!(json["number"], 7);
        assert!(json["outcome"].is_null() && json["started"].is_null() && json["waits_for"].is_null());
    }

    #[test]
    fn long_subjects_are_cut_between_characters() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äö", 2), "äö");
    }
}
