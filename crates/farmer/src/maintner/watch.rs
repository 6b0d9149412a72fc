//! `farmer maintner watch`: one line for each mutation, as it is appended.

use std::process::ExitCode;

use api::{
    maintner::{MutationFilter, MutationKind},
    maintpb::{GitRef, Mutation},
};
use clap::ValueEnum;
use maintner::{FollowError, Start, Update, follow_filtered};
use tokio_util::sync::CancellationToken;

use super::endpoint::Endpoint;
use crate::output;

/// Arguments of `farmer maintner watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Begin with the first mutation of the log, not with the next
    #[arg(long)]
    all: bool,
    /// End when everything that is there was printed
    #[arg(long)]
    once: bool,
    /// Only what belongs to this repository: the farm's name of it, or `owner/name` at GitHub
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<String>,
    /// Only what belongs to this project at Gerrit, as `host/project`
    #[arg(long = "project", value_name = "PROJECT")]
    projects: Vec<String>,
    /// Only mutations of this kind
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<Kind>,
}

/// A kind of mutation, as the command line says it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Issue,
    Commit,
    Github,
    Gerrit,
    Refs,
    Build,
}

impl Kind {
    fn number(self) -> i32 {
        let kind = match self {
            Self::Issue => MutationKind::GithubIssue,
            Self::Commit => MutationKind::GitCommit,
            Self::Github => MutationKind::GithubRepository,
            Self::Gerrit => MutationKind::GerritProject,
            Self::Refs => MutationKind::Repository,
            Self::Build => MutationKind::BuildResult,
        };
        kind as i32
    }
}

/// Runs `farmer maintner watch`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let channel = args.endpoint.connect()?;
    let filter = MutationFilter {
        repositories: args.repositories,
        projects: args.projects,
        kinds: args.kinds.iter().map(|kind| kind.number()).collect(),
    };
    let start = if args.all || args.once { Start::Beginning } else { Start::Now };
    let (stop, end) = (CancellationToken::new(), args.once);
    let ended = stop.clone();
    let print = |update: Update| {
        let printed = match update {
            Update::Batch { mutations, .. } => {
                mutations.iter().try_for_each(|mutation| output::line(describe(mutation)))
            }
            Update::CaughtUp { .. } => {
                if end {
                    ended.cancel();
                }
                Ok(())
            }
            Update::Restarted => output::line("the log is another one now: it begins again"),
        };
        async move { printed }
    };
    tokio::select! {
        followed = follow_filtered(channel, start, filter, stop, print) => match followed {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(FollowError::Refused(status)) => Err(output::refused(&status)),
            Err(FollowError::Handler(error)) => Err(error),
        },
        () = runtime::shutdown_signal() => Ok(ExitCode::SUCCESS),
    }
}

/// What a mutation is about, on one line.
fn describe(mutation: &Mutation) -> String {
    let mut parts = Vec::new();
    if let Some(issue) = &mutation.github_issue {
        let what = if issue.title.is_empty() { String::new() } else { format!(": {}", issue.title) };
        let comments = match issue.comment.len() {
            0 => String::new(),
            count => format!(", {count} comments"),
        };
        let pull =
            issue.pull.as_ref().map(|pull| format!(", {} for {}", short(&pull.head_sha), pull.base_ref));
        let checks = issue.checks.as_ref().map(|checks| format!(", {} checks", checks.checks.len()));
        let more = comments + &pull.unwrap_or_default() + &checks.unwrap_or_default();
        parts.push(format!("issue   {}/{}#{}{what}{more}", issue.owner, issue.repo, issue.number));
    }
    if let Some(git) = &mutation.git {
        let repository = git.repo.as_ref().map(|repo| repo.go_repo.as_str()).unwrap_or_default();
        let commit = git.commit.as_ref();
        let raw = commit.map(|commit| String::from_utf8_lossy(&commit.raw)).unwrap_or_default();
        let subject = raw.split_once("\n\n").map(|(_, message)| message.lines().next().unwrap_or_default());
        let name = commit.map(|commit| short(&commit.sha1)).unwrap_or_default();
        parts.push(format!("commit  {repository} {name} {}", subject.unwrap_or_default()));
    }
    if let Some(github) = &mutation.github {
        let (labels, milestones) = (github.labels.len(), github.milestones.len());
        parts.push(format!(
            "github  {}/{}: {labels} labels, {milestones} milestones",
            github.owner, github.repo
        ));
    }
    if let Some(gerrit) = &mutation.gerrit {
        let moved = refs(&gerrit.refs, &gerrit.deleted_refs);
        parts.push(format!("gerrit  {}: {} commits{moved}", gerrit.project, gerrit.commits.len()));
    }
    if let Some(repository) = &mutation.repository {
        let moved = refs(&repository.refs, &repository.deleted_refs);
        parts.push(format!("refs    {}{moved}", repository.repository));
    }
    if let Some(result) = &mutation.build_result {
        let commit = short(&result.commit);
        parts.push(format!(
            "build   {}.{} {} {commit} on {}: {}",
            result.build, result.attempt, result.repository, result.builder, result.outcome
        ));
    }
    if parts.is_empty() { "something that this program does not know".into() } else { parts.join(" + ") }
}

fn refs(moved: &[GitRef], deleted: &[String]) -> String {
    let moved = moved.iter().map(|one| format!(", {} is {}", one.r#ref, short(&one.sha1)));
    let deleted = deleted.iter().map(|name| format!(", {name} is gone"));
    moved.chain(deleted).collect()
}

fn short(hash: &str) -> &str {
    hash.get(..10).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use api::maintpb::{BuildResult, GitCommit, GitMutation, GitRepo, RepositoryMutation};

    use super::*;

    #[test]
    fn a_mutation_is_one_line() {
        let raw = "tree 0\n\nsubject\n\nbody\n".into();
        let commit = GitCommit { sha1: "0123456789abcdef".into(), raw, diff_tree: None };
        let repo = Some(GitRepo { go_repo: "one".into() });
        let git = Mutation { git: Some(GitMutation { repo, commit: Some(commit) }), ..Mutation::default() };
        assert_eq!(describe(&git), "commit  one 0123456789 subject");
        let refs = RepositoryMutation {
            repository: "one".into(),
            refs: vec![GitRef { r#ref: "refs/heads/main".into(), sha1: "ab".into() }],
            deleted_refs: vec!["refs/heads/old".into()],
        };
        let refs = Mutation { repository: Some(refs), ..Mutation::default() };
        assert_eq!(describe(&refs), "refs    one, refs/heads/main is ab, refs/heads/old is gone");
        let result = BuildResult { build: 7, attempt: 1, outcome: "passed".into(), ..BuildResult::default() };
        let result = Mutation { build_result: Some(result), ..Mutation::default() };
        assert_eq!(describe(&result), "build   7.1   on : passed");
        assert_eq!(describe(&Mutation::default()), "something that this program does not know");
    }
}
