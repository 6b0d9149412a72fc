//! Inline comments. NoteDb keeps them in files of the commits of a change's state: one for each patch set that was
//! commented on, named by the patch set's commit, JSON inside.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    gitmirror::{ReadFilesRequest, mirror_service_client::MirrorServiceClient},
    maintpb::{GerritComment, GerritCommentRange, GitCommit},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use maintner::{
    Corpus,
    core::{Project, change_of_ref},
    parse_commit,
};
use rpc::Channel;
use serde::Deserialize;
use tonic::Status;
use tracing::warn;
use types::CommitHash;

use crate::subject::{Move, Subject};

/// Files in one request: even if each is as large as it may be, they fit into an answer.
const FILES: usize = 10;
/// Requests at a time.
const SIDE_BY_SIDE: usize = 8;

/// The state of a change that has moved, and which of its files are to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    change: u32,
    state: CommitHash,
    files: BTreeSet<String>,
}

impl Touched {
    /// The commit of its state.
    pub(crate) fn state(&self) -> CommitHash {
        self.state
    }
}

/// All changes of a project, those after the given number first, as far as `most` goes.
pub(crate) fn next_changes(corpus: &Corpus, subject: &Subject, after: u32, most: usize) -> Vec<u32> {
    let project = subject.project(corpus);
    let changes = project.iter().flat_map(Project::changes).map(|change| change.number());
    changes.filter(|number| *number > after).take(most).collect()
}

/// The state of a change, with all files that it has; nothing if it has none.
pub(crate) fn of_change(corpus: &Corpus, subject: &Subject, change: u32) -> Option<Touched> {
    let state = subject.project(corpus)?.change(change)?.metas().next_back()?.commit().hash();
    let files = files_between(corpus, &BTreeMap::new(), None, state);
    (!files.is_empty()).then_some(Touched { change, state, files })
}

/// The states that these moves bring with files that are new or have changed. `new` are commits that are about to be
/// in the log. Looks at each commit of a state that is news.
pub(crate) fn touched(corpus: &Corpus, subject: &Subject, moves: &[Move], new: &[GitCommit]) -> Vec<Touched> {
    let new: BTreeMap<&str, &GitCommit> = new.iter().map(|commit| (commit.sha1.as_str(), commit)).collect();
    let state = |(name, commit): &Move| {
        let (change, None) = change_of_ref(name)? else { return None };
        let old = subject.stood(corpus, name);
        let files = files_between(corpus, &new, old, (*commit)?);
        let state = (*commit)?;
        (!files.is_empty()).then_some(Touched { change, state, files })
    };
    moves.iter().filter_map(state).collect()
}

/// The files that changed on the way from one state to another, which is a line unless the history was written anew.
fn files_between(
    corpus: &Corpus,
    new: &BTreeMap<&str, &GitCommit>,
    old: Option<CommitHash>,
    state: CommitHash,
) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut next = Some(state);
    while let Some(at) = next.filter(|at| Some(*at) != old) {
        next = match (new.get(at.to_string().as_str()), corpus.commit(&at)) {
            (Some(commit), _) => {
                files.extend(
                    commit.diff_tree.iter().flat_map(|diff| &diff.file).map(|file| file.file.clone()),
                );
                parse_commit(&commit.raw).ok().and_then(|parsed| parsed.parents.first().copied())
            }
            (None, Some(commit)) => {
                files.extend(commit.files().map(|file| file.path.into_owned()));
                commit.first_parent()
            }
            // It cannot be followed further, and so is no change that anybody sees.
            (None, None) => None,
        };
    }
    files
}

/// Reads what the touched states say. A file that makes no sense is left out, with a warning.
pub(crate) async fn read(
    mirror: &MirrorServiceClient<Channel>,
    subject: &Subject,
    touched: Vec<Touched>,
) -> Result<Vec<GerritComment>, Status> {
    let requests = touched.into_iter().flat_map(|state| {
        let files: Vec<String> = state.files.into_iter().collect();
        let requests = files.chunks(FILES).map(|some| {
            let (repository, commit) = (subject.repository.clone(), state.state.to_string());
            (state.change, ReadFilesRequest { repository, commit, paths: some.to_vec() })
        });
        requests.collect::<Vec<_>>()
    });
    let answers = stream::iter(requests).map(|(change, request)| {
        let mut mirror = mirror.clone();
        async move {
            let answer = mirror.read_files(request).await?.into_inner();
            Ok::<Vec<_>, Status>(answer.files.into_iter().map(|file| (change, file)).collect())
        }
    });
    let files: Vec<Vec<_>> = answers.buffered(SIDE_BY_SIDE).try_collect().await?;
    let comments = files.into_iter().flatten().flat_map(|(change, file)| {
        parse(change, &file.content).unwrap_or_else(|error| {
            let repository = &subject.repository;
            warn!(
                repo.name = %repository,
                change.id = change,
                "the comments on `{}` in change {change} of `{repository}` are left out: {error}", file.path
            );
            Vec::new()
        })
    });
    Ok(comments.collect())
}

/// What a file of comments holds. Gerrit keeps other things in it too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    comments: Vec<Comment>,
}

/// As Gerrit writes it; what is not said is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Comment {
    key: Key,
    line_nbr: i32,
    author: Account,
    written_on: String,
    side: i32,
    message: String,
    range: Option<Range>,
    server_id: String,
    unresolved: bool,
    parent_uuid: Option<String>,
    tag: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Key {
    uuid: String,
    filename: String,
    patch_set_id: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    id: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Range {
    start_line: i32,
    start_char: i32,
    end_line: i32,
    end_char: i32,
}

fn parse(change: u32, content: &[u8]) -> Result<Vec<GerritComment>, serde_json::Error> {
    let file: File = serde_json::from_slice(content)?;
    let comment = |said: Comment| GerritComment {
        change: i32::try_from(change).unwrap_or_default(),
        uuid: said.key.uuid,
        patch_set: said.key.patch_set_id,
        file: said.key.filename,
        line: said.line_nbr,
        range: said.range.map(|range| GerritCommentRange {
            start_line: range.start_line,
            start_character: range.start_char,
            end_line: range.end_line,
            end_character: range.end_char,
        }),
        side: said.side,
        author: format!("{}@{}", said.author.id, said.server_id),
        written: time(&said.written_on),
        message: said.message,
        unresolved: said.unresolved,
        parent: said.parent_uuid.unwrap_or_default(),
        tag: said.tag.unwrap_or_default(),
    };
    Ok(file.comments.into_iter().map(comment).collect())
}

/// `2020-11-20T19:33:45Z`, or `Nov 20, 2020 7:33:45 PM` of an old Gerrit, whose zone nobody knows.
fn time(text: &str) -> Option<prost_types::Timestamp> {
    let old = || jiff::civil::DateTime::strptime("%b %d, %Y %I:%M:%S %p", text);
    let time: jiff::Timestamp = text
        .parse()
        .ok()
        .or_else(|| old().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))?;
    Some(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_read_as_gerrit_writes_them() {
        let content = br#"{"comments":[{"key":{"uuid":"c7be1334_47885e36","filename":"a.go","patchSetId":2},
            "lineNbr":7,"author":{"id":1000001},"writtenOn":"2020-11-20T19:33:45Z","side":1,"message":"Why\u003f",
            "range":{"startLine":6,"startChar":1,"endLine":7,"endChar":4},"revId":"abc","serverId":"server",
            "unresolved":true,"parentUuid":"b","unheard":{"of":[1]}},
            {"key":{"uuid":"d","filename":"/PATCHSET_LEVEL","patchSetId":2},"lineNbr":0,"author":{"id":5},
            "writtenOn":"Nov 20, 2020 7:33:45 PM","side":-2,"message":"x","serverId":"server"}],
            "submitRequirementResults":[]}"#;
        let [first, second] = &parse(12, content).unwrap()[..] else { panic!("two comments") };
        assert_eq!((first.change, first.uuid.as_str(), first.patch_set), (12, "c7be1334_47885e36", 2));
        assert_eq!((first.file.as_str(), first.line, first.side), ("a.go", 7, 1));
        assert_eq!((first.author.as_str(), first.message.as_str()), ("1000001@server", "Why?"));
        assert_eq!((first.unresolved, first.parent.as_str()), (true, "b"));
        assert_eq!(first.range.as_ref().map(|range| (range.start_character, range.end_line)), Some((1, 7)));
        assert_eq!(first.written.as_ref().map(|at| at.seconds), Some(1_605_900_825));
        assert_eq!(second.written, first.written);
        assert_eq!((second.side, second.unresolved, second.range.is_none()), (-2, false, true));
    }

    #[test]
    fn what_is_no_file_of_comments_is_an_error_or_empty_but_never_a_panic() {
        assert!(parse(1, b"").is_err());
        assert!(parse(1, b"{\"comments\":[{\"key\"").is_err());
        assert!(parse(1, b"{\"comments\":{}}").is_err());
        assert_eq!(parse(1, b"{}").unwrap(), []);
        assert_eq!(time("yesterday"), None);
    }
}
