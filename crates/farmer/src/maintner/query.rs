//! `farmer maintner query`: what the log says now, one line for each object.

mod show;

use std::process::ExitCode;

use api::{
    apipb::{
        DashboardRequest, GoFindTryWorkRequest, HasAncestorRequest, ListGoReleasesRequest,
        maintner_service_client::MaintnerServiceClient,
    },
    maintner::{
        ChangeStatus, GetChangeRequest, GetCommitRequest, GetIssueRequest, IssueKind, IssueState,
        ListChangesRequest, ListIssuesRequest, ListRefsRequest, SearchCommentsRequest,
        query_service_client::QueryServiceClient,
    },
};
use clap::ValueEnum;
use rpc::Channel;
use serde_json::Value;
use tonic::Status;

use super::endpoint::Endpoint;
use crate::output;

/// Arguments of `farmer maintner query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
    /// Print JSON, one line for each object
    #[arg(long, global = true)]
    json: bool,
    /// Print at most so many objects
    #[arg(long, global = true, default_value_t = 100)]
    limit: u16,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, clap::Subcommand)]
enum Question {
    /// Where the refs of a repository stand
    Refs {
        /// The farm's name of a repository, or host/project of one at Gerrit
        repository: String,
        /// Only refs whose names begin with this
        #[arg(default_value = "")]
        prefix: String,
    },
    /// A commit, with the files that it changed
    Commit {
        /// 40 hexadecimal digits
        commit: String,
    },
    /// The changes of a project at Gerrit
    Changes {
        /// host/project
        project: String,
        /// Only changes with this status
        #[arg(long)]
        status: Option<ChangeState>,
        /// Only changes of this owner, as account@server
        #[arg(long, default_value = "")]
        owner: String,
        /// Only changes with this hashtag
        #[arg(long, default_value = "")]
        hashtag: String,
    },
    /// A change with what was said of it
    Change {
        /// host/project
        project: String,
        /// Its number
        number: u32,
    },
    /// The issues and pull requests of a repository at GitHub
    Issues {
        /// owner/name
        repository: String,
        /// Only open ones, or closed ones
        #[arg(long)]
        state: Option<State>,
        /// Only those with this label, or with all of several
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
        /// Only issues, or only pull requests
        #[arg(long)]
        kind: Option<Kind>,
    },
    /// An issue with its comments
    Issue {
        /// owner/name
        repository: String,
        /// Its number
        number: i32,
    },
    /// Comments that have a word in them
    Search {
        /// The whole word, case as given
        word: String,
    },
    /// Whether a commit can be reached from another
    HasAncestor {
        /// 40 hexadecimal digits
        commit: String,
        /// 40 hexadecimal digits
        ancestor: String,
    },
    /// The supported releases of Go
    GoReleases,
    /// The changes of the Go project that are to be tried
    GoTryWork,
    /// The commits that Go's dashboard shows
    GoDashboard {
        /// `go`, or an import path
        #[arg(default_value = "go")]
        repository: String,
        /// A branch, or `mixed`
        #[arg(long, default_value = "master")]
        branch: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChangeState {
    New,
    Merged,
    Abandoned,
    Draft,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Issue,
    Pull,
}

/// An object as text and as JSON.
struct Shown {
    text: String,
    json: Value,
}

/// Runs `farmer maintner query`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let channel = args.endpoint.connect()?;
    let answered = match &args.question {
        Question::HasAncestor { .. }
        | Question::GoReleases
        | Question::GoTryWork
        | Question::GoDashboard { .. } => ask_as_go(channel, &args).await,
        _ => ask(channel, &args).await,
    };
    for shown in answered.map_err(|status| output::refused(&status))? {
        output::line(if args.json { shown.json.to_string() } else { shown.text })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Objects from page to page, up to a limit. `fetch` is given how many are wanted yet, and the token of the page.
async fn pages(
    limit: u16,
    mut fetch: impl AsyncFnMut(i32, String) -> Result<(Vec<Shown>, String), Status>,
) -> Result<Vec<Shown>, Status> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let wanted = usize::from(limit) - all.len();
        let (page, next) = fetch(i32::try_from(wanted).unwrap_or(i32::MAX), token).await?;
        all.extend(page);
        all.truncate(usize::from(limit));
        if next.is_empty() || all.len() == usize::from(limit) {
            return Ok(all);
        }
        token = next;
    }
}

async fn ask(channel: Channel, args: &Args) -> Result<Vec<Shown>, Status> {
    let mut client = QueryServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
    match &args.question {
        Question::Commit { commit } => {
            let request = GetCommitRequest { commit: commit.clone(), with_files: true };
            let commit = client.get_commit(request).await?.into_inner().commit.unwrap_or_default();
            Ok(vec![show::commit(&commit)])
        }
        Question::Change { project, number } => {
            let request = GetChangeRequest { project: project.clone(), number: *number };
            Ok(vec![show::whole_change(&client.get_change(request).await?.into_inner())])
        }
        Question::Refs { repository, prefix } => {
            pages(args.limit, async |page_size, page_token| {
                let (repository, prefix) = (repository.clone(), prefix.clone());
                let request = ListRefsRequest { repository, prefix, page_size, page_token };
                let page = client.list_refs(request).await?.into_inner();
                Ok((page.refs.iter().map(show::one_ref).collect(), page.next_page_token))
            })
            .await
        }
        Question::Issue { repository, number } => {
            pages(args.limit, async |page_size, page_token| {
                let (repository, number) = (repository.clone(), *number);
                let first = page_token.is_empty();
                let request = GetIssueRequest { repository, number, page_size, page_token };
                let page = client.get_issue(request).await?.into_inner();
                let issue = first.then(|| show::whole_issue(&page));
                let shown = issue.into_iter().chain(page.comments.iter().map(show::comment));
                Ok((shown.collect(), page.next_page_token))
            })
            .await
        }
        Question::Search { word } => {
            pages(args.limit, async |page_size, page_token| {
                let request = SearchCommentsRequest { word: word.clone(), page_size, page_token };
                let page = client.search_comments(request).await?.into_inner();
                Ok((page.comments.iter().map(show::comment).collect(), page.next_page_token))
            })
            .await
        }
        _ => list(client, args).await,
    }
}

/// Changes and issues.
async fn list(mut client: QueryServiceClient<Channel>, args: &Args) -> Result<Vec<Shown>, Status> {
    match &args.question {
        Question::Changes { project, status, owner, hashtag } => {
            let status = status.map_or(ChangeStatus::Unspecified, ChangeState::number);
            pages(args.limit, async |page_size, page_token| {
                let request = ListChangesRequest {
                    project: project.clone(),
                    status: status.into(),
                    owner: owner.clone(),
                    hashtag: hashtag.clone(),
                    page_size,
                    page_token,
                };
                let page = client.list_changes(request).await?.into_inner();
                Ok((page.changes.iter().map(show::change).collect(), page.next_page_token))
            })
            .await
        }
        Question::Issues { repository, state, labels, kind } => {
            let state = match state {
                None => IssueState::Unspecified,
                Some(State::Open) => IssueState::Open,
                Some(State::Closed) => IssueState::Closed,
            };
            let kind = match kind {
                None => IssueKind::Unspecified,
                Some(Kind::Issue) => IssueKind::Issue,
                Some(Kind::Pull) => IssueKind::PullRequest,
            };
            pages(args.limit, async |page_size, page_token| {
                let request = ListIssuesRequest {
                    repository: repository.clone(),
                    state: state.into(),
                    labels: labels.clone(),
                    kind: kind.into(),
                    updated_since: None,
                    page_size,
                    page_token,
                };
                let page = client.list_issues(request).await?.into_inner();
                Ok((page.issues.iter().map(show::issue).collect(), page.next_page_token))
            })
            .await
        }
        _ => Ok(Vec::new()),
    }
}

impl ChangeState {
    fn number(self) -> ChangeStatus {
        match self {
            Self::New => ChangeStatus::New,
            Self::Merged => ChangeStatus::Merged,
            Self::Abandoned => ChangeStatus::Abandoned,
            Self::Draft => ChangeStatus::Draft,
        }
    }
}

/// The questions that Go's programs ask.
async fn ask_as_go(channel: Channel, args: &Args) -> Result<Vec<Shown>, Status> {
    let mut client = MaintnerServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
    match &args.question {
        Question::HasAncestor { commit, ancestor } => {
            let request = HasAncestorRequest { commit: commit.clone(), ancestor: ancestor.clone() };
            Ok(vec![show::ancestry(client.has_ancestor(request).await?.into_inner())])
        }
        Question::GoReleases => {
            let answer = client.list_go_releases(ListGoReleasesRequest {}).await?.into_inner();
            Ok(answer.releases.iter().map(show::release).collect())
        }
        Question::GoTryWork => {
            let answer = client.go_find_try_work(GoFindTryWorkRequest::default()).await?.into_inner();
            Ok(answer.waiting.iter().map(show::work).collect())
        }
        Question::GoDashboard { repository, branch } => {
            let request = DashboardRequest {
                page: 0,
                repo: repository.clone(),
                branch: branch.clone(),
                max_commits: i32::from(args.limit),
            };
            let answer = client.get_dashboard(request).await?.into_inner();
            Ok(answer.commits.iter().map(show::dashboard_commit).collect())
        }
        _ => Ok(Vec::new()),
    }
}
