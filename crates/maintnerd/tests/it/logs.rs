//! `/logs`: the list, waiting for news, ranges, and followers that know the protocol only.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sha2::{Digest as _, Sha224};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    World,
    results::{append, result},
    within,
};

/// A world whose `/logs` keep their address over restarts.
pub(crate) async fn world(segment_bytes: u64, long_poll: Duration) -> World {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    World::with(|config| {
        config.listen_logs = Some(port);
        config.logs.long_poll = long_poll;
        config.log.max_segment_bytes = segment_bytes;
    })
    .await
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request, as plain as it can be, over a connection of its own.
pub(crate) async fn ask(addr: SocketAddr, method: &str, path: &str, extra: &str) -> Answer {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{extra}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

async fn get(world: &World, path: &str) -> Answer {
    ask(world.logs(), "GET", path, "").await
}

#[tokio::test]
async fn the_list_and_the_segments_are_what_the_protocol_says() {
    let world = world(1000, Duration::from_secs(5)).await;
    let empty = get(&world, "/logs").await;
    assert_eq!((empty.status, &empty.body[..]), (200, &b"[]"[..]));
    assert_eq!(empty.header("x-sum-segment-size"), Some("0"));
    for build in 1..=40 {
        append(&world, vec![result(build, 1, "passed")]).await.unwrap();
    }
    let answer = get(&world, "/logs").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(text.starts_with("[\n\t{\n\t\t\"number\": 0,\n\t\t\"size\": "), "{text}");
    let listed = answer.json();
    let listed = listed.as_array().unwrap();
    assert!(listed.len() > 3, "{text}");
    let mut sum = 0;
    for (number, segment) in listed.iter().enumerate() {
        let (size, sha) = (segment["size"].as_u64().unwrap(), segment["sha224"].as_str().unwrap());
        let last = number + 1 == listed.len();
        let url =
            if last { format!("/logs/{number}") } else { format!("/segments/{number:04}.{sha}.mutlog") };
        assert_eq!((&segment["number"], &segment["url"]), (&number.into(), &url.clone().into()));
        let body = get(&world, &url).await.body;
        assert_eq!((body.len() as u64, hex::encode(Sha224::digest(&body)).as_str()), (size, sha));
        sum += size;
    }
    assert_eq!(answer.header("x-sum-segment-size"), Some(sum.to_string().as_str()));
    let older = get(&world, "/logs/0").await;
    assert_eq!((older.status, older.header("location")), (302, listed[0]["url"].as_str()));
    let rest = get(&world, "/logs?startseg=2").await;
    assert_eq!(rest.json().as_array().unwrap()[0]["number"], 2);
    assert_eq!(get(&world, "/logs?startseg=999").await.body, answer.body);
    assert_eq!(get(&world, "/logs?startseg=x").await.body, answer.body);
    let head = ask(world.logs(), "HEAD", "/logs", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for bad in [
        "/logs?startseg=-1",
        "/logs?waitsizenot=-1",
        "/logs?waitsizenot=x",
        "/logs/x",
        "/logs/-1",
        "/logs/999",
        "/logs/99999999999",
    ] {
        assert_eq!(get(&world, bad).await.status, 400, "{bad}");
    }
    assert_eq!(ask(world.logs(), "POST", "/logs", "content-length: 0\r\n").await.status, 400);
    assert_eq!(ask(world.logs(), "DELETE", "/logs/0", "").await.status, 400);
    let wrong = listed[0]["url"].as_str().unwrap().replace("0000.", "0001.");
    assert_eq!(get(&world, &wrong).await.status, 404);
    world.end().await;
}

#[tokio::test]
async fn a_part_of_a_segment_is_fetched_by_range() {
    let world = world(1 << 20, Duration::from_secs(5)).await;
    for build in 1..=5 {
        append(&world, vec![result(build, 1, "passed")]).await.unwrap();
    }
    let whole = get(&world, "/logs/0").await;
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    let size = whole.body.len();
    let range = |range: String| {
        let addr = world.logs();
        async move { ask(addr, "GET", "/logs/0", &format!("range: {range}\r\n")).await }
    };
    let part = range(format!("bytes=10-{}", size - 1)).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..]));
    let expected = format!("bytes 10-{}/{size}", size - 1);
    assert_eq!(part.header("content-range"), Some(expected.as_str()));
    assert_eq!(range("bytes=-7".into()).await.body, whole.body[size - 7..]);
    let beyond = range(format!("bytes={size}-")).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{size}"))));
    world.end().await;
}

#[tokio::test]
async fn a_follower_waits_for_news_and_is_told_when_there_are_none() {
    let world = world(1 << 20, Duration::from_millis(200)).await;
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    let size: u64 = get(&world, "/logs").await.header("x-sum-segment-size").unwrap().parse().unwrap();
    let none = get(&world, &format!("/logs?waitsizenot={size}")).await;
    assert_eq!((none.status, none.body.len()), (304, 0));
    assert_eq!(get(&world, "/logs?waitsizenot=0").await.status, 200);
    world.end().await;

    let world = self::world(1 << 20, Duration::from_mins(1)).await;
    let mut waiting = JoinSet::new();
    let addr = world.logs();
    waiting.spawn(async move { ask(addr, "GET", "/logs?waitsizenot=0", "").await });
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    assert_eq!(within(waiting.join_next()).await.unwrap().unwrap().json()[0]["number"], 0);
    // One that waits does not hold back the end.
    let size = world.log_bytes();
    let path = format!("/logs?waitsizenot={size}");
    waiting.spawn(async move { ask(addr, "GET", &path, "").await });
    world.end().await;
    waiting.abort_all();
}

/// A follower as a process, and what it says.
pub(crate) struct Follower {
    child: Child,
    said: mpsc::Receiver<serde_json::Value>,
}

impl Follower {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, said) = mpsc::channel(100);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if say.blocking_send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { child, said }
    }

    fn python(world: &World, folder: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python/follow_logs.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(format!("http://{}/logs", world.logs())).arg(folder);
        Self::start(command)
    }

    /// Waits until it says something that passes; answers what else it said before.
    pub(crate) async fn says(
        &mut self,
        passes: impl Fn(&serde_json::Value) -> bool,
    ) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        loop {
            let Ok(said) = tokio::time::timeout(crate::PATIENCE, self.said.recv()).await else {
                panic!("it did not say it, but {all:?}");
            };
            all.push(said.unwrap());
            if passes(&all[all.len() - 1]) {
                return all;
            }
        }
    }

    async fn has_all(&mut self, world: &World) -> Vec<serde_json::Value> {
        let bytes = world.log_bytes();
        self.says(|said| said["event"] == "have" && said["bytes"] == bytes).await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The contents of the segments of a folder, in order.
fn segments(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mutlog"));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).filter(|bytes| !bytes.is_empty()).collect()
}

fn python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        testkit::skip::skipped("the follower in Python", "python3", "apt-get install python3");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_independent_follower_mirrors_the_log_through_all_that_happens_to_it() {
    if !python() {
        return;
    }
    let mut world = world(3000, Duration::from_secs(2)).await;
    let folder = tempfile::tempdir().unwrap();
    for build in 1..=50 {
        append(&world, vec![result(build, 1, "passed")]).await.unwrap();
    }
    let mut follower = Follower::python(&world, folder.path());
    follower.has_all(&world).await;
    assert_eq!(segments(folder.path()), segments(&world.log_dir()));

    // Rotation while it follows.
    for build in 51..=150 {
        append(&world, vec![result(build, 1, "passed")]).await.unwrap();
    }
    let said = follower.has_all(&world).await;
    assert_eq!(said.last().unwrap()["records"], 150);
    assert_eq!(segments(folder.path()), segments(&world.log_dir()));

    // A restart of the server, and one of the follower, which keeps what it has.
    world.restart().await;
    append(&world, vec![result(151, 1, "passed")]).await.unwrap();
    follower.has_all(&world).await;
    drop(follower);
    append(&world, vec![result(152, 1, "passed")]).await.unwrap();
    let mut follower = Follower::python(&world, folder.path());
    let said = follower.has_all(&world).await;
    assert!(said.iter().all(|said| said["event"] != "split"), "{said:?}");

    // The server comes back without its last record, and goes on otherwise.
    let before = world.log_bytes();
    world.stop_maintnerd().await;
    let growing = std::fs::read_dir(world.log_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("growing"))
        .unwrap();
    let bytes = std::fs::read(&growing).unwrap();
    let last = bytes.windows(4).rposition(|four| four == b"REC@").unwrap();
    std::fs::write(&growing, &bytes[..last]).unwrap();
    let common = before - (bytes.len() - last) as u64;
    world.start_maintnerd().await;
    let said = follower.says(|said| said["event"] == "split").await;
    assert_eq!(said.last().unwrap()["common"], common, "{said:?}");
    append(&world, vec![result(999, 1, "failed"), result(1000, 1, "failed")]).await.unwrap();
    follower.has_all(&world).await;
    assert_eq!(segments(folder.path()), segments(&world.log_dir()));

    // Another history in its place.
    world.stop_maintnerd().await;
    std::fs::remove_dir_all(world.log_dir()).unwrap();
    world.start_maintnerd().await;
    for build in 2001..=2070 {
        append(&world, vec![result(build, 1, "failed")]).await.unwrap();
    }
    let said = follower.has_all(&world).await;
    assert!(said.iter().any(|said| said["event"] == "split"), "{said:?}");
    assert_eq!(segments(folder.path()), segments(&world.log_dir()));
    drop(follower);
    world.end().await;
}
