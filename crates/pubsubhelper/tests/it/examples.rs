//! Every webhook body that GitHub's own examples hold (the npm package `@octokit/webhooks-examples`), if they are here.

use std::path::PathBuf;

use serde_json::Value;

use crate::world::World;

/// `FARMER_WEBHOOK_EXAMPLES`, or where the setup of the tests puts it.
fn folder() -> Option<PathBuf> {
    let usual =
        || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/farmer-real/webhooks-examples"));
    let folder = std::env::var_os("FARMER_WEBHOOK_EXAMPLES").map(PathBuf::from).or_else(usual)?;
    folder.join("api.github.com/index.json").is_file().then_some(folder)
}

#[tokio::test]
async fn every_example_of_github_is_understood() {
    let Some(folder) = folder() else {
        println!("skipped: FARMER_WEBHOOK_EXAMPLES names no folder of @octokit/webhooks-examples");
        return;
    };
    let text = std::fs::read(folder.join("api.github.com/index.json")).unwrap();
    let kinds: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let world = World::new().await;
    let mut reader = world.reader().await;
    let (mut published, mut ignored) = (0, 0);
    for kind in &kinds {
        let name = kind["name"].as_str().unwrap();
        for (number, example) in kind["examples"].as_array().unwrap().iter().enumerate() {
            let delivery = format!("{name}-{number}");
            let body = serde_json::to_vec(example).unwrap();
            assert_eq!(world.deliver(name, &delivery, &body).await, 200);
            let Some(full_name) = example["repository"]["full_name"].as_str() else {
                ignored += 1;
                continue;
            };
            published += 1;
            let event = reader.event().await;
            assert_eq!(event.delivery_id, delivery);
            assert_eq!(event.kind, name);
            assert_eq!(format!("{}/{}", event.owner, event.repository), full_name);
            assert_eq!(event.action, example["action"].as_str().unwrap_or_default(), "{delivery}");
            let number = example["issue"]["number"].as_i64().or(example["pull_request"]["number"].as_i64());
            assert_eq!(event.number, number.unwrap_or(0), "{delivery}");
            let pushed = if name == "push" { example["ref"].as_str().unwrap() } else { "" };
            assert_eq!(event.r#ref, pushed, "{delivery}");
        }
    }
    assert!(published >= 100 && kinds.len() >= 50, "only {published} of {} kinds", kinds.len());
    println!("{published} bodies published, {ignored} about no repository ignored");
    world.stop().await;
}
