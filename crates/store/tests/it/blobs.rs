//! What every store of blobs promises.

use bytes::Bytes;
use store::{BlobError, Blobs, LocalBlobs, MemoryBlobs, check_key};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn a_local_folder_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    all(&LocalBlobs::open(&folder.path().join("below/blobs")).await.unwrap()).await;
}

#[tokio::test]
async fn memory_keeps_the_promises() {
    all(&MemoryBlobs::default()).await;
}

async fn all(blobs: &dyn Blobs) {
    a_blob_reads_back_as_it_was_written(blobs).await;
    a_blob_is_replaced_whole(blobs).await;
    nothing_is_visible_before_commit(blobs).await;
    what_is_not_there_says_so(blobs).await;
    a_list_has_what_begins_with_the_prefix_in_order(blobs).await;
    keys_that_lead_elsewhere_are_refused(blobs).await;
}

async fn a_blob_reads_back_as_it_was_written(blobs: &dyn Blobs) {
    let bytes: Bytes = (0..100_000_u32).map(|n| n as u8).collect();
    blobs.put("a/b.c/d-e_f", bytes.clone()).await.unwrap();
    assert_eq!(blobs.size("a/b.c/d-e_f").await.unwrap(), 100_000);
    assert_eq!(blobs.read("a/b.c/d-e_f", 0..u64::MAX).await.unwrap(), bytes);
    assert_eq!(blobs.read("a/b.c/d-e_f", 300..310).await.unwrap(), bytes.slice(300..310));
    assert_eq!(blobs.read("a/b.c/d-e_f", 99_999..100_010).await.unwrap(), bytes.slice(99_999..));
    assert!(blobs.read("a/b.c/d-e_f", 200_000..200_001).await.unwrap().is_empty());
    let mut read = Vec::new();
    blobs.open("a/b.c/d-e_f").await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read, bytes);
    blobs.put("empty", Bytes::new()).await.unwrap();
    assert_eq!(blobs.size("empty").await.unwrap(), 0);
    assert!(blobs.read("empty", 0..9).await.unwrap().is_empty());
}

async fn a_blob_is_replaced_whole(blobs: &dyn Blobs) {
    blobs.put("replaced", Bytes::from_static(b"a long one")).await.unwrap();
    blobs.put("replaced", Bytes::from_static(b"short")).await.unwrap();
    assert_eq!(&blobs.read("replaced", 0..100).await.unwrap()[..], b"short");
}

async fn nothing_is_visible_before_commit(blobs: &dyn Blobs) {
    let mut writer = blobs.writer("written/slowly").await.unwrap();
    writer.write(Bytes::from_static(b"one ")).await.unwrap();
    assert!(blobs.size("written/slowly").await.unwrap_err().is_not_found());
    writer.write(Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(writer.commit().await.unwrap(), 7);
    assert_eq!(&blobs.read("written/slowly", 0..100).await.unwrap()[..], b"one two");

    let mut writer = blobs.writer("given/up").await.unwrap();
    writer.write(Bytes::from_static(b"one")).await.unwrap();
    drop(writer);
    assert!(blobs.size("given/up").await.unwrap_err().is_not_found());
    assert!(blobs.list("given").await.unwrap().is_empty());
}

async fn what_is_not_there_says_so(blobs: &dyn Blobs) {
    for error in [
        blobs.read("no/such", 0..1).await.map(drop).unwrap_err(),
        blobs.open("no/such").await.map(drop).unwrap_err(),
        blobs.size("no/such").await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_not_found() && !error.is_transient());
        assert_eq!(error.to_string(), "there is no blob `no/such`");
    }
    blobs.delete("no/such").await.unwrap();
    blobs.put("gone", Bytes::new()).await.unwrap();
    blobs.delete("gone").await.unwrap();
    assert!(blobs.size("gone").await.unwrap_err().is_not_found());
}

async fn a_list_has_what_begins_with_the_prefix_in_order(blobs: &dyn Blobs) {
    for key in ["list/b", "list/a/2", "list/a/1", "list/ab", "listed"] {
        blobs.put(key, Bytes::from_static(b"123")).await.unwrap();
    }
    let keys = async |prefix: &str| {
        let entries = blobs.list(prefix).await.unwrap();
        assert!(entries.iter().all(|entry| entry.bytes == 3));
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("list").await, ["list/a/1", "list/a/2", "list/ab", "list/b", "listed"]);
    assert_eq!(keys("list/a").await, ["list/a/1", "list/a/2", "list/ab"]);
    assert_eq!(keys("list/a/").await, ["list/a/1", "list/a/2"]);
    assert!(keys("nothing/").await.is_empty());
}

async fn keys_that_lead_elsewhere_are_refused(blobs: &dyn Blobs) {
    for key in ["", "/", "a//b", "/a", "a/", "..", "a/../b", ".tmp/a", "a b", "a\0", "ä", &"a".repeat(201)] {
        assert!(matches!(check_key(key), Err(BlobError::BadKey(_))), "{key:?}");
        assert!(matches!(blobs.put(key, Bytes::new()).await, Err(BlobError::BadKey(_))), "{key:?}");
        assert!(matches!(blobs.read(key, 0..1).await, Err(BlobError::BadKey(_))), "{key:?}");
    }
    assert!(blobs.list("/etc/pass").await.unwrap().is_empty());
    assert!(blobs.list("../").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = LocalBlobs::open(folder.path()).await.unwrap();
    blobs.put("kept", Bytes::from_static(b"1")).await.unwrap();
    std::fs::write(folder.path().join(".tmp/half"), "1").unwrap();
    let blobs = LocalBlobs::open(folder.path()).await.unwrap();
    assert!(!folder.path().join(".tmp/half").exists());
    assert_eq!(blobs.list("").await.unwrap().len(), 1);
}
