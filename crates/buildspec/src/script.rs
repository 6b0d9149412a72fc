//! A builder's scripts as commands for a buildlet; and how names of tests come out of its list script and go into its
//! run script, whatever characters are in them.

use std::{collections::HashSet, fmt::Write as _, str::FromStr};

/// The most bytes of names in one shard when the run script has `{tests}`: Linux takes 128 KiB in one argument, and
/// quoting may need four bytes for one.
pub const MAX_INLINE_BYTES: usize = 24 << 10;
/// The most bytes of names in one shard when they only travel in the file: standard input of an exec takes 1 MiB.
pub const MAX_FILE_BYTES: usize = 960 << 10;
/// The most tests of one list.
pub const MAX_TESTS: usize = 500_000;

/// Stands between what a list script says to people and the names: an exec has one output for both.
const NAMES: &str = "##### names of tests";
/// Stands for the quoted names in a run script.
pub(crate) const PLACEHOLDER: &str = "{tests}";

/// What stands between names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Separator {
    /// A line's end, so that names have none.
    #[default]
    Line,
    /// A zero byte, so that names may have anything else.
    Nul,
}

/// Not a separator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a separator: `line` and `nul` are")]
pub struct ParseSeparatorError(String);

impl FromStr for Separator {
    type Err = ParseSeparatorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "line" => Ok(Self::Line),
            "nul" => Ok(Self::Nul),
            _ => Err(ParseSeparatorError(text.chars().take(64).collect())),
        }
    }
}

/// A command for a buildlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// What a list script printed is not a list of tests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A name that is not UTF-8 cannot be shown or stored.
    #[error("test {number} of the list is not UTF-8: `{shown}`")]
    NotText {
        /// Which, from 1.
        number: usize,
        /// As far as it can be shown.
        shown: String,
    },
    /// More than a farm can handle.
    #[error("the list has more than {MAX_TESTS} tests")]
    TooMany,
    /// One that fits into no shard.
    #[error("the name of test {number} of the list has {bytes} bytes: {MAX_INLINE_BYTES} may be")]
    TooLong {
        /// Which, from 1.
        number: usize,
        /// How long.
        bytes: usize,
    },
}

/// Runs a script: with `sh`, ended by the first command that fails.
pub fn shell(script: &str) -> Command {
    Command { argv: vec!["sh".into(), "-ec".into(), script.into()], stdin: Vec::new() }
}

/// Runs a list script. What it writes to standard error, or all if it fails, is for people; [`parse_list`] finds the
/// names behind that.
pub fn list(script: &str) -> Command {
    let mut whole = String::with_capacity(script.len() + 300);
    whole.push_str(
        "FARMER_LIST=$(mktemp)\ntrap 'FARMER_STATUS=$?; [ $FARMER_STATUS = 0 ] || cat \"$FARMER_LIST\"\n",
    );
    // Not `( … ) || …`, which would let the script go on after a command that fails.
    let _ = write!(
        whole,
        "rm -f \"$FARMER_LIST\"; exit $FARMER_STATUS' EXIT\n(\n{script}\n) < /dev/null > \"$FARMER_LIST\"\n\
         printf '\\n%s\\n' '{NAMES}'\ncat \"$FARMER_LIST\"\n"
    );
    shell(&whole)
}

/// The names that a list script printed, as run by [`list`], in its order. White space around a line and empty names are dropped, a name
/// that comes again is taken once.
///
/// # Errors
///
/// When a name cannot be handled; the build then fails and says why.
pub fn parse_list(output: &[u8], separator: Separator) -> Result<Vec<String>, ListError> {
    let byte = separator.byte();
    let output = names_of(output);
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for (index, name) in output.split(|b| *b == byte).enumerate() {
        let number = index + 1;
        let name = str::from_utf8(name).map_err(|_| ListError::NotText {
            number,
            shown: String::from_utf8_lossy(name).chars().take(80).collect(),
        })?;
        let name = if separator == Separator::Line { name.trim() } else { name };
        if name.len() > MAX_INLINE_BYTES {
            return Err(ListError::TooLong { number, bytes: name.len() });
        }
        if name.is_empty() || !seen.insert(name) {
            continue;
        }
        if names.len() == MAX_TESTS {
            return Err(ListError::TooMany);
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// What stands behind the line that [`list`] prints; all, if it did not print it.
fn names_of(output: &[u8]) -> &[u8] {
    let mark = format!("\n{NAMES}\n");
    let at = output.windows(mark.len()).position(|window| window == mark.as_bytes());
    at.map_or(output, |at| &output[at + mark.len()..])
}

/// The most bytes of names, each with its separator, that one [`run`] of this script takes.
pub fn max_bytes(script: &str) -> usize {
    if script.contains(PLACEHOLDER) { MAX_INLINE_BYTES } else { MAX_FILE_BYTES }
}

/// Runs some tests. The names come in by standard input and are put into a file that `$FARMER_TESTS` names, one per
/// line (or zero byte, by `separator`); the file goes when the script ends. The script itself reads an empty standard
/// input.
pub fn run(script: &str, names: &[&str], separator: Separator) -> Command {
    let quoted = names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(" ");
    let script = script.replace(PLACEHOLDER, &quoted);
    let mut stdin = Vec::new();
    for name in names {
        stdin.extend_from_slice(name.as_bytes());
        stdin.push(separator.byte());
    }
    // A subshell, so that an `exec` or `exit` in the script does not skip the removal.
    let mut whole = String::with_capacity(script.len() + 200);
    whole.push_str("FARMER_TESTS=$(mktemp)\nexport FARMER_TESTS\ntrap 'rm -f \"$FARMER_TESTS\"' EXIT\n");
    whole.push_str("cat > \"$FARMER_TESTS\"\n(\n");
    let _ = write!(whole, "{script}\n) < /dev/null\n");
    Command { argv: shell(&whole).argv, stdin }
}

/// What [`run`] does, as one script that a person can read, change and run by hand; the file of names is left behind.
pub fn spelled(script: &str, names: &[&str], separator: Separator) -> String {
    let quoted = names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(" ");
    let script = script.replace(PLACEHOLDER, &quoted);
    let end = match separator {
        Separator::Line => "\\n",
        Separator::Nul => "\\0",
    };
    format!(
        "FARMER_TESTS=$(mktemp)\nexport FARMER_TESTS\nprintf '%s{end}' {quoted} > \"$FARMER_TESTS\"\n{script}\n"
    )
}

/// A word that the shell reads back as `text`.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    // `=` at the front of a word would be an assignment, so that only names with a safe first character stay bare.
    if !text.is_empty() && text.chars().all(plain) && !text.contains('=') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Separator {
    fn byte(self) -> u8 {
        match self {
            Self::Line => b'\n',
            Self::Nul => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Stdio};

    use proptest::prelude::*;

    use super::*;

    fn runs(command: &Command) -> (String, Option<i32>) {
        let mut child = std::process::Command::new(&command.argv[0])
            .args(&command.argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = command.stdin.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    #[test]
    fn a_list_is_read_in_order_without_repeats() {
        let names = parse_list(b"b\n  a \r\n\nb\nc d", Separator::Line).unwrap();
        assert_eq!(names, ["b", "a", "c d"]);
        let names = parse_list(b" b\n\0\0a\0", Separator::Nul).unwrap();
        assert_eq!(names, [" b\n", "a"]);
        assert!(parse_list(b"", Separator::Line).unwrap().is_empty());
    }

    #[test]
    fn what_a_list_script_says_to_people_is_not_taken_for_names() {
        let (output, code) =
            runs_merged(&list("echo 'warning: old' >&2\necho a; printf 'b c' ; echo 'more' >&2"));
        assert_eq!(code, Some(0));
        assert!(output.starts_with("warning: old\nmore\n"), "{output}");
        assert_eq!(parse_list(output.as_bytes(), Separator::Line).unwrap(), ["a", "b c"]);
        let (output, code) = runs_merged(&list("true"));
        assert_eq!(code, Some(0));
        assert!(parse_list(output.as_bytes(), Separator::Line).unwrap().is_empty());
        let (output, code) = runs_merged(&list("echo first; echo why >&2; (exit 7); echo never"));
        assert_eq!((output.as_str(), code), ("why\nfirst\n", Some(7)));
    }

    /// As an exec runs it: with one output.
    fn runs_merged(command: &Command) -> (String, Option<i32>) {
        let script = [command.argv[2].as_str(), "exec 2>&1\n"].into_iter().rev().collect::<String>();
        runs(&Command { argv: vec!["sh".into(), "-ec".into(), script], stdin: Vec::new() })
    }

    #[test]
    fn a_list_that_cannot_be_handled_says_where() {
        let error = parse_list(b"ok\n\xff\xfe", Separator::Line).unwrap_err();
        assert_eq!(error.to_string(), "test 2 of the list is not UTF-8: `\u{fffd}\u{fffd}`");
        let long = vec![b'x'; MAX_INLINE_BYTES + 1];
        let error = parse_list(&long, Separator::Line).unwrap_err();
        assert_eq!(error, ListError::TooLong { number: 1, bytes: MAX_INLINE_BYTES + 1 });
        let many = "x\n".repeat(3) + &(0..=MAX_TESTS).fold(String::new(), |all, n| all + &format!("{n}\n"));
        assert_eq!(parse_list(many.as_bytes(), Separator::Line), Err(ListError::TooMany));
    }

    #[test]
    fn a_script_ends_at_its_first_failing_command() {
        let (output, code) = runs(&shell("echo one\nfalse\necho two"));
        assert_eq!((output.as_str(), code), ("one\n", Some(1)));
    }

    #[test]
    fn a_run_sees_names_as_words_and_as_a_file_and_ends_as_its_script() {
        let names = ["a b", "$HOME", "it's", "*", "-x", "A=1"];
        let script = "printf '<%s>' {tests}\ncat \"$FARMER_TESTS\"; cat; exit 3";
        let (output, code) = runs(&run(script, &names, Separator::Line));
        assert_eq!(output, "<a b><$HOME><it's><*><-x><A=1>a b\n$HOME\nit's\n*\n-x\nA=1\n");
        assert_eq!(code, Some(3));
    }

    #[test]
    fn the_file_of_names_goes_when_the_script_ends() {
        let (path, _) = runs(&run("printf %s \"$FARMER_TESTS\"; exit 1", &["a"], Separator::Line));
        assert!(path.starts_with('/') && !std::path::Path::new(&path).exists(), "{path}");
    }

    #[test]
    fn as_many_names_as_a_shard_may_have_fit_into_a_command() {
        let name = "'".repeat(MAX_INLINE_BYTES - 1);
        let (output, code) = runs(&run("printf %s {tests} | wc -c", &[&name], Separator::Line));
        assert_eq!((output.trim(), code), ((MAX_INLINE_BYTES - 1).to_string().as_str(), Some(0)));
        let names = vec!["0123456789abcde"; MAX_FILE_BYTES / 16];
        let (output, _) = runs(&run("wc -l < \"$FARMER_TESTS\"", &names, Separator::Line));
        assert_eq!(output.trim(), (MAX_FILE_BYTES / 16).to_string());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_shell_reads_back_what_was_quoted(name in "[^\0]{0,20}") {
            let (output, _) = runs(&shell(&format!("printf %s {}", quote(&name))));
            prop_assert_eq!(output, name);
        }

        #[test]
        fn names_of_any_text_travel_by_zero_bytes(names in prop::collection::vec("[^\0]{1,20}", 1..5)) {
            let refs: Vec<&str> = names.iter().map(String::as_str).collect();
            let (output, _) = runs(&run("cat \"$FARMER_TESTS\"", &refs, Separator::Nul));
            let mut unique = Vec::new();
            names.iter().filter(|n| !unique.contains(*n)).cloned().collect::<Vec<_>>().into_iter().for_each(|n| {
                if !unique.contains(&n) { unique.push(n); }
            });
            prop_assert_eq!(parse_list(output.as_bytes(), Separator::Nul).unwrap(), unique);
        }
    }
}
