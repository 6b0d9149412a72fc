//! Debugging sessions over the protocol: they wait, are held, survive a restart, end with a word.

use api::coordinator::{
    CreateSessionRequest, DestroySessionRequest, ExtendSessionRequest, ListSessionsRequest, Session,
    SessionState, StartCommandRequest, WatchCommandRequest, WatchSessionRequest, command_end::How,
    gomote_service_client::GomoteServiceClient, watch_command_response::Event,
};
use tokio::time::{Duration, timeout};
use tonic::Code;

use crate::{builds::PLAIN, farm::TestFarm};

const DEADLINE: Duration = Duration::from_secs(30);

fn client(farm: &TestFarm) -> GomoteServiceClient<rpc::Channel> {
    GomoteServiceClient::new(farm.channel())
}

fn request(owner: &str) -> CreateSessionRequest {
    CreateSessionRequest {
        request_id: runtime::new_id().to_string(),
        owner: owner.to_owned(),
        host_type: "local".to_owned(),
        ..CreateSessionRequest::default()
    }
}

async fn create(farm: &TestFarm, request: CreateSessionRequest) -> Session {
    client(farm).create_session(request).await.unwrap().into_inner().session.unwrap()
}

/// The session once it is as wanted.
async fn until(farm: &TestFarm, name: &str, wanted: impl Fn(&Session) -> bool) -> Session {
    let watch = async {
        let request = WatchSessionRequest { name: name.to_owned() };
        let mut stream = client(farm).watch_session(request).await.unwrap().into_inner();
        while let Some(answer) = stream.message().await.unwrap() {
            let session = answer.session.unwrap();
            if wanted(&session) {
                return session;
            }
        }
        panic!("the watch of {name} ended");
    };
    timeout(DEADLINE, watch).await.unwrap()
}

fn ready(session: &Session) -> bool {
    session.state() == SessionState::Ready
}

/// What a shell command prints, and its exit code.
async fn shell(farm: &TestFarm, session: &str, script: &str) -> (String, i32) {
    let command_id = runtime::new_id().to_string();
    let start = StartCommandRequest {
        session: session.to_owned(),
        command_id: command_id.clone(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..StartCommandRequest::default()
    };
    client(farm).start_command(start.clone()).await.unwrap();
    client(farm).start_command(start).await.unwrap();
    let watch = WatchCommandRequest { session: session.to_owned(), command_id, offset: 0 };
    let mut stream = client(farm).watch_command(watch).await.unwrap().into_inner();
    let mut output = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        match answer.event.unwrap() {
            Event::Output(some) => output.extend_from_slice(&some.data),
            Event::End(end) => {
                let Some(How::ExitCode(code)) = end.how else { panic!("{end:?}") };
                return (String::from_utf8(output).unwrap(), code);
            }
        }
    }
    panic!("the command has no end");
}

#[tokio::test]
async fn a_session_waits_says_why_gets_its_machine_and_runs_a_command_once() {
    let farm = TestFarm::start().await;
    let asked = request("ada");
    let made = create(&farm, asked.clone()).await;
    assert_eq!((made.name.as_str(), made.state()), ("ada-local-0", SessionState::Waiting));
    assert_eq!(made.waits_for.unwrap().code, "NO_MACHINE");
    assert_eq!(create(&farm, asked).await.name, "ada-local-0", "a repeat makes no second one");
    let machine = farm.machine("m1");
    farm.connect(&machine).await;
    let session = until(&farm, &made.name, ready).await;
    assert_eq!((session.machine.as_str(), session.found.as_str()), ("m1", "an empty work folder"));
    assert_eq!(shell(&farm, &made.name, "echo hello; exit 4").await, ("hello\n".to_owned(), 4));
    assert_eq!(machine.started(), 1, "it was started once");
    let farm_now = farm.farm_client().get_farm(api::coordinator::GetFarmRequest {}).await.unwrap();
    assert_eq!(farm_now.into_inner().machines[0].works_on, "session ada-local-0");
    farm.finish().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_and_its_machine_goes_back_to_builds() {
    let mut farm = TestFarm::start().await;
    let machine = farm.machine("m1");
    let cut = farm.connect(&machine).await;
    let made = create(&farm, request("ada")).await;
    let before = until(&farm, &made.name, ready).await;
    farm.stop_coordinator().await;
    cut.cancel();
    farm.start_coordinator().await;
    farm.connect(&machine).await;
    let after = until(&farm, &made.name, |session| ready(session) && session.waits_for.is_none()).await;
    assert_eq!((after.id, after.created), (before.id, before.created));
    assert_eq!(shell(&farm, &made.name, "echo still").await.0, "still\n");
    farm.project.push('a', None, PLAIN);
    let waiting = farm.until(1, |build| build.waits_for.is_some()).await;
    let text = waiting.waits_for.unwrap().text;
    assert!(text.contains("`m1` is held by session ada-local-0"), "{text}");
    client(&farm).destroy_session(DestroySessionRequest { name: made.name }).await.unwrap();
    assert_eq!(farm.ended(1).await.outcome(), api::coordinator::Outcome::Passed);
    farm.finish().await;
}

#[tokio::test]
async fn the_end_of_a_session_has_a_reason_for_whoever_watches_or_comes_late() {
    let farm = TestFarm::start().await;
    let machine = farm.machine("m1");
    let cut = farm.connect(&machine).await;
    let made = create(&farm, request("ada")).await;
    until(&farm, &made.name, ready).await;
    cut.cancel();
    let ended = until(&farm, &made.name, |session| session.state() == SessionState::Ended).await;
    assert_eq!(ended.reason, "machine `m1` was lost: its connection is gone");
    let extend = ExtendSessionRequest { name: made.name, hold: None };
    let status = client(&farm).extend_session(extend).await.unwrap_err();
    assert_eq!(
        (status.code(), rpc::reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("SESSION_ENDED"))
    );
    assert!(status.message().contains("was lost"), "{}", status.message());
    farm.finish().await;
}

#[tokio::test]
async fn sessions_are_listed_in_pages_and_each_owner_has_a_share() {
    let farm = TestFarm::start().await;
    for _ in 0..32 {
        create(&farm, request("ada")).await;
    }
    let status = client(&farm).create_session(request("ada")).await.unwrap_err();
    assert_eq!(rpc::reason(&status).as_deref(), Some("TOO_MANY_SESSIONS"));
    create(&farm, request("bob")).await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest { page_size: 10, page_token, ..ListSessionsRequest::default() };
        let answer = client(&farm).list_sessions(request).await.unwrap().into_inner();
        names.extend(answer.sessions.into_iter().map(|session| session.name));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 33);
    assert!(names.is_sorted());
    let request = ListSessionsRequest { owner: "bob".to_owned(), ..ListSessionsRequest::default() };
    let own = client(&farm).list_sessions(request).await.unwrap().into_inner().sessions;
    assert_eq!(own.len(), 1);
    farm.finish().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_next_step() {
    let farm = TestFarm::start().await;
    let reason = async |request: CreateSessionRequest| {
        let status = client(&farm).create_session(request).await.unwrap_err();
        rpc::reason(&status).unwrap()
    };
    let of = |builder: &str, host: &str, build: &str| CreateSessionRequest {
        builder: builder.to_owned(),
        host_type: host.to_owned(),
        build: build.to_owned(),
        ..request("ada")
    };
    assert_eq!(reason(of("no-such", "", "")).await, "UNKNOWN_BUILDER");
    assert_eq!(reason(of("", "no-such", "")).await, "UNKNOWN_HOST_TYPE");
    assert_eq!(reason(of("", "", "7")).await, "UNKNOWN_BUILD");
    assert_eq!(reason(of("", "", "x")).await, "BAD_REQUEST");
    assert_eq!(reason(of("a", "b", "")).await, "BAD_REQUEST");
    let request = WatchSessionRequest { name: "nobody-0".to_owned() };
    let status = client(&farm).watch_session(request).await.unwrap_err();
    assert_eq!(rpc::reason(&status).as_deref(), Some("UNKNOWN_SESSION"));
    farm.finish().await;
}
