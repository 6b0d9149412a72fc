//! Questions: what the log says, page by page, over the wire. What the answers are made of is tested with the corpus.

use api::{
    apipb::{
        DashboardRequest, GetRefRequest, GoFindTryWorkRequest, HasAncestorRequest, ListGoReleasesRequest,
        maintner_service_client::MaintnerServiceClient,
    },
    maintner::{
        ChangeStatus, GetChangeRequest, GetCommitRequest, GetIssueRequest, GetStatisticsRequest, IssueState,
        ListChangesRequest, ListIssuesRequest, ListRefsRequest, SearchCommentsRequest,
        query_service_client::QueryServiceClient,
    },
};
use maintner::{
    Corpus,
    core::Status,
    generate::{self, Layout, Scale},
    search::comments_with_word,
};
use rpc::Channel;
use tonic::Code;

use crate::{World, results, within};

/// A maintnerd with a log of a project that never was, and the corpus of that log.
struct Asked {
    world: World,
    corpus: Corpus,
    client: QueryServiceClient<Channel>,
    compat: MaintnerServiceClient<Channel>,
}

impl Asked {
    async fn start() -> Self {
        let mut expected = None;
        let world = World::with(|config| {
            let dir = config.data.join("log");
            generate::write(&dir, 5, Scale::TINY, Layout::Segments).unwrap();
            expected = Some(maintner::replay(&dir).unwrap().0);
        })
        .await;
        let client = QueryServiceClient::new(world.channel()).max_decoding_message_size(rpc::MAX_MESSAGE);
        let compat = MaintnerServiceClient::new(world.channel());
        Self { world, corpus: expected.unwrap(), client, compat }
    }
}

#[tokio::test]
async fn an_answer_counts_what_is_there_and_a_watch_from_it_misses_nothing() {
    let Asked { world, corpus, mut client, .. } = Asked::start().await;
    let statistics = within(client.get_statistics(GetStatisticsRequest {})).await.unwrap().into_inner();
    let objects: Vec<(&str, u64)> = statistics.objects.iter().map(|one| (&*one.name, one.count)).collect();
    assert_eq!(objects, corpus.counts());
    assert_eq!(statistics.mutations, corpus.statistics().mutations);
    results::append(&world, vec![results::result(7, 1, "passed")]).await.unwrap();
    let (next, _) = world.watch(&statistics.resume_token).await.take(1).await;
    assert_eq!(crate::words(&next[0]), "build 7.1 passed");
    let after = within(client.get_statistics(GetStatisticsRequest {})).await.unwrap().into_inner();
    assert_eq!(after.mutations, statistics.mutations + 1);
    world.end().await;
}

#[tokio::test]
async fn refs_and_commits_are_those_of_the_log() {
    let Asked { world, corpus, mut client, .. } = Asked::start().await;
    let project = corpus.gerrit().projects().next().unwrap();
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRefsRequest {
            repository: project.name().into(),
            prefix: "refs/".into(),
            page_size: 1,
            page_token,
        };
        let page = within(client.list_refs(request)).await.unwrap().into_inner();
        found.extend(page.refs.into_iter().map(|one| (one.name, one.commit)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let refs = project.refs().filter(|(name, _)| name.starts_with("refs/"));
    let expected: Vec<_> = refs.map(|(name, commit)| (name.to_owned(), commit.to_string())).collect();
    assert!(expected.len() > 1);
    assert_eq!(found, expected);
    let known = corpus.commits().find(|commit| commit.files().next().is_some()).unwrap();
    let request = GetCommitRequest { commit: known.hash().to_string(), with_files: true };
    let commit = within(client.get_commit(request)).await.unwrap().into_inner().commit.unwrap();
    assert_eq!((commit.message, commit.author), (known.message().into_owned(), known.author().to_owned()));
    assert_eq!(commit.files.len(), known.files().count());
    world.end().await;
}

#[tokio::test]
async fn changes_and_issues_are_listed_page_by_page() {
    let Asked { world, corpus, mut client, .. } = Asked::start().await;
    let project = corpus.gerrit().projects().max_by_key(|project| project.changes().count()).unwrap();
    let expected: Vec<u32> = project
        .changes()
        .rev()
        .filter(|change| change.status() == Status::Merged)
        .map(|change| change.number())
        .collect();
    let mut request = ListChangesRequest {
        project: project.name().into(),
        status: ChangeStatus::Merged.into(),
        page_size: 2,
        ..ListChangesRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page = within(client.list_changes(request.clone())).await.unwrap().into_inner();
        found.extend(page.changes.iter().map(|change| change.number));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert!(expected.len() > 2);
    assert_eq!(found, expected);
    let repository = corpus.github().repositories().max_by_key(|one| one.issues().count()).unwrap();
    let name = format!("{}/{}", repository.owner(), repository.name());
    let request = ListIssuesRequest {
        repository: name.clone(),
        state: IssueState::Open.into(),
        page_size: 1000,
        ..ListIssuesRequest::default()
    };
    let page = within(client.list_issues(request)).await.unwrap().into_inner();
    let open: Vec<i32> =
        repository.issues().rev().filter(|issue| !issue.is_closed()).map(|issue| issue.number()).collect();
    assert_eq!(page.issues.iter().map(|issue| issue.number).collect::<Vec<_>>(), open);
    world.end().await;
}

#[tokio::test]
async fn one_change_and_one_issue_are_shown_with_all_that_belongs_to_them() {
    let Asked { world, corpus, mut client, .. } = Asked::start().await;
    let change = corpus.gerrit().changes().max_by_key(|change| change.messages().count()).unwrap();
    let request = GetChangeRequest { project: change.project().name().into(), number: change.number() };
    let shown = within(client.get_change(request)).await.unwrap().into_inner();
    let texts: Vec<String> = change.messages().map(|message| message.text.into_owned()).collect();
    assert_eq!(shown.messages.iter().map(|message| message.text.clone()).collect::<Vec<_>>(), texts);
    assert_eq!(shown.patch_sets.len(), change.patch_sets().count());
    let about = shown.change.unwrap();
    assert_eq!((about.subject, about.votes.len()), (change.subject(), change.votes().count()));
    let all = corpus.github();
    let issue = all.repositories().flat_map(|one| one.issues().collect::<Vec<_>>());
    let issue = issue.max_by_key(|issue| issue.comments().len()).unwrap();
    let repository = format!("{}/{}", issue.repository().owner(), issue.repository().name());
    let (mut bodies, mut token) = (Vec::new(), String::new());
    loop {
        let number = issue.number();
        let request =
            GetIssueRequest { repository: repository.clone(), number, page_size: 2, page_token: token };
        let page = within(client.get_issue(request)).await.unwrap().into_inner();
        assert_eq!(page.body, issue.body());
        bodies.extend(page.comments.into_iter().map(|comment| comment.body));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert!(bodies.len() > 2);
    assert_eq!(bodies, issue.comments().map(|comment| comment.body().into_owned()).collect::<Vec<_>>());
    let issue = all.repositories().flat_map(|one| one.issues().collect::<Vec<_>>());
    let issue = issue.max_by_key(|issue| issue.checks().map_or(0, |checks| checks.checks.len())).unwrap();
    let repository = format!("{}/{}", issue.repository().owner(), issue.repository().name());
    let request = GetIssueRequest { repository, number: issue.number(), ..GetIssueRequest::default() };
    let shown = within(client.get_issue(request)).await.unwrap().into_inner().pull_request.unwrap();
    let pull = issue.pull().unwrap();
    assert_eq!((&shown.head, &shown.base_ref, shown.draft), (&pull.head_sha, &pull.base_ref, pull.draft));
    let checks: Vec<String> = shown.checks.into_iter().map(|check| check.name).collect();
    assert_eq!(checks, ["build", "cla", "vet"]);
    world.end().await;
}

#[tokio::test]
async fn a_word_is_found_page_by_page() {
    let Asked { world, corpus, mut client, .. } = Asked::start().await;
    let expected: Vec<i64> =
        comments_with_word(&corpus, "nil", 1).iter().map(maintner::core::Comment::id).collect();
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = SearchCommentsRequest { word: "nil".into(), page_size: 3, page_token };
        let page = within(client.search_comments(request)).await.unwrap().into_inner();
        assert_eq!(page.total, expected.len() as u64);
        found.extend(page.comments.iter().map(|comment| comment.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(expected.len() > 3);
    assert_eq!(found, expected);
    world.end().await;
}

#[tokio::test]
async fn questions_that_make_no_sense_are_told_why() {
    let Asked { world, mut client, mut compat, .. } = Asked::start().await;
    let refs = |repository: &str, page_token: &str| ListRefsRequest {
        repository: repository.into(),
        page_token: page_token.into(),
        ..ListRefsRequest::default()
    };
    let issue = GetIssueRequest { repository: "golang/go".into(), number: -3, ..GetIssueRequest::default() };
    let change = GetChangeRequest { project: "go.googlesource.com/go".into(), number: 1 };
    let commit = |commit: &str| GetCommitRequest { commit: commit.into(), with_files: false };
    let search = SearchCommentsRequest::default();
    let gerrit = GetRefRequest { gerrit_project: "none".into(), ..GetRefRequest::default() };
    let ancestor = HasAncestorRequest { commit: "abc".into(), ancestor: "0".repeat(40) };
    for (status, code, reason) in [
        (client.list_refs(refs("none", "")).await.unwrap_err(), Code::NotFound, "UNKNOWN_REPOSITORY"),
        (client.list_refs(refs("none", "x")).await.unwrap_err(), Code::InvalidArgument, "BAD_PAGE_TOKEN"),
        (client.get_issue(issue).await.unwrap_err(), Code::NotFound, "UNKNOWN_ISSUE"),
        (client.get_change(change).await.unwrap_err(), Code::NotFound, "UNKNOWN_CHANGE"),
        (client.get_commit(commit("HEAD")).await.unwrap_err(), Code::InvalidArgument, "BAD_COMMIT"),
        (client.get_commit(commit(&"0".repeat(40))).await.unwrap_err(), Code::NotFound, "UNKNOWN_COMMIT"),
        (client.search_comments(search).await.unwrap_err(), Code::InvalidArgument, "BAD_FILTER"),
        (compat.get_ref(gerrit).await.unwrap_err(), Code::NotFound, "UNKNOWN_REPOSITORY"),
        (compat.has_ancestor(ancestor).await.unwrap_err(), Code::InvalidArgument, "BAD_COMMIT"),
    ] {
        assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)), "{status}");
    }
    world.end().await;
}

#[tokio::test]
async fn programs_of_go_are_answered_under_the_original_names() {
    let Asked { world, corpus, mut compat, .. } = Asked::start().await;
    let go = corpus.gerrit().project("go.googlesource.com/go").unwrap();
    let master = go.find_ref("refs/heads/master").unwrap();
    let request = GetRefRequest {
        r#ref: "refs/heads/master".into(),
        gerrit_server: "go.googlesource.com".into(),
        gerrit_project: "go".into(),
    };
    assert_eq!(within(compat.get_ref(request)).await.unwrap().into_inner().value, master.to_string());
    let tip = corpus.commit(&master).unwrap();
    let parent = tip.first_parent().unwrap();
    let ask = |commit: &str, ancestor: &str| HasAncestorRequest {
        commit: commit.into(),
        ancestor: ancestor.into(),
    };
    for (request, has_ancestor, unknown_commit) in [
        (ask(&master.to_string(), &parent.to_string()), true, false),
        (ask(&parent.to_string(), &master.to_string()), false, false),
        (ask(&master.to_string(), &master.to_string()), false, false),
        (ask(&"0".repeat(40), &master.to_string()), false, true),
    ] {
        let answer = within(compat.has_ancestor(request)).await.unwrap().into_inner();
        assert_eq!((answer.has_ancestor, answer.unknown_commit), (has_ancestor, unknown_commit));
    }
    let page = DashboardRequest { max_commits: 2, ..DashboardRequest::default() };
    let dashboard = within(compat.get_dashboard(page)).await.unwrap().into_inner();
    assert_eq!(dashboard.commits[0].commit, master.to_string());
    assert_eq!((dashboard.commits.len(), &*dashboard.commits[1].commit), (2, &*parent.to_string()));
    // The project that never was has released nothing.
    let refused = within(compat.list_go_releases(ListGoReleasesRequest {})).await.unwrap_err();
    assert_eq!(
        (refused.code(), rpc::reason(&refused).as_deref()),
        (Code::FailedPrecondition, Some("TOO_FEW_RELEASES"))
    );
    let refused = within(compat.go_find_try_work(GoFindTryWorkRequest::default())).await.unwrap_err();
    assert_eq!(rpc::reason(&refused).as_deref(), Some("TOO_FEW_RELEASES"));
    world.end().await;
}
