//! The examples in `deploy/config` are what they claim to be.

use std::path::Path;

use buildspec::Farm;

#[test]
fn every_example_of_a_farm_toml_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let farm = runtime::config::load::<Farm>(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!farm.repositories.is_empty(), "{} shows no repository", path.display());
        examples += 1;
    }
    assert!(examples > 0, "no example was found");
}

#[test]
fn what_an_example_has_in_comments_is_valid_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/farm.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let is_key = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_setting =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let uncommented = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(uncommented).collect();
    let farm: Farm =
        runtime::config::parse("farm.toml", &all.join("\n")).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(farm.tls.is_some() && farm.webhook.is_some(), "comments were not read as settings");
}
