//! What the machine is.

use std::os::fd::AsFd;

use rustix::{fs::fstatvfs, system::sysinfo};

/// As Go names the operating system and the processor, for example `linux/amd64`.
pub(crate) fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{os}/{arch}")
}

/// Bytes that builds may still use on the file system of a folder.
pub(crate) fn free_bytes(folder: impl AsFd) -> std::io::Result<u64> {
    let status = fstatvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The load average over one minute.
pub(crate) fn load() -> f64 {
    let fixed = sysinfo().loads[0];
    fixed as f64 / 65536.0
}

/// Memory in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let info = sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
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
        assert!(platform().starts_with("linux/"));
        assert!(free_bytes(std::fs::File::open("/").unwrap()).unwrap() > 0);
        assert!(memory_bytes() > 16 << 20 && cpus() > 0 && load() >= 0.0);
    }
}
