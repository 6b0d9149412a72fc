//! A PostgreSQL server of a test's own, by `tests/real/postgres`.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::skipped;

/// A running server. It ends, and leaves nothing, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Child,
    /// As libpq takes it, without the password.
    pub url: String,
    /// The file that holds the password.
    pub password: PathBuf,
    /// The certificate of whoever signed the server's.
    pub ca: PathBuf,
}

impl Postgres {
    /// Starts one. Where that is not possible, says that `test` is skipped and why.
    ///
    /// # Panics
    /// When the script does something else than it says.
    pub fn start(test: &str) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/real/postgres");
        let mut process = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the script");
        let output = BufReader::new(process.stdout.take().expect("has an output"));
        let lines: Vec<_> = output.lines().map_while(Result::ok).take_while(|line| line != "ready").collect();
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).map(ToOwned::to_owned);
        let (Some(url), Some(password), Some(ca)) = (value("url="), value("password="), value("ca=")) else {
            let mut why = String::new();
            let _ = process.stderr.take().expect("has an output").read_to_string(&mut why);
            assert_eq!(process.wait().expect("wait for the script").code(), Some(69), "{why}");
            skipped(test, "PostgreSQL server", why.trim());
            return None;
        };
        Some(Self { process, url, password: password.into(), ca: ca.into() })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
