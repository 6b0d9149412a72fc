//! The merged log of an attempt: the output of make, of the list if it failed, then of the shards in list order. While
//! the attempt runs it ends at the first shard that has not ended, so that what was shown never changes.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use store::logs::{LogError, LogStore, Merged, Part};
use types::{AttemptId, ExecId, Outcome};

use super::AttemptFull;
use crate::core::{FirstRun, Shard, ShardState};

/// The output of one command.
#[derive(Debug, Clone)]
pub(crate) struct LogPart {
    pub(crate) exec: ExecId,
    /// For example `make` or `shard 3`.
    pub(crate) name: String,
    /// The shard; 0 if none.
    pub(crate) shard: u32,
    pub(crate) outcome: Option<Outcome>,
    /// It failed, and passed when it was run again.
    pub(crate) flaky: bool,
    pub(crate) millis: Option<u64>,
    pub(crate) bytes: u64,
    /// How many of them the command wrote itself; a last line of the farm's may follow.
    pub(crate) own_bytes: u64,
    pub(crate) line_ends: u64,
}

/// A merged log as it is now.
#[derive(Debug)]
pub(crate) struct MergedLog {
    pub(crate) attempt: AttemptId,
    pub(crate) parts: Vec<LogPart>,
    merged: Merged,
    /// Nothing will be added.
    pub(crate) finished: bool,
}

impl MergedLog {
    /// The log of an attempt, as it is now. `own` says what commands wrote themselves, where that is not all.
    pub(super) async fn read(
        logs: &LogStore,
        attempt: &AttemptFull,
        own: &BTreeMap<ExecId, u64>,
    ) -> Result<Self, LogError> {
        let mut parts = parts(attempt);
        for part in &mut parts {
            let info = logs.info(part.exec).await?;
            (part.bytes, part.line_ends) = (info.bytes, info.line_ends);
            part.own_bytes = own.get(&part.exec).map_or(info.bytes, |own| info.bytes.min(*own));
        }
        let merged = Merged::new(parts.iter().map(|part| Part { exec: part.exec, bytes: 0..part.bytes }));
        Ok(Self { attempt: attempt.row.id, parts, merged, finished: attempt.row.end.is_some() })
    }

    /// How many bytes there are now.
    pub(crate) fn len(&self) -> u64 {
        self.merged.len()
    }

    /// How many line ends there are now.
    pub(crate) fn line_ends(&self) -> u64 {
        self.parts.iter().map(|part| part.line_ends).sum()
    }

    /// Some bytes.
    pub(crate) async fn bytes(&self, logs: &LogStore, range: Range<u64>) -> Result<Bytes, LogError> {
        self.merged.read(logs, range).await
    }

    /// The command whose output grows now, if the last part does.
    pub(crate) fn growing(&self) -> Option<ExecId> {
        self.parts.last().filter(|_| !self.finished).map(|part| part.exec)
    }

    /// The parts, each with its first byte and the line ends before it.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (&LogPart, u64, u64)> {
        let mut at = (0, 0);
        self.parts.iter().map(move |part| {
            let (byte, line_ends) = at;
            at = (byte + part.bytes, line_ends + part.line_ends);
            (part, byte, line_ends)
        })
    }

    /// Where a line (from 1) begins: its number and its first byte. Beyond the end it is the last line.
    pub(crate) async fn line(&self, logs: &LogStore, line: u64) -> Result<(u64, u64), LogError> {
        let line = line.max(1);
        if line == 1 {
            return Ok((1, 0));
        }
        if line > self.line_ends() {
            return self.last_line(logs).await;
        }
        // It begins after the line end with this number, from 1.
        let end = line - 1;
        for (part, byte, before) in self.placed() {
            if end <= before + part.line_ends {
                let within = logs.byte_of_line(part.exec, end - before).await?.unwrap_or(part.bytes);
                return Ok((line, byte + within));
            }
        }
        Ok((1, 0))
    }

    /// The last line: after the last line end that has anything behind it.
    async fn last_line(&self, logs: &LogStore) -> Result<(u64, u64), LogError> {
        self.line_at(logs, self.len().saturating_sub(1)).await
    }

    /// The line that a byte lies in: its number and its first byte.
    pub(crate) async fn line_at(&self, logs: &LogStore, byte: u64) -> Result<(u64, u64), LogError> {
        let byte = byte.min(self.len().saturating_sub(1));
        let mut number = 1;
        for (part, first, before) in self.placed() {
            if byte < first + part.bytes {
                number = before + logs.line_of(part.exec, byte - first).await? + 1;
                break;
            }
        }
        if number == 1 {
            return Ok((1, 0));
        }
        let end = number - 1;
        for (part, first, before) in self.placed() {
            if end <= before + part.line_ends {
                let within = logs.byte_of_line(part.exec, end - before).await?.unwrap_or(part.bytes);
                return Ok((number, first + within));
            }
        }
        Ok((1, 0))
    }
}

/// The parts in order, without their sizes.
fn parts(attempt: &AttemptFull) -> Vec<LogPart> {
    let ended = attempt.row.end.is_some();
    let mut parts = Vec::new();
    let step = |phase: types::Phase| attempt.steps.iter().find(move |step| step.phase == phase);
    for (exec, name, phase) in [
        (attempt.row.make_exec, "make", types::Phase::Make),
        (attempt.row.list_exec, "list of tests", types::Phase::List),
    ] {
        let Some(exec) = exec else { continue };
        let step = step(phase);
        parts.push(LogPart {
            exec,
            name: name.to_owned(),
            shard: 0,
            outcome: step.map(|step| step.outcome),
            flaky: false,
            millis: step.map(|step| step.ended.since(step.started).as_millis() as u64),
            bytes: 0,
            own_bytes: 0,
            line_ends: 0,
        });
    }
    let alone = attempt.shards.len() == 1;
    for shard in &attempt.shards {
        let over = matches!(shard.state, ShardState::Ended(_));
        if !over && !alone && !ended {
            break;
        }
        parts.extend(shard.first.as_deref().map(|first| first_part(shard, first, alone)));
        // A second run is shown when it ended otherwise than the first. What other shards wrote before they were called
        // off was never shown, and says nothing.
        let cancelled = shard.state == ShardState::Ended(Outcome::Cancelled);
        let shown = if shard.first.is_some() { shard.is_flaky() } else { alone || !cancelled };
        if let Some(exec) = shard.exec.filter(|_| shown) {
            parts.push(shard_part(shard, exec, alone));
        }
    }
    parts
}

/// The run of a shard that failed first.
fn first_part(shard: &Shard, first: &FirstRun, alone: bool) -> LogPart {
    LogPart {
        outcome: Some(first.outcome),
        flaky: shard.is_flaky(),
        millis: Some(first.ended.since(first.started).as_millis() as u64),
        ..shard_part(shard, first.exec, alone)
    }
}

fn shard_part(shard: &Shard, exec: ExecId, alone: bool) -> LogPart {
    LogPart {
        exec,
        name: match &*shard.tests {
            [] if alone => "test".to_owned(),
            [test] => test.clone(),
            _ => format!("shard {}", shard.number),
        },
        shard: shard.number,
        outcome: shard.outcome(),
        flaky: false,
        millis: shard
            .started
            .zip(shard.ended)
            .map(|(started, ended)| ended.since(started).as_millis() as u64),
        bytes: 0,
        own_bytes: 0,
        line_ends: 0,
    }
}
