//! What `farm.toml` says to gitmirror.

use gitmirror::{Config, LoadError, Origin as Address};

use crate::world::{Origin, World};

fn farm(world: &World, repositories: &[(&str, &str)]) -> String {
    let dir = world.dir.path();
    world.identity("gitmirror").save(dir, "gitmirror").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("gitmirror.pem"), path("gitmirror.key"));
    let tls = format!("[tls]\nca = \"{ca}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let repository = |(name, origin): &(&str, &str)| {
        format!("[[repositories]]\nname = \"{name}\"\norigin = \"{origin}\"\n")
    };
    let repositories: String = repositories.iter().map(repository).collect();
    format!("data = \"{}\"\n{tls}{repositories}", path("farm"))
}

#[tokio::test]
async fn a_farm_is_loaded_and_all_bad_origins_are_named_at_once() {
    let world = World::new(vec![]).await;
    let path = world.dir.path().join("farm.toml");
    let load = |text: String| {
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    };
    let good = load(farm(&world, &[("x/one", "/srv/one"), ("two", "https://host/a/two")])).unwrap();
    assert_eq!(good.repositories[0].origin, Address::Local("/srv/one".into()));
    assert_eq!(good.repositories[1].origin, Address::Remote("https://host/a/two".into()));
    assert_eq!(good.data, world.dir.path().join("farm/gitmirror"));
    let bad =
        load(farm(&world, &[("one", "ext::sh -c id"), ("two", "-x"), ("three", "/fine")])).err().unwrap();
    let text = bad.to_string();
    assert!(matches!(bad, LoadError::Origins(_)) && text.lines().count() == 2, "{text}");
    assert!(text.contains("repository `one`: `ext::sh -c id`") && text.contains("`two`"), "{text}");
    let plain = load("[[repositories]]\nname = \"one\"\norigin = \"/srv\"\n".into());
    assert!(matches!(plain.err(), Some(LoadError::NoTls(_))));
}

#[tokio::test]
async fn an_edit_is_taken_over_and_an_invalid_one_changes_nothing() {
    let (one, two) = (Origin::new(), Origin::new());
    let (path_of_one, path_of_two) = (one.path().to_str().unwrap(), two.path().to_str().unwrap());
    let mut world = World::new(vec![]).await;
    world.stop().await;
    let path = world.dir.path().join("farm.toml");
    std::fs::write(&path, farm(&world, &[("one", path_of_one)])).unwrap();
    let repositories = Config::load(&path).unwrap().repositories;
    let file = path.clone();
    world.start(repositories, |config| config.file = Some(file)).await;
    let mut watch = world.watch().await;
    watch.until_at("one refs/heads/main", &one.head()).await;
    for nonsense in ["nonsense = 1\n", "[[repositories]]\nname = \"one\"\norigin = \"ext::x\"\n"] {
        std::fs::write(&path, nonsense).unwrap();
        let next = one.commit("x", nonsense);
        watch.until_at("one refs/heads/main", &next).await;
    }
    std::fs::write(&path, farm(&world, &[("one", path_of_one), ("two", path_of_two)])).unwrap();
    watch.until_at("two refs/heads/main", &two.head()).await;
    assert_eq!(watch.refs.len(), 2);
}
