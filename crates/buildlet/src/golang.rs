//! The command line of the Go project's buildlet, which machine owners know: `buildlet -coordinator=HOST:PORT
//! -reverse-type=host-foo-bar -reboot=false`, with the key in `$GO_BUILD_KEY_PATH`, `~/.gobuildkey-host-foo-bar` or
//! `~/.gobuildkey`. It is turned into ours, so that there is one way through the program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The options that take a value, and those that are true or false.
const VALUES: &[&str] = &["coordinator", "reverse-type", "hostname", "workdir", "listen", "health-addr"];
const FLAGS: &[&str] = &["reboot", "halt"];

/// What the translation looks up.
pub(crate) struct Surroundings<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) exists: &'a dyn Fn(&Path) -> bool,
}

/// Our command line for a Go-style one; any other as it is.
///
/// # Errors
/// What cannot be done, in words.
pub(crate) fn translate(args: Vec<OsString>, around: &Surroundings<'_>) -> Result<Vec<OsString>, String> {
    if !args.iter().skip(1).filter_map(|arg| arg.to_str()).any(is_go) {
        return Ok(args);
    }
    let mut words = args.into_iter();
    let program = words.next().unwrap_or_default();
    let mut given = Given::default();
    while let Some(word) = words.next() {
        let text = word.to_str().ok_or("an option is not UTF-8")?.to_owned();
        let (name, value) =
            text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
        let name = name.trim_start_matches('-');
        if FLAGS.contains(&name) {
            check_flag(name, value.unwrap_or("true"))?;
        } else if VALUES.contains(&name) {
            let next = || words.next().and_then(|word| word.into_string().ok());
            let value = value.map(str::to_owned).or_else(next).ok_or(format!("`-{name}` needs a value"))?;
            given.value(name, value);
        } else {
            return Err(format!("`{text}` cannot be mixed with `-coordinator` and `-reverse-type`"));
        }
    }
    given.ours(program, around)
}

/// Whether it is one of the options that only the Go buildlet writes with one dash.
fn is_go(arg: &str) -> bool {
    let name = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    let name = name.and_then(|rest| rest.split('=').next()).unwrap_or_default();
    VALUES.contains(&name) || FLAGS.contains(&name)
}

#[derive(Default)]
struct Given {
    coordinator: Option<String>,
    host_type: Option<String>,
    hostname: Option<String>,
    work: Option<String>,
}

/// `-halt` is the Go buildlet's default: it halts virtual machines that it knows, and no others.
fn check_flag(name: &str, value: &str) -> Result<(), String> {
    if name == "halt" || matches!(value, "false" | "0" | "f") {
        return Ok(());
    }
    Err("`-reboot` is not needed: a machine is wiped and proven clean after each build; say `-reboot=false`, or have \
         stage0 reboot it (`buildlet stage0 --reboot-after 1`)"
        .to_owned())
}

impl Given {
    fn value(&mut self, name: &str, value: String) {
        match name {
            "coordinator" => self.coordinator = Some(value),
            "reverse-type" => self.host_type = Some(value),
            "hostname" => self.hostname = Some(value),
            "workdir" => self.work = Some(value),
            // A buildlet that dials needs no port, and its health is what the farm says.
            _ => {}
        }
    }

    fn ours(self, program: OsString, around: &Surroundings<'_>) -> Result<Vec<OsString>, String> {
        let variable = |name: &str| (around.variable)(name).filter(|value| !value.is_empty());
        let host_type = self.host_type.ok_or("`-reverse-type` is needed: a machine that dials in")?;
        let home = variable("HOME").map(PathBuf::from).ok_or("`HOME` is not set")?;
        let coordinator = self.coordinator.unwrap_or_else(|| "localhost:8119".to_owned());
        let url = if coordinator.contains("://") { coordinator } else { format!("https://{coordinator}") };
        let name = self.hostname.or_else(|| variable("HOSTNAME"));
        let temporary = variable("TMPDIR").unwrap_or_else(|| "/tmp".to_owned());
        let work = self.work.unwrap_or_else(|| format!("{temporary}/workdir-{host_type}"));
        let state = home.join(".local/state/buildlet").join(&host_type);
        let key = key(&home, &host_type, around)?;
        let mut ours = vec![program];
        let mut option = |name: &str, value: OsString| ours.extend([OsString::from(name), value]);
        option("--coordinator", url.into());
        option("--host-type", host_type.into());
        option("--work", work.into());
        option("--state", state.into());
        option("--key", key.into());
        if let Some(name) = name {
            option("--name", name.split('.').next().unwrap_or_default().to_ascii_lowercase().into());
        }
        Ok(ours)
    }
}

/// The key's file, where the Go buildlet looks for it.
fn key(home: &Path, host_type: &str, around: &Surroundings<'_>) -> Result<PathBuf, String> {
    if let Some(path) = (around.variable)("GO_BUILD_KEY_PATH").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let places = [home.join(format!(".gobuildkey-{host_type}")), home.join(".gobuildkey")];
    places.iter().find(|path| (around.exists)(path)).cloned().ok_or_else(|| {
        format!(
            "there is no key in `{}` or `{}`: ask who looks after the farm to make one with `farmer key {host_type}`",
            places[0].display(),
            places[1].display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, files: &[&str], expected: &str) {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/ann".to_owned()),
            "HOSTNAME" => Some("Box.example.org".to_owned()),
            _ => None,
        };
        let exists = |path: &Path| files.iter().any(|file| Path::new(file) == path);
        let around = Surroundings { variable: &variable, exists: &exists };
        let args = line.split(' ').map(OsString::from).collect();
        let text = match translate(args, &around) {
            Ok(words) => words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        };
        assert!(text.contains(expected), "{line}: {text}");
    }

    #[test]
    fn the_command_line_that_machine_owners_know_works() {
        let all = "b --coordinator https://farm.golang.org:443 --host-type host-foo-bar --work /tmp/workdir-host-foo-bar \
                   --state /home/ann/.local/state/buildlet/host-foo-bar --key /home/ann/.gobuildkey-host-foo-bar --name box";
        let line = "b -coordinator=farm.golang.org:443 -reverse-type=host-foo-bar -reboot=false";
        check(line, &["/home/ann/.gobuildkey-host-foo-bar", "/home/ann/.gobuildkey"], all);
        let spaced = "b -coordinator farm.golang.org:443 -reverse-type host-foo-bar --halt=false";
        check(spaced, &["/home/ann/.gobuildkey"], "--key /home/ann/.gobuildkey --name box");
    }

    #[test]
    fn what_is_missing_is_said() {
        check("b -coordinator=c -reverse-type=t", &[], "farmer key t");
        check("b -coordinator=c", &["/home/ann/.gobuildkey"], "`-reverse-type` is needed");
        check("b -coordinator=c -reverse-type=t -reboot", &["/home/ann/.gobuildkey"], "`-reboot=false`");
        check("b -coordinator=c --log x", &[], "cannot be mixed");
        check("b -coordinator", &[], "needs a value");
    }

    #[test]
    fn our_own_command_line_is_left_as_it_is() {
        let ours = "b --coordinator https://c --name m --work /w";
        check(ours, &[], ours);
        check("b enroll --coordinator https://c", &[], "b enroll --coordinator https://c");
    }
}
