//! A program that does what it is told, for tests of an agent on whatever system: each argument is something to do, in
//! order. It is compiled by itself, for the system that the agent runs commands on.

use std::{
    env, fs,
    io::{self, Read, Write},
    process::{Command, Stdio, exit},
    thread,
    time::Duration,
};

fn main() {
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_default();
        match word.as_str() {
            "say" => say(&next()),
            "error" => eprintln!("{}", next()),
            "variable" => say(&env::var(next()).unwrap_or_else(|_| "unset".to_owned())),
            "variables" => env::vars().for_each(|(name, value)| say(&format!("{name}={value}"))),
            "folder" => say(&env::current_dir().expect("there is a folder").display().to_string()),
            // What was read up to the end, with how much it was.
            "read" => {
                let mut text = String::new();
                let bytes = io::stdin().read_to_string(&mut text).expect("input is text");
                say(&format!("{bytes}:{text}"));
            }
            "write" => fs::write(next(), next()).expect("a file can be written"),
            "append" => {
                let file = fs::OpenOptions::new().append(true).create(true).open(next());
                file.and_then(|mut file| writeln!(file, "x")).expect("a file can be written");
            }
            "count" => (0..next().parse::<u32>().expect("a number")).for_each(|line| say(&format!("line {line}"))),
            "sleep" => thread::sleep(Duration::from_millis(next().parse().expect("milliseconds"))),
            "flood" => loop {
                say("much");
            },
            "leave" => {
                let own = env::current_exe().expect("this program has a path");
                let mut left = Command::new(own);
                left.args(["sleep", "1000000"]).stdin(Stdio::null());
                left.spawn().expect("it can be started again");
            }
            "exit" => exit(next().parse().expect("an exit code")),
            other => {
                eprintln!("puppet: `{other}` is nothing to do");
                exit(64);
            }
        }
    }
}

/// One write for a line, so that lines of several programs do not mix.
fn say(line: &str) {
    if io::stdout().write_all(format!("{line}\n").as_bytes()).is_err() {
        exit(141);
    }
}
