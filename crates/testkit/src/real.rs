//! Real servers, started by the scripts of `tests/real/`.
//!
//! Such a script prints a line `key=value` for each thing to know and then `ready`, ends when its standard input is
//! closed, and leaves nothing. Where it cannot run it says why on standard error and exits with 69.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::skipped;

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    lines: Vec<String>,
}

impl Server {
    /// Starts what a script of `tests/real/` starts. Where that is not possible, says that `test` is skipped for want of
    /// `what`, and why.
    pub(crate) fn start(script: &str, what: &str, test: &str) -> Option<Self> {
        let scripts = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/real"));
        let mut process = Command::new(scripts.join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the script");
        let mut is_ready = false;
        let output = BufReader::new(process.stdout.take().expect("has an output"));
        let lines = output.lines().map_while(Result::ok).take_while(|line| {
            is_ready = line == "ready";
            !is_ready
        });
        let lines = lines.collect();
        if is_ready {
            return Some(Self { process, lines });
        }
        let mut why = String::new();
        let _ = process.stderr.take().expect("has an output").read_to_string(&mut why);
        assert_eq!(process.wait().expect("wait for the script").code(), Some(69), "{why}");
        skipped(test, what, why.trim());
        None
    }

    /// What the script said of a key.
    pub(crate) fn value(&self, key: &str) -> String {
        let value = |line: &String| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        self.lines
            .iter()
            .find_map(value)
            .unwrap_or_else(|| panic!("the script says `{key}=`: {:?}", self.lines))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
