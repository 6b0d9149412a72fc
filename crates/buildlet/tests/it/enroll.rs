//! Enrolling a machine by its command line, and what it does with its certificate.

use std::{fs, sync::atomic::Ordering, time::Duration};

use buildlet_client::BuildletClient;
use rpc::Peer;

use crate::{
    harness::until,
    office::{Office, TOKEN},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_machine_needs_nothing_but_its_folders_and_renews_its_certificate() {
    let mut office = Office::open().await;
    *office.desk.lifetime.lock().unwrap() = Duration::from_secs(4);
    let (state, work, url) = (office.path("state"), office.path("work"), office.url());
    let (state, work) = (state.to_str().unwrap(), work.to_str().unwrap());
    let token = office.token_file(TOKEN);
    let enrol = [
        "enroll",
        "--coordinator",
        &url,
        "--token-file",
        token.to_str().unwrap(),
        "--name",
        "m1",
        "--state",
        state,
    ];
    let enrolled = tokio::task::block_in_place(|| Office::run(&enrol));
    assert!(enrolled.status.success(), "{}", text(&enrolled.stderr));
    assert!(text(&enrolled.stdout).contains("`m1` is enrolled"), "{}", text(&enrolled.stdout));
    let before = fs::read_to_string(office.path("state/identity/machine.pem")).unwrap();

    let buildlet = Office::start(&["--state", state, "--work", work, "--log", "warn"]);
    let connection = office.connected().await;
    assert!(matches!(&connection.peer, Peer::Machine { name, host_types }
        if name.as_str() == "m1" && host_types.len() == 1));
    let renewed = office.desk.renewed.clone();
    until("the renewal", || renewed.load(Ordering::Relaxed) > 0).await;
    until("the new certificate", || {
        fs::read_to_string(office.path("state/identity/machine.pem")).unwrap() != before
    })
    .await;
    BuildletClient::new(connection.channel.clone()).status().await.unwrap();
    // It comes back with the new certificate when the first has ended.
    let first = rpc::Identity { certificate_pem: before, key_pem: String::new(), ca_pem: String::new() };
    let ends = first.validity().unwrap().1 + Duration::from_secs(1);
    until("the end of the first certificate", || runtime::system_clock().now() > ends).await;
    connection.cut.cancel();
    let again = office.connected().await;
    BuildletClient::new(again.channel).status().await.unwrap();
    buildlet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_token_waits_for_an_operator() {
    let office = Office::open().await;
    let (state, url, authority) = (office.path("state"), office.url(), office.path("ca/ca.pem"));
    let args = ["enroll", "--coordinator", &url, "--authority", authority.to_str().unwrap(), "--name", "m1"];
    let args = [&args[..], &["--host-type", "linux", "--state", state.to_str().unwrap()]].concat();
    let enrolling = Office::start(&args);
    let asked = office.desk.asked.clone();
    until("the first request", || asked.load(Ordering::Relaxed) > 0).await;
    assert!(!state.join("identity/machine.pem").exists());
    *office.desk.approved.lock().unwrap() = true;
    until("the certificate", || state.join("identity/machine.pem").exists()).await;
    drop(enrolling);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_said_so_and_leaves_no_certificate() {
    let office = Office::open().await;
    let (state, url, token) = (office.path("state"), office.url(), office.token_file("used"));
    let args = ["enroll", "--coordinator", &url, "--token-file", token.to_str().unwrap(), "--name", "m1"];
    let args = [&args[..], &["--state", state.to_str().unwrap()]].concat();
    let refused = tokio::task::block_in_place(|| Office::run(&args));
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("the token is used up"), "{}", text(&refused.stderr));
    assert!(!state.join("identity/machine.pem").exists());
    let run = ["--coordinator", &url, "--state", state.to_str().unwrap(), "--work"];
    let work = office.path("work");
    let run = [&run[..], &[work.to_str().unwrap()]].concat();
    let without = tokio::task::block_in_place(|| Office::run(&run));
    assert_eq!(without.status.code(), Some(78));
    assert!(text(&without.stderr).contains("buildlet enroll"), "{}", text(&without.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_of_the_go_project_enrols_and_connects() {
    let mut office = Office::open().await;
    let home = office.path("home");
    fs::create_dir(&home).unwrap();
    fs::copy(office.token_file(TOKEN), home.join(".gobuildkey-linux")).unwrap();
    let url = office.url();
    let address = url.strip_prefix("https://").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_buildlet"));
    command
        .arg(format!("-coordinator={address}"))
        .args(["-reverse-type=linux", "-reboot=false"])
        .env("HOME", &home)
        .env("TMPDIR", office.path("tmp"))
        .env("HOSTNAME", "Box-7.example.org")
        .stdout(std::process::Stdio::null());
    let buildlet = crate::harness::Process(command.spawn().unwrap());
    let connection = office.connected().await;
    assert!(matches!(&connection.peer, Peer::Machine { name, .. } if name.as_str() == "box-7"));
    let status = BuildletClient::new(connection.channel.clone()).status().await.unwrap();
    // As builds see it: where the machine hides things from them, that is another path.
    assert!(status.work_folder.starts_with('/'), "{}", status.work_folder);
    assert!(office.path("tmp/workdir-linux").is_dir());
    drop(buildlet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_can_be_carried_by_hand() {
    let office = Office::open().await;
    let state = office.path("state");
    let folder = state.to_str().unwrap();
    let made = tokio::task::block_in_place(|| Office::run(&["enroll", "--csr", "m1", "--state", folder]));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let csr = fs::read_to_string(state.join("identity/m1.csr")).unwrap();
    let name = "m1".parse().unwrap();
    let hour = Duration::from_hours(1);
    let signed = office.desk.authority.sign_machine(&csr, &name, &["linux".parse().unwrap()], hour).unwrap();
    let carried = office.path("m1.pem");
    fs::write(&carried, format!("{}{}", signed.certificate_pem, office.desk.authority.certificate_pem()))
        .unwrap();
    let install = ["enroll", "--install", carried.to_str().unwrap(), "--state", folder];
    let installed = tokio::task::block_in_place(|| Office::run(&install));
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    // A certificate of another key is noticed now and not later.
    let other = rpc::KeyRequest::make(&name).unwrap();
    let foreign = office.desk.authority.sign_machine(&other.csr_pem, &name, &[], hour).unwrap();
    fs::write(&carried, format!("{}{}", foreign.certificate_pem, office.desk.authority.certificate_pem()))
        .unwrap();
    let refused = tokio::task::block_in_place(|| Office::run(&install));
    assert!(text(&refused.stderr).contains("does not fit the key"), "{}", text(&refused.stderr));
    let doctor = ["doctor", "--state", folder, "--coordinator", &office.url(), "--json"];
    let report = tokio::task::block_in_place(|| Office::run(&doctor));
    let findings: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let level = |name: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["name"] == name);
        found.map(|finding| finding["level"].as_str().unwrap().to_owned())
    };
    for name in ["certificate", "network", "clock", "key"] {
        assert_eq!(level(name).as_deref(), Some("ok"), "{name}: {findings:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_lent_refuses_what_was_not_submitted() {
    let mut farm = crate::harness::Farm::start().await;
    let mut machine = farm.buildlet(&["--tier", "community"]).await;
    let lease = machine.lease();
    let script = crate::harness::sh("true");
    let refused = machine.client.start_exec(lease, crate::harness::new_exec(), &script).await.unwrap_err();
    assert!(refused.to_string().contains("tier = \"community\""), "{refused}");
    let reviewed = buildlet_client::ExecSpec { submitted: true, ..script };
    let (end, _) = machine.run_spec(lease, &reviewed).await;
    assert_eq!(end.how, crate::harness::passed());
}
