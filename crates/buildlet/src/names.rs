//! Names that Windows reads otherwise than they are written: devices, streams of files, what it cuts off. A path with
//! such a name would lead elsewhere than it seems, so it is refused there, whatever asked for it.

/// Says why a name cannot be one of a file on Windows.
pub(crate) fn check(name: &str) -> Result<(), &'static str> {
    if name.contains('\\') {
        return Err("it contains `\\`: names are separated by `/`");
    }
    if name.contains(':') {
        return Err("it contains `:`, which names a drive or a stream");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '<' | '>' | '"' | '|' | '?' | '*')) {
        return Err("it contains a character that Windows does not take");
    }
    if name.ends_with(['.', ' ']) {
        return Err("it ends with a dot or a blank, which Windows cuts off");
    }
    if is_device(name) {
        return Err("it names a device");
    }
    Ok(())
}

/// Devices lie in every folder, with any ending; blanks before the ending do not count.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")).unwrap_or_default();
    matches!(number, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_reads_otherwise_is_refused() {
        for name in [
            "a\\b",
            "..\\up",
            "C:",
            "C:file",
            "file:stream",
            "file::$DATA",
            "nul",
            "NUL.txt",
            "Con .tar.gz",
            "com1",
            "lpt9.log",
            "COM²",
            "conout$",
            "aux",
            "trailing.",
            "trailing ",
            "...",
            "a?",
            "a*",
            "a|b",
            "<a>",
            "\"",
            "tab\t",
            "line\n",
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn usual_names_are_fine() {
        for name in
            ["a", ".git", "null", "console.rs", "com", "com10", "lpt", "a b", "naïve.txt", "..a", "x.y.z"]
        {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }
}
