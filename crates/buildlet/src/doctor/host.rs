//! What the machine itself has: room, memory, processors, programs, permissions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::Finding;
use crate::{keys::Keys, platform};

const GB: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
/// Below this builds of larger projects fail half way.
const ROOM: u64 = 20 * GB;
/// Below this hardly any build ends well.
const LITTLE_ROOM: u64 = 2 * GB;

/// Free room where builds work.
pub(super) fn disk(folder: &Path) -> Finding {
    let there = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    match platform::free_bytes_at(there) {
        Ok(free) => judge_disk(free, there),
        Err(error) => Finding::fail(
            "disk",
            format!("`{}` cannot be looked at: {error}", there.display()),
            "let the buildlet's user read it",
        ),
    }
}

fn judge_disk(free: u64, folder: &Path) -> Finding {
    let found = format!("{} GB free in `{}`", free / GB, folder.display());
    let todo = "free some, or choose another folder with --work: 20 GB are enough for most projects";
    match free {
        ROOM.. => Finding::ok("disk", found),
        LITTLE_ROOM.. => Finding::warn("disk", found, todo),
        _ => Finding::fail("disk", found, todo),
    }
}

/// Memory.
pub(super) fn memory(bytes: u64) -> Finding {
    let found = format!("{} MiB", bytes / MIB);
    // The kernel keeps a little of what the machine has.
    match bytes / MIB {
        960.. => Finding::ok("memory", found),
        480.. => {
            Finding::warn("memory", found, "1 GiB or more lets compilers work; serve small projects only")
        }
        _ => Finding::fail("memory", found, "builds need 512 MiB at least"),
    }
}

/// Processors.
pub(super) fn processors(count: u32) -> Finding {
    match count {
        0 | 1 => Finding::warn(
            "processors",
            "1 processor",
            "builds are slow here: more, or a longer `timeout` in the host's builders",
        ),
        _ => Finding::ok("processors", format!("{count} processors")),
    }
}

/// Programs that builds call.
pub(super) fn tools(wanted: &[String]) -> Vec<Finding> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_in = |folder: &Path, name: &str| {
        let mut endings = platform::PROGRAM_ENDINGS.iter();
        endings.any(|ending| platform::is_program(&folder.join(format!("{name}{ending}"))))
    };
    let there = |name: &str| std::env::split_paths(&path).any(|folder| is_in(&folder, name));
    let names = ["sh", "git"].into_iter().chain(wanted.iter().map(String::as_str));
    let missing: Vec<_> = names.filter(|name| !there(name)).collect();
    let finding = match missing.as_slice() {
        [] => Finding::ok("tools", "all there"),
        [..] if missing.contains(&"sh") => {
            Finding::fail("tools", "`sh` is missing", "install it: every step of a build is a script")
        }
        _ => Finding::warn(
            "tools",
            format!("missing: {}", missing.join(", ")),
            "install what this host type promises, or put its folder into the buildlet's PATH",
        ),
    };
    vec![finding]
}

/// Who may read the key, as whom builds run, and whether the machine can be rebooted if it is to be.
pub(super) async fn permissions(keys: &Keys, reboot: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![key(&keys.key), user(platform::is_root())];
    if let Some(command) = reboot {
        findings.push(reboots(command).await);
    }
    if let Some(socket) = ["/var/run/docker.sock", "/run/docker.sock"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| platform::is_writable(path))
    {
        findings.push(Finding::warn(
            "permissions",
            format!("builds can use `{}`, and with it become root", socket.display()),
            "take the buildlet's user out of the group that owns it",
        ));
    }
    findings
}

fn key(path: &Path) -> Finding {
    match fs::metadata(path) {
        Err(_) => Finding::ok("key", "none yet"),
        Ok(found) if platform::is_open_to_others(&found) => Finding::fail(
            "key",
            format!("others can read `{}`", path.display()),
            format!("chmod 600 {0}, and enrol again if somebody may have read it", path.display()),
        ),
        Ok(found) if !platform::is_ours(&found) => Finding::warn(
            "key",
            format!("`{}` belongs to another user", path.display()),
            "run the doctor as the user that runs the buildlet",
        ),
        Ok(_) => Finding::ok("key", "readable by its owner only"),
    }
}

fn user(is_root: bool) -> Finding {
    if is_root {
        let todo = "run the buildlet as a user of its own: what a build breaks is then its own";
        return Finding::warn("user", "builds run as root", todo);
    }
    Finding::ok("user", "builds run without privileges")
}

/// Whether sudo lets the command pass without a password; it is not run.
async fn reboots(command: &str) -> Finding {
    let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "-n").collect();
    let Some((&"sudo", rest)) = words.split_first() else {
        return Finding::ok("reboot", format!("`{command}` is not tried"));
    };
    let mut sudo = tokio::process::Command::new("sudo");
    sudo.args(["-n", "-l"]).args(rest).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match sudo.status().await {
        Ok(status) if status.success() => Finding::ok("reboot", format!("`{command}` is allowed")),
        _ => Finding::warn(
            "reboot",
            format!("`{command}` is not allowed without a password"),
            format!(
                "let the buildlet's user do it in /etc/sudoers.d: USER ALL=(root) NOPASSWD: {}",
                rest.join(" ")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn room_and_memory_are_judged_as_builds_need_them() {
        let disk = |gb: u64| judge_disk(gb * GB, Path::new("/")).level;
        assert_eq!([disk(1), disk(5), disk(20)], [Level::Fail, Level::Warn, Level::Ok]);
        let memory = |mib: u64| memory(mib * MIB).level;
        assert_eq!([memory(400), memory(700), memory(2000)], [Level::Fail, Level::Warn, Level::Ok]);
        assert_eq!([processors(1).level, processors(2).level], [Level::Warn, Level::Ok]);
        assert!(tools(&["no-such-program".to_owned()])[0].found.contains("no-such-program"));
    }

    #[test]
    fn a_key_that_others_can_read_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.key");
        assert_eq!(key(&path).level, Level::Ok);
        fs::write(&path, "key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(key(&path).level, Level::Fail);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key(&path).level, Level::Ok);
        assert_eq!(user(true).level, Level::Warn);
    }
}
