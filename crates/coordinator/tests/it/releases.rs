//! Buildlets are published, in part, and taken back.

use api::coordinator::{
    ListReleasesRequest, PublishBuildletHeader, PublishBuildletRequest, Release,
    publish_buildlet_request::Part,
};
use http_body_util::BodyExt as _;
use rpc::Trust;
use tonic::{Code, Status};

use crate::farm::TestFarm;

impl TestFarm {
    async fn publish(&self, binary: &[u8], digest: &str, percent: u32) -> Result<Release, Status> {
        let header = PublishBuildletHeader {
            platform: "linux/amd64".to_owned(),
            channel: "stable".to_owned(),
            version: "1".to_owned(),
            digest: digest.to_owned(),
            percent,
        };
        let mut parts = vec![PublishBuildletRequest { part: Some(Part::Header(header)) }];
        parts.extend(binary.chunks(3).map(|chunk| PublishBuildletRequest {
            part: Some(Part::Chunk(bytes::Bytes::copy_from_slice(chunk))),
        }));
        let published = self.operator().publish_buildlet(futures_util::stream::iter(parts)).await?;
        Ok(published.into_inner().release.unwrap())
    }

    /// The number and digest that a machine is told.
    async fn told(&self, machine: &str) -> Option<(u64, String)> {
        let body = self.get(&format!("/buildlet/release/stable/linux/amd64?machine={machine}")).await?;
        let sealed: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let (manifest, seal) = (sealed["manifest"].as_str().unwrap(), sealed["seal"].as_str().unwrap());
        let seal = hex::decode(seal).unwrap();
        assert!(rpc::is_sealed(self.authority.certificate_pem(), manifest.as_bytes(), &seal));
        let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
        Some((manifest["number"].as_u64().unwrap(), manifest["digest"].as_str().unwrap().to_owned()))
    }

    /// What a guest gets.
    async fn get(&self, path: &str) -> Option<bytes::Bytes> {
        let trust = Trust::Guest(self.authority.certificate_pem());
        let channel = rpc::connect_via(&self.internal_url(), trust, None).unwrap();
        let response = channel.get(path).await.unwrap();
        (response.status() == 200).then_some(())?;
        Some(response.into_body().collect().await.unwrap().to_bytes())
    }
}

fn digest(binary: &[u8]) -> String {
    blake3::hash(binary).to_hex().to_string()
}

#[tokio::test]
async fn machines_are_told_what_was_published_for_them() {
    let farm = TestFarm::start().await;
    assert_eq!(farm.told("m1").await, None);
    let (old, new) = (b"the old one".as_slice(), b"the new one".as_slice());
    farm.publish(old, &digest(old), 100).await.unwrap();
    assert_eq!(farm.told("m1").await, Some((1, digest(old))));
    assert_eq!(farm.get(&format!("/buildlet/binary/{}", digest(old))).await.unwrap(), old);
    assert_eq!(farm.get(&format!("/buildlet/binary/{}", digest(new))).await, None);

    farm.publish(new, &digest(new), 30).await.unwrap();
    let mut numbers = Vec::new();
    for machine in 0..50 {
        numbers.push(farm.told(&format!("m{machine}")).await.unwrap().0);
    }
    let share = numbers.iter().filter(|number| **number == 2).count();
    assert!((2..=30).contains(&share), "{share} of 50 machines have the new one");

    // Back to the old one, which needs not be sent again.
    let back = farm.publish(b"", &digest(old), 100).await.unwrap();
    assert_eq!(back.number, 3);
    assert_eq!(farm.told("m1").await, Some((3, digest(old))));
    let listed = farm.operator().list_releases(ListReleasesRequest {}).await.unwrap().into_inner().releases;
    assert_eq!(listed.iter().map(|release| release.number).collect::<Vec<_>>(), [3, 2, 1]);
    farm.finish().await;
}

#[tokio::test]
async fn what_is_not_what_it_says_is_not_published() {
    let farm = TestFarm::start().await;
    let refused = |answer: Result<Release, Status>| {
        let status = answer.unwrap_err();
        (status.code(), rpc::reason(&status).unwrap())
    };
    let wrong = refused(farm.publish(b"one", &digest(b"two"), 100).await);
    assert_eq!(wrong, (Code::InvalidArgument, "WRONG_DIGEST".to_owned()));
    let unknown = refused(farm.publish(b"", &digest(b"two"), 100).await);
    assert_eq!(unknown, (Code::NotFound, "UNKNOWN_BINARY".to_owned()));
    for (digest, percent) in [("x", 100), (digest(b"one").as_str(), 0), (digest(b"one").as_str(), 101)] {
        let bad = refused(farm.publish(b"one", digest, percent).await);
        assert_eq!(bad, (Code::InvalidArgument, "BAD_BINARY".to_owned()));
    }
    assert_eq!(farm.told("m1").await, None);
    farm.finish().await;
}
