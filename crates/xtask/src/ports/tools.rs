//! What ports are compiled and run with.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::table::Port;

/// In the place of a compiler and an archiver: what they would make is made, but empty. Enough to look at Rust's types.
const NOTHING: &str = "#!/bin/sh
for word; do
  case $before in -o) : >\"$word\" ;; esac
  case $word in *.a) printf '!<arch>\\n' >\"$word\" ;; esac
  before=$word
done
";

/// The linker that comes with rustc.
const OWN_LINKER: &str = "rust-lld";
const WINE: &str = "wine";

/// Knows the tools of ports.
pub(super) struct Tools;

impl Tools {
    /// What a port needs and is not here.
    pub(super) fn missing(port: &Port) -> anyhow::Result<Vec<String>> {
        let mut missing = Vec::new();
        let target = port.target()?;
        if !targets(&["--installed"])?.iter().any(|installed| installed == target) {
            missing.push(format!("target `{target}` of rustc"));
        }
        for tool in [&port.compiler, &port.linker, &port.runner].into_iter().flatten() {
            if tool != OWN_LINKER && find(tool).is_none() && !missing.contains(&format!("`{tool}`")) {
                missing.push(format!("`{tool}`"));
            }
        }
        Ok(missing)
    }

    /// Has cargo compile for a port: a binary that needs no library of the system.
    pub(super) fn compile(port: &Port, cargo: &mut Command) -> anyhow::Result<()> {
        let target = port.target()?;
        let (lower, upper) = (target.replace('-', "_"), target.replace('-', "_").to_uppercase());
        let compiler = port.compiler.as_deref().context("it has no compiler for C")?;
        let archiver = compiler.strip_suffix("gcc").map_or("ar".to_owned(), |prefix| format!("{prefix}ar"));
        cargo.env(format!("CC_{lower}"), compiler).env(format!("AR_{lower}"), archiver);
        if !port.is_windows() {
            // Distributions turn on what only their own C library has.
            cargo.env(format!("CFLAGS_{lower}"), "-U_FORTIFY_SOURCE -fno-stack-protector");
            cargo.env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), "-C target-feature=+crt-static");
        }
        if let Some(linker) = &port.linker {
            cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), linker);
        }
        spare(cargo);
        Ok(())
    }

    /// Has cargo look at Rust only: no compiler for C is needed for that, nor the headers of the system.
    pub(super) fn leave_c_out(port: &Port, folder: &Path, cargo: &mut Command) -> anyhow::Result<()> {
        let lower = port.target()?.replace('-', "_");
        let nothing = folder.join("ports").join("nothing");
        fs::create_dir_all(folder.join("ports")).context("make a folder for a script")?;
        fs::write(&nothing, NOTHING).context("write a script")?;
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o755)).context("write a script")?;
        for variable in ["CC", "CXX", "AR", "RANLIB"] {
            cargo.env(format!("{variable}_{lower}"), &nothing);
        }
        // Where Apple's headers would be.
        cargo.env("SDKROOT", folder.join("ports"));
        spare(cargo);
        Ok(())
    }

    /// Has a test use the agent of a port, by what runs it here.
    pub(super) fn run(
        port: &Port,
        binary: &Path,
        folder: &Path,
        root: &Path,
        test: &mut Command,
    ) -> anyhow::Result<Runner> {
        let binary = binary.to_str().context("the target folder's path is not UTF-8")?;
        ensure!(!binary.contains(char::is_whitespace), "`{binary}` contains a blank");
        test.env("FARMER_BUILDLET_PLATFORM", &port.name);
        let Some(name) = &port.runner else {
            test.env("FARMER_BUILDLET", binary);
            return Ok(Runner(None));
        };
        let runner = find(name).with_context(|| format!("no `{name}`"))?;
        let runner = runner.display();
        test.env("FARMER_BUILDLET", format!("{runner} {binary}"));
        if name != WINE {
            return Ok(Runner(None));
        }
        let prefix = wine(port, folder, root)?;
        test.env("FARMER_BUILDLET_COMMANDS", port.target()?);
        test.env("WINEPREFIX", &prefix).env("WINEDEBUG", "-all");
        Ok(Runner(Some(prefix)))
    }
}

/// Nobody debugs these, and folders of many targets are large.
fn spare(cargo: &mut Command) {
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
}

/// What runs beside the agent: wine's server, by its folder.
pub(super) struct Runner(Option<PathBuf>);

impl Runner {
    /// Ends it.
    pub(super) fn end(self) {
        if let Some(prefix) = self.0 {
            let _ = Command::new("wineserver").arg("-k").env("WINEPREFIX", prefix).status();
        }
    }
}

/// A folder for wine, with what Rust needs of Windows and old versions of wine lack.
fn wine(port: &Port, folder: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let prefix = folder.join("ports").join("wine");
    let system = prefix.join("drive_c/windows/system32");
    if !system.is_dir() {
        fs::create_dir_all(&prefix).context("make a folder for wine")?;
        let mut boot = Command::new("wineboot");
        boot.arg("--init").env("WINEPREFIX", &prefix).env("WINEDEBUG", "-all");
        // It must not ask whether to fetch what web pages and .NET need.
        boot.env("WINEDLLOVERRIDES", "mscoree,mshtml=").stdin(Stdio::null());
        ensure!(boot.status().context("run wineboot")?.success(), "wineboot fails");
    }
    let library = system.join("bcryptprimitives.dll");
    if !library.exists() {
        let source = root.join("tests/real/ports/bcryptprimitives.c");
        let compiler = port.compiler.as_deref().context("it has no compiler for C")?;
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-O1", "-o"]).arg(&library).arg(source).arg("-ladvapi32");
        ensure!(compile.status().context("run the compiler")?.success(), "the library cannot be compiled");
    }
    Ok(prefix)
}

/// Targets that rustc has a standard library for; with `--installed`, those that are here.
pub(super) fn targets(options: &[&str]) -> anyhow::Result<Vec<String>> {
    let listed = Command::new("rustup").args(["target", "list"]).args(options).output();
    let listed = listed.context("run rustup")?;
    ensure!(listed.status.success(), "rustup does not list targets");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}
