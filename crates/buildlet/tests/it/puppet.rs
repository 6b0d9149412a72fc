//! The program of `tests/puppet`: compiled here, sent to an agent in an archive, and told what to do there.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use buildlet_client::{ArchiveFormat, BuildletClient, ExecSpec, Lease};
use bytes::Bytes;
use futures_util::stream;

/// The folder that it is sent to.
const FOLDER: &str = "puppet";

/// What commands of the agent are compiled for, if it is not this machine: `FARMER_BUILDLET_COMMANDS` names the target.
fn target() -> Option<String> {
    std::env::var("FARMER_BUILDLET_COMMANDS").ok().filter(|target| !target.is_empty())
}

/// Whether commands of the agent run on Windows.
pub(crate) fn on_windows() -> bool {
    target().is_some_and(|target| target.contains("windows"))
}

fn name() -> &'static str {
    if on_windows() { "puppet.exe" } else { "puppet" }
}

/// The program's bytes. Compiled once: it needs nothing but the standard library.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let output = folder.path().join(name());
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/puppet/program.rs");
        let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        compiler.args(["--edition", "2024", "-C", "strip=symbols"]);
        if let Some(target) = target() {
            compiler.args(["--target", &target]);
        }
        let done = compiler.arg("-o").arg(&output).arg(source).status().unwrap();
        assert!(done.success(), "the puppet cannot be compiled");
        fs::read(output).unwrap()
    })
}

/// Sends it into the work folder of a lease.
pub(crate) async fn send(client: &BuildletClient, lease: Lease) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program().len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, name(), program()).unwrap();
    let archive = builder.into_inner().unwrap();
    let chunks: Vec<_> = archive.chunks(64 << 10).map(Bytes::copy_from_slice).collect();
    let written = client.write_tree(lease, FOLDER, ArchiveFormat::Tar, stream::iter(chunks)).await;
    assert_eq!(written.unwrap(), 1);
}

/// A command that has it do things.
pub(crate) fn told(words: &[&str]) -> ExecSpec {
    let program = format!("{FOLDER}/{}", name());
    let argv = std::iter::once(program).chain(words.iter().map(|&word| word.to_owned())).collect();
    ExecSpec { argv, ..ExecSpec::default() }
}
