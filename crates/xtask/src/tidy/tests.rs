//! Plants the violation of each rule in a small tree and sees it found; the tree itself passes.

use std::{fs, path::PathBuf};

use super::*;

/// A small workspace that passes, in `tree/`; packages from elsewhere are beside it.
struct Fixture(tempfile::TempDir);

const CORE: &str = "
//! Decides.
use std::collections::HashMap;
/// State.
pub struct State { builds: HashMap<u64, u64>, order: Vec<u64> }
/// Decides.
pub fn step(state: &State) -> Vec<u64> {
    state.order.iter().filter_map(|id| state.builds.get(id).copied()).collect()
}
";

const CLIENTS: &str = "pub mod build_service_client {} pub mod build_service_server {}
pub struct Request { mail_server: String }";

impl Fixture {
    fn new() -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        fixture.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n[workspace.dependencies]\ntypes = { path = \"crates/types\" }\n");
        fixture.package("types", "");
        fixture.package("api", "");
        fixture.write("crates/api/src/gen/farmer.coordinator.v1.rs", CLIENTS);
        fixture.package("runtime", "types.workspace = true");
        fixture.write("crates/runtime/src/lib.rs", "use types as _;");
        fixture.write("crates/runtime/src/clock.rs", "fn now() { std::time::SystemTime::now(); }");
        fixture.package("coordinator", "");
        fixture.write("crates/coordinator/src/core/state.rs", CORE);
        fixture.package("gitmirror", "");
        fixture.package("farmer", "");
        fixture.accept_graph();
        fixture
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    fn append(&self, path: &str, text: &str) {
        let old = fs::read_to_string(self.root().join(path)).unwrap_or_default();
        self.write(path, &format!("{old}\n{text}"));
    }

    fn package(&self, name: &str, dependencies: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\nlicense = \"BSD-3-Clause\"\n[lints]\nworkspace = true\n[dependencies]\n{dependencies}\n"
        );
        self.write(&format!("crates/{name}/Cargo.toml"), &manifest);
        self.write(&format!("crates/{name}/src/lib.rs"), "");
        self.append("Cargo.toml", "");
        let root = fs::read_to_string(self.root().join("Cargo.toml")).unwrap();
        if !root.contains("[workspace.lints") {
            self.append("Cargo.toml", "[workspace.lints.rust]\n");
        }
    }

    /// A package outside of the workspace, as a registry has them.
    fn foreign(&self, name: &str, licence: &str) -> String {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n{licence}\n[workspace]\n"
        );
        self.write(&format!("../foreign/{name}/Cargo.toml"), &manifest);
        self.write(&format!("../foreign/{name}/src/lib.rs"), "");
        format!("{name} = {{ path = \"../../../foreign/{name}\" }}")
    }

    fn tree(&self) -> Tree {
        Tree::load(&self.root()).unwrap()
    }

    fn accept_graph(&self) {
        graph::write(&self.tree()).unwrap();
    }

    fn problems(&self) -> Vec<String> {
        check(&self.tree()).unwrap().iter().map(ToString::to_string).collect()
    }

    /// Exactly one problem, that says `expected`.
    #[track_caller]
    fn fails(&self, expected: &str) {
        let problems = self.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(expected),
            "expected `{expected}`, got {problems:#?}"
        );
    }
}

/// The problem that a line in a crate's source is.
#[track_caller]
fn planted(path: &str, text: &str, expected: &str) {
    let fixture = Fixture::new();
    fixture.append(path, text);
    fixture.fails(expected);
}

#[track_caller]
fn in_core(text: &str, expected: &str) {
    planted("crates/coordinator/src/core/state.rs", text, expected);
    planted("crates/coordinator/src/core.rs", text, expected);
}

#[test]
fn a_clean_tree_passes() {
    assert_eq!(Fixture::new().problems(), Vec::<String>::new());
}

#[test]
fn this_tree_is_tidy() {
    let problems = check(&Tree::load(&crate::root()).unwrap()).unwrap();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn a_crate_edge_that_is_not_in_the_graph_file_fails() {
    let fixture = Fixture::new();
    fixture.package("coordinator", "types.workspace = true");
    fixture.append("crates/coordinator/src/lib.rs", "use types as _;");
    fixture.fails("`coordinator -> types` is not in [crates]");
    fixture.accept_graph();
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn an_edge_that_is_gone_fails() {
    let fixture = Fixture::new();
    fixture.append("docs/graph.txt", "[crates]\nfarmer -> types");
    fixture.fails("`farmer -> types` is gone");
}

#[test]
fn a_crate_that_depends_on_a_higher_layer_fails_even_if_the_graph_file_has_it() {
    let fixture = Fixture::new();
    fixture.package("types", "runtime = { path = \"../runtime\" }");
    fixture.write("crates/types/src/lib.rs", "use runtime as _;");
    fixture.package("runtime", "");
    fixture.write("crates/farmer/src/lib.rs", "");
    fixture.package("farmer", "types.workspace = true");
    fixture.write("crates/farmer/src/lib.rs", "use types as _;");
    fixture.accept_graph();
    fixture
        .fails("`types` must not depend on `runtime`: the layer of floor lies above the layer of vocabulary");
}

#[test]
fn a_service_that_depends_on_a_service_fails() {
    let fixture = Fixture::new();
    fixture.package("gitmirror", "coordinator = { path = \"../coordinator\" }");
    fixture.write("crates/gitmirror/src/lib.rs", "use coordinator as _;");
    fixture.accept_graph();
    fixture.fails("`gitmirror` must not depend on `coordinator`: services talk through `api`");
}

#[test]
fn a_crate_without_a_layer_fails() {
    let fixture = Fixture::new();
    fixture.package("newcomer", "");
    fixture.fails("crate `newcomer` is in no layer");
}

#[test]
fn a_call_that_is_not_in_the_graph_file_fails() {
    planted(
        "crates/farmer/src/lib.rs",
        "use api::coordinator::{build_service_client::BuildServiceClient, Build};",
        "`farmer -> farmer.coordinator.v1.BuildService` is not in [calls]",
    );
    planted(
        "crates/coordinator/src/lib.rs",
        "use api::coordinator::build_service_server::BuildService;",
        "`coordinator -> farmer.coordinator.v1.BuildService` is not in [serves]",
    );
}

#[test]
fn a_field_that_is_called_like_a_service_is_none() {
    let fixture = Fixture::new();
    fixture.write("crates/coordinator/src/lib.rs", "fn f(r: &Request) -> &str { &r.mail_server }");
    assert!(fixture.problems().is_empty(), "{:#?}", fixture.problems());
}

#[test]
fn a_bare_spawn_fails() {
    let expected = "lib.rs:2: bare `tokio::spawn`";
    planted("crates/farmer/src/lib.rs", "fn f() { tokio::spawn(async {}); }", expected);
    planted(
        "crates/farmer/src/lib.rs",
        "fn f() { tokio::select! { _ = a => { tokio::task::spawn(b) } } }",
        expected,
    );
    planted("crates/farmer/src/lib.rs", "use tokio::task; fn f() { task::spawn(b); }", expected);
}

#[test]
fn a_wall_clock_read_outside_of_the_clock_fails() {
    for text in [
        "fn f() { std::time::SystemTime::now(); }",
        "use std::time::{Duration, Instant}; fn f() { Instant::now(); }",
        "use std::time; fn f() { x.get_or_insert_with(time::Instant::now); }",
        "use std::time::*; fn f() { SystemTime::now(); }",
        "fn f() { jiff::Timestamp::now(); }",
        "use std::time::UNIX_EPOCH; fn f() { UNIX_EPOCH.elapsed(); }",
    ] {
        planted("crates/farmer/src/lib.rs", text, "reads the clock");
    }
    let fixture = Fixture::new();
    fixture.append("crates/farmer/src/lib.rs", "use tokio::time::Instant; fn f() { Instant::now(); }");
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_channel_without_a_bound_fails() {
    let expected = "lib.rs:2: a channel without a bound";
    planted("crates/farmer/src/lib.rs", "fn f() { tokio::sync::mpsc::unbounded_channel::<u8>(); }", expected);
    planted("crates/farmer/src/lib.rs", "fn f() { futures_util::channel::mpsc::unbounded(); }", expected);
}

#[test]
fn a_file_over_the_limit_fails_and_a_generated_one_does_not() {
    planted("crates/farmer/src/up.rs", &"// line\n".repeat(801), "up.rs: 802 lines, the limit is 800");
    planted(
        "crates/farmer/src/lib.rs",
        &"// line\n".repeat(81),
        "lib.rs: 82 lines, the limit for an entry point is 80",
    );
    let fixture = Fixture::new();
    fixture.append("crates/api/src/gen/farmer.coordinator.v1.rs", &"// line\n".repeat(900));
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_vocabulary_that_grows_too_large_fails() {
    let fixture = Fixture::new();
    for part in ["a", "b", "c"] {
        fixture.write(&format!("crates/types/src/{part}.rs"), &"// line\n".repeat(700));
    }
    fixture.fails("crates/types: 2100 lines, the limit is 2000");
}

#[test]
fn a_runtime_or_transport_in_a_core_module_fails() {
    in_core("use tokio::sync::mpsc;", "core module uses `tokio`: a runtime");
    in_core("fn f() -> tonic::Status { panic!() }", "core module uses `tonic`: a transport");
    in_core(
        "macro_rules! m { () => { tokio_util::sync::CancellationToken::new() } }",
        "core module uses `tokio_util`",
    );
    in_core("pub async fn f() {}", "core module is async");
}

#[test]
fn a_clock_in_a_core_module_fails() {
    in_core("use std::time::Instant;", "core module uses `Instant`: a clock");
    in_core("fn f(clock: &runtime::SharedClock) {}", "core module uses `SharedClock`: a clock");
}

#[test]
fn input_or_output_in_a_core_module_fails() {
    in_core("fn f() { std::fs::read(\"a\"); }", "core module uses `fs`: input or output");
    in_core("use std::{env, fmt}; fn f() { env::var(\"A\"); }", "core module uses `env`: input or output");
}

#[test]
fn randomness_in_a_core_module_fails() {
    in_core("fn f() -> u64 { rand::random() }", "core module uses `rand`: randomness");
    in_core("use runtime::new_id;", "core module uses `new_id`: randomness");
    in_core("fn f() { uuid::Uuid::now_v7(); }", "core module uses `now_v7`: randomness");
}

#[test]
fn the_iteration_of_a_hash_map_in_a_core_module_fails() {
    let core = "crates/coordinator/src/core/state.rs";
    for text in [
        "fn f(state: &State) { for build in &state.builds {} }",
        "fn f(state: &State) { state.builds.values().sum() }",
        "fn f(state: &State) { let x = state.builds.iter(); }",
        "fn f(state: &mut State) { state.builds.retain(|_, _| true) }",
    ] {
        planted(core, text, "core module walks `builds`");
    }
    in_core(
        "fn f() { let mut seen = std::collections::HashSet::new(); seen.insert(1); for x in seen {} }",
        "core module walks `seen`",
    );
    in_core(
        "fn f(all: Option<&std::collections::HashMap<u8, u8>>) { all.iter(); }",
        "core module walks `all`",
    );
    in_core(
        "type Index = std::collections::HashMap<u8, u8>; fn f(index: &Index) { index.keys(); }",
        "core module walks `index`",
    );
    in_core(
        "impl S { fn map(&self) -> &HashMap<u8, u8> { g() } fn f(&self) { self.map().keys(); } }",
        "core module walks `map`",
    );
    in_core(
        "fn f(v: &[u8]) { let found = v.iter().collect::<HashSet<_>>(); found.iter(); }",
        "core module walks `found`",
    );
}

#[test]
fn a_core_module_may_have_a_function_of_its_own_by_such_a_name() {
    let fixture = Fixture::new();
    fixture
        .append("crates/coordinator/src/core/state.rs", "impl S { fn new_id(&mut self) { self.new_id() } }");
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn tests_of_a_core_module_may_do_as_they_like() {
    let fixture = Fixture::new();
    fixture.append(
        "crates/coordinator/src/core/state.rs",
        "#[cfg(test)] mod tests { use tokio::sync::mpsc; async fn f() {} }",
    );
    fixture.write("crates/coordinator/src/core/tests.rs", "use tokio::sync::mpsc;");
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_crate_without_the_shared_lints_fails_except_the_generated_one() {
    let fixture = Fixture::new();
    for name in ["gitmirror", "api"] {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = fs::read_to_string(fixture.root().join(&path)).unwrap();
        fixture.write(&path, &manifest.replace("[lints]\nworkspace = true\n", ""));
    }
    fixture.fails("crates/gitmirror/Cargo.toml: lacks `[lints] workspace = true`");
}

#[test]
fn a_dependency_that_nothing_uses_fails() {
    let fixture = Fixture::new();
    let dependency = fixture.foreign("left-pad", "license = \"MIT\"");
    fixture.package("gitmirror", &dependency);
    fixture.write("crates/gitmirror/src/lib.rs", "/// Not left_pad.\npub struct A; // left_pad");
    fixture.fails("crates/gitmirror/Cargo.toml: dependency `left-pad` is not used");
    fixture.write("crates/gitmirror/src/lib.rs", "fn f() { left_pad::pad() }");
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_workspace_dependency_that_no_crate_uses_fails() {
    let fixture = Fixture::new();
    let manifest = fs::read_to_string(fixture.root().join("Cargo.toml")).unwrap();
    let offered = "[workspace.dependencies]\nleft-pad = \"1\"";
    fixture.write("Cargo.toml", &manifest.replace("[workspace.dependencies]", offered));
    fixture.fails("no crate uses workspace dependency `left-pad`");
}

#[test]
fn a_log_field_or_metric_that_is_not_listed_fails() {
    let log = "fn f() { info!(target: \"x\", build.id = %number, count == 2, f(a = 1), \"build {number} started\"); }";
    planted(
        "crates/farmer/src/lib.rs",
        log,
        "lib.rs:2: log field `build.id` is not listed in docs/logging.md",
    );
    let metric = "fn f() { meter.u64_counter(\"builds\").build(); }";
    planted("crates/farmer/src/lib.rs", metric, "lib.rs:2: metric `builds` is not listed in docs/logging.md");
    let fixture = Fixture::new();
    fixture.write("docs/logging.md", "- `build.id`: its number\n- `builds`: how many");
    fixture.append("crates/farmer/src/lib.rs", log);
    fixture.append("crates/farmer/src/lib.rs", metric);
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_licence_that_is_not_allowed_fails() {
    for (licence, expected) in [
        ("license = \"GPL-3.0\"", "package `left-pad` has licence `GPL-3.0`"),
        ("", "package `left-pad` states no licence"),
    ] {
        let fixture = Fixture::new();
        let dependency = fixture.foreign("left-pad", licence);
        fixture.package("gitmirror", &dependency);
        fixture.write("crates/gitmirror/src/lib.rs", "use left_pad as _;");
        fixture.fails(expected);
    }
}

#[test]
fn a_second_tls_stack_fails() {
    for name in ["openssl", "aws-lc-rs"] {
        let fixture = Fixture::new();
        let dependency = fixture.foreign(name, "license = \"MIT\"");
        fixture.package("gitmirror", &dependency);
        fixture.write("crates/gitmirror/src/lib.rs", "use openssl as _; use aws_lc_rs as _;");
        fixture.fails(&format!("package `{name}` is banned"));
    }
}

#[test]
fn a_cloud_sdk_in_the_tree_of_farmer_fails_and_beside_it_does_not() {
    for name in ["aws-sdk-ec2", "kube"] {
        let fixture = Fixture::new();
        let dependency = fixture.foreign(name, "license = \"MIT\"");
        fixture.package("gitmirror", &dependency);
        fixture.write("crates/gitmirror/src/lib.rs", "use aws_sdk_ec2 as _; use kube as _;");
        assert_eq!(fixture.problems(), Vec::<String>::new());
        fixture.package("farmer", "gitmirror = { path = \"../gitmirror\" }");
        fixture.write("crates/farmer/src/lib.rs", "use gitmirror as _;");
        fixture.accept_graph();
        fixture.fails(&format!("`farmer` builds `{name}`"));
    }
}

#[test]
fn a_port_of_go_that_is_missing_in_the_table_fails() {
    use crate::ports::table;
    let fixture = Fixture::new();
    fixture.package("buildlet", "");
    fixture.accept_graph();
    let write = |names: &[&str]| {
        let entry = |name: &&str| format!("[[port]]\nname = \"{name}\"\nhow = \"none\"\nnote = \"no\"\n");
        fixture.write("docs/ports.toml", &names.iter().map(entry).collect::<Vec<_>>().concat());
    };
    let mut names: Vec<_> = table::GO.lines().collect();
    write(&names);
    fixture.fails("docs/ports.md: is not what docs/ports.toml gives");
    table::write(&fixture.root(), &table::load(&fixture.root()).unwrap()).unwrap();
    assert_eq!(fixture.problems(), Vec::<String>::new());
    let gone = names.pop().unwrap();
    write(&names);
    table::write(&fixture.root(), &table::load(&fixture.root()).unwrap()).unwrap();
    fixture.fails(&format!("{gone} is missing"));
}
