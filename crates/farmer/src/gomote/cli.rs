//! The words of `farmer gomote`.

use std::{path::PathBuf, time::Duration};

use regex::bytes::Regex;

use crate::cli::FarmArgs;

/// Arguments of `farmer gomote`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Ask for a machine like a builder's; without a name, list what there is
    Create(CreateArgs),
    /// List sessions
    List(ListArgs),
    /// Say that sessions are used, and how they are
    Ping(PingArgs),
    /// Hold sessions for a while though nobody uses them
    Extend(ExtendArgs),
    /// Give sessions back; their machines are wiped
    Destroy(DestroyArgs),
    /// Run a command
    Run(RunArgs),
    /// Bring what has changed of this work tree to the machine
    Push(PushArgs),
    /// Copy files and folders to the machine
    Put(PutArgs),
    /// Copy a file or folder from the machine
    Get(GetArgs),
    /// Unpack an archive on the machine: a file, or `-` for standard input
    Puttar(PuttarArgs),
    /// Save a folder of the machine as an archive
    Gettar(GettarArgs),
    /// List files
    Ls(LsArgs),
    /// Remove files and folders; `.` removes all
    Rm(RmArgs),
    /// Ask for a machine like that of a build that failed, with what was on it
    Repro(ReproArgs),
    /// Open a shell, or run `ssh` with further arguments
    Ssh(SshArgs),
    /// Print lines for `~/.ssh/config`, with which `ssh`, `scp`, `rsync` and `ssh -L` reach sessions by their names
    SshConfig(SshConfigArgs),
    /// Get a new certificate for a session
    #[command(hide = true)]
    Certify(CertifyArgs),
}

/// What all commands take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// All sessions of this group, where no session is named
    #[arg(long, short, env = "FARMER_GOMOTE_GROUP", value_name = "GROUP")]
    pub(super) group: Option<String>,
    #[command(flatten)]
    pub(super) farm: FarmArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// A builder, or with --host a host type
    pub(super) name: Option<String>,
    /// The name is that of a host type: a machine without a builder's environment
    #[arg(long, requires = "name")]
    pub(super) host: bool,
    /// How many
    #[arg(long, short = 'n', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(super) count: u32,
    /// Push this work tree, then run a shell command, such as `./make.bash`
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_wait")]
    pub(super) setup: Option<String>,
    #[command(flatten)]
    pub(super) new: NewArgs,
}

/// What says how a new session is.
#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// End it when nobody has used it for so long
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    pub(super) idle: Duration,
    /// Whose it is [default: the name of this user]
    #[arg(long, env = "FARMER_GOMOTE_OWNER", value_name = "NAME")]
    pub(super) owner: Option<String>,
    /// Say its name and end, instead of waiting for its machine
    #[arg(long)]
    pub(super) no_wait: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only of this owner
    #[arg(long, value_name = "NAME")]
    pub(super) owner: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct PingArgs {
    /// The session
    #[arg(value_name = "SESSION")]
    pub(super) words: Vec<String>,
    /// Wait until it has its machine
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExtendArgs {
    /// The session, and for how long from now on, for example `8h`
    #[arg(value_name = "[SESSION] DURATION", required = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct DestroyArgs {
    /// The sessions
    #[arg(value_name = "SESSION")]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The working folder on the machine [default: the session's]
    #[arg(long, value_name = "FOLDER")]
    pub(super) dir: Option<String>,
    /// Set a variable; may be repeated
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) environment: Vec<(String, String)>,
    /// Folders in front of the PATH, with commas between them; `$WORK` stands for the work folder
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',')]
    pub(super) path: Vec<String>,
    /// Leave out the environment of the builder
    #[arg(long)]
    pub(super) bare: bool,
    /// End the command after so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Run it again and again until its output matches
    #[arg(long, value_name = "REGEX")]
    pub(super) until: Option<Regex>,
    /// Then save the output and all files of the machine here, as NAME.stdout and NAME.tar.zst
    #[arg(long)]
    pub(super) collect: bool,
    /// The session, the program and its arguments
    #[arg(
        value_name = "[SESSION] COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    /// The session
    #[arg(value_name = "SESSION")]
    pub(super) words: Vec<String>,
    /// What to bring [default: the git work tree of the current folder, or that folder]
    #[arg(long, value_name = "FOLDER")]
    pub(super) from: Option<PathBuf>,
    /// Where to, on the machine [default: where the session's source belongs]
    #[arg(long, value_name = "FOLDER")]
    pub(super) to: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    /// The session, the files and folders, and the folder on the machine (`.` is the work folder)
    #[arg(value_name = "[SESSION] FILE... FOLDER", required = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The session, the file or folder, and the folder here [default: the current one]
    #[arg(value_name = "[SESSION] PATH [FOLDER]", required = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct PuttarArgs {
    /// The session and the archive: tar, tar.gz or tar.zst
    #[arg(value_name = "[SESSION] ARCHIVE", required = true)]
    pub(super) words: Vec<String>,
    /// The folder on the machine [default: the work folder]
    #[arg(long, value_name = "FOLDER", default_value = "")]
    pub(super) dir: String,
    /// How standard input is packed
    #[arg(long, default_value = "tar.gz", value_parser = ["tar", "tar.gz", "tar.zst"])]
    pub(super) format: String,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct GettarArgs {
    /// The session
    #[arg(value_name = "SESSION")]
    pub(super) words: Vec<String>,
    /// The folder on the machine [default: the work folder]
    #[arg(long, value_name = "FOLDER", default_value = "")]
    pub(super) dir: String,
    /// Where to, `-` for standard output [default: NAME.tar.zst]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct LsArgs {
    /// The session and the folder
    #[arg(value_name = "[SESSION] [FOLDER]")]
    pub(super) words: Vec<String>,
    /// All that lies below
    #[arg(long, short = 'R')]
    pub(super) recursive: bool,
    /// Each file with its BLAKE3
    #[arg(long, short)]
    pub(super) digests: bool,
    /// Leave this path out; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) skip: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// The session and the paths
    #[arg(value_name = "[SESSION] PATH...", required = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReproArgs {
    /// The build, its attempt or shard, for example `48213`, `48213.2` or `48213.2.7` [default: its first failed shard]
    pub(super) build: String,
    /// Run again what failed
    #[arg(long, conflicts_with = "no_wait")]
    pub(super) run: bool,
    #[command(flatten)]
    pub(super) new: NewArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SshArgs {
    /// The session, and what `ssh` is told further: a command, `-L 8080:localhost:8080`
    #[arg(
        value_name = "SESSION [ARGUMENT...]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct SshConfigArgs {
    /// The session [default: all]
    #[arg(value_name = "SESSION")]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct CertifyArgs {
    /// The session
    pub(super) session: String,
    #[command(flatten)]
    pub(super) farm: FarmArgs,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is NAME=VALUE".to_owned()),
    }
}
