//! What `ReadFiles` delivers.

use api::gitmirror::ReadFilesRequest;
use tonic::Code;

use crate::world::{Origin, World};

#[tokio::test]
async fn files_are_read_at_the_commit_and_others_left_out() {
    let origin = Origin::new();
    origin.write("farmer.toml", "old");
    origin.write("a/b/c", "deep");
    origin.write("large", vec![b'x'; (1 << 20) + 5]);
    std::os::unix::fs::symlink("farmer.toml", origin.path().join("link")).unwrap();
    let old = origin.commit_all("old");
    origin.commit("farmer.toml", "new");
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    let paths = ["large", "missing", "a/b/c", "a/b", "link", "farmer.toml/x", "farmer.toml", "-x"];
    let request = ReadFilesRequest {
        repository: "one".into(),
        commit: old.clone(),
        paths: paths.map(str::to_owned).to_vec(),
    };
    let answer = world.client().read_files(request).await.unwrap().into_inner();
    let shown: Vec<_> = answer.files.iter().map(|file| (file.path.as_str(), file.content.len())).collect();
    assert_eq!(shown, [("large", 1 << 20), ("a/b/c", 4), ("farmer.toml", 3)]);
    assert_eq!(answer.files[2].content, "old");
    assert_eq!(answer.tree, origin.git(["rev-parse", &format!("{old}^{{tree}}")]));
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused() {
    let origin = Origin::new();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until(|refs| refs.len() == 1).await;
    let check = async |commit: String, paths: Vec<String>| {
        let request = ReadFilesRequest { repository: "one".into(), commit, paths };
        let status = world.client().read_files(request).await.unwrap_err();
        (status.code(), rpc::reason(&status).unwrap_or_default())
    };
    let bad = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    for path in ["../x", "/etc/passwd", "", "a//b", "a/../../b"] {
        assert_eq!(check(origin.head(), vec![path.into()]).await, bad("BAD_PATH"), "{path}");
    }
    assert_eq!(check(origin.head(), vec!["x".into(); 101]).await, bad("BAD_PATH"));
    assert_eq!(check("HEAD".into(), vec![]).await, bad("BAD_COMMIT"));
    assert_eq!(check("1".repeat(40), vec![]).await, (Code::NotFound, "UNKNOWN_COMMIT".into()));
}
