//! What is asked of the operating system and answered by each in its own way: one file for each family. The rest of the
//! crate does not know what it runs on, but for what only Linux has at all: [`crate::keeper`] and [`crate::cgroup`] say
//! themselves what stands in its place elsewhere.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(all(unix, not(target_os = "linux")))]
mod other;
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use other::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::*;

/// As Go names the operating system and the processor, for example `linux/amd64`.
pub(crate) fn name() -> String {
    let little = cfg!(target_endian = "little");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "mips" if little => "mipsle",
        "mips64" if little => "mips64le",
        "loongarch64" => "loong64",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{os}/{arch}")
}

/// Logical processors that builds may use.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_machines_have() {
        assert!(name().starts_with("linux/"));
        assert!(free_bytes(std::fs::File::open("/").unwrap()).unwrap() > 0);
        assert!(memory_bytes() > 16 << 20 && cpus() > 0 && load() >= 0.0);
        assert!(uptime().is_some_and(|uptime| !uptime.is_zero()) && !host_name().is_empty());
    }

    #[test]
    fn a_process_lives_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_alive(child.id()));
        kill(child.id());
        child.wait().unwrap();
        assert!(!is_alive(child.id()) && !is_alive(0));
    }

    #[test]
    fn a_file_that_nobody_finds_can_be_read_by_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = nameless_file(folder.path()).unwrap();
        std::io::Write::write_all(&mut file, b"input").unwrap();
        let mut read = [0; 3];
        read_exact_at(&file, &mut read, 2).unwrap();
        assert_eq!((&read, std::fs::read_dir(folder.path()).unwrap().count()), (b"put", 0));
    }
}
