//! What a command finds in its environment.
//!
//! It is built from nothing, so that neither secrets nor the habits of the machine's owner leak into builds: a few
//! variables that programs cannot do without, what the machine's owner adds, and what the coordinator asks for.

use std::{collections::BTreeMap, path::Path};

use crate::platform;

/// Taken over from the buildlet's own environment, where set: how to reach the network, and what language to speak.
const TAKEN: &[&str] = &[
    "LANG",
    "LC_ALL",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUSTUP_HOME",
];

/// The environment that every exec begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseEnvironment {
    variables: BTreeMap<String, String>,
    work_folder: String,
}

impl BaseEnvironment {
    /// For a work folder, from the buildlet's own environment and what the machine's owner adds.
    pub(crate) fn new(
        work_folder: &str,
        own: impl Fn(&str) -> Option<String>,
        added: &[(String, String)],
    ) -> Self {
        let mut variables = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            variables.insert(name.to_owned(), value);
        };
        set("PATH", own("PATH").unwrap_or_else(|| platform::DEFAULT_PATH.to_owned()));
        set("LANG", "C.UTF-8".to_owned());
        for (names, folder) in [(platform::HOME_VARIABLES, HOME), (platform::TMP_VARIABLES, TMP)] {
            let path = Path::new(work_folder).join(folder);
            for name in names {
                set(name, path.display().to_string());
            }
        }
        if let Some(shell) = platform::SHELL {
            set("SHELL", shell.to_owned());
        }
        let user = own("USER").or_else(|| own("LOGNAME")).unwrap_or_else(|| "builder".to_owned());
        set("LOGNAME", user.clone());
        set("USER", user);
        // rustup finds its toolchains by HOME, which is another one in builds.
        if let Some(home) = own("HOME").filter(|home| Path::new(home).join(".rustup").is_dir()) {
            set("RUSTUP_HOME", format!("{home}/.rustup"));
        }
        for name in TAKEN.iter().chain(platform::NEEDED_VARIABLES) {
            if let Some(value) = own(name) {
                set(name, value);
            }
        }
        let mut base = Self { variables, work_folder: work_folder.to_owned() };
        base.variables = base.extended(added).into_iter().collect();
        base
    }

    /// The environment of one exec: a later value of a name wins, `$WORK` and `$PATH` are replaced.
    pub(crate) fn extended(&self, added: &[(String, String)]) -> Vec<(String, String)> {
        let mut variables = self.variables.clone();
        for (name, value) in added {
            let path = variables.get("PATH").map_or("", String::as_str);
            let value = expand(value, &self.work_folder, path);
            variables.insert(name.clone(), value);
        }
        variables.into_iter().collect()
    }
}

/// The home folder of builds, beneath the work folder.
pub(crate) const HOME: &str = "home";
/// The folder for temporary files, beneath the work folder.
pub(crate) const TMP: &str = "tmp";

/// Replaces `$WORK` and `$PATH` where the name ends there: `$WORKER` stays.
fn expand(value: &str, work_folder: &str, path: &str) -> String {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let name: usize =
            1 + rest[1..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        expanded.push_str(match &rest[..name] {
            "$WORK" => work_folder,
            "$PATH" => path,
            other => other,
        });
        rest = &rest[name..];
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        match name {
            "PATH" => Some("/bin".to_owned()),
            "FARMER_TOKEN" => Some("secret".to_owned()),
            "USER" => Some("ann".to_owned()),
            _ => None,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn value(environment: &[(String, String)], name: &str) -> Option<String> {
        environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_base_holds_nothing_that_is_not_meant_for_builds() {
        let base = BaseEnvironment::new("/w", own, &[]).extended(&[]);
        let names: Vec<_> = base.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "USER"]);
        assert_eq!(value(&base, "HOME").as_deref(), Some("/w/home"));
    }

    #[test]
    fn later_values_win_and_see_earlier_ones() {
        let base = BaseEnvironment::new("/w", own, &pairs(&[("PATH", "/opt/bin:$PATH")]));
        let added = pairs(&[
            ("PATH", "$WORK/bin:$PATH"),
            ("A", "1"),
            ("A", "$WORKER $WORK. 5$ $"),
            ("PATH", "$PATH:/z"),
        ]);
        let environment = base.extended(&added);
        assert_eq!(value(&environment, "PATH").as_deref(), Some("/w/bin:/opt/bin:/bin:/z"));
        assert_eq!(value(&environment, "A").as_deref(), Some("$WORKER /w. 5$ $"));
    }
}
