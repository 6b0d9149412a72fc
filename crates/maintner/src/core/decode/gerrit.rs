//! Mutations of Gerrit projects and plain repositories.

use api::maintpb::GerritComment;
use prost::Message as _;

use super::{Batch, InlineDraft, Payload, RefDraft, Step, since};
use crate::core::{
    gerrit::parse_change_ref,
    parse::parse_hash,
    wire::{DecodeError, Fields},
};

impl<'a> Batch<'a> {
    pub(super) fn add_git(&mut self, payload: Payload<'a>, message: &'a [u8]) -> Result<(), DecodeError> {
        let mut fields = Fields(message);
        let mut commit = None;
        while let Some((number, value)) = fields.next()? {
            if number == 2 {
                commit = Some(value.bytes()?);
            }
        }
        if let Some(commit) = commit
            && self.add_commit(payload, commit)?
        {
            self.steps.push(Step::Commit(self.commits.len() as u32 - 1));
        } else {
            self.malformed();
        }
        Ok(())
    }

    pub(super) fn add_gerrit(&mut self, payload: Payload<'a>, message: &'a [u8]) -> Result<(), DecodeError> {
        let (commits, refs, gone) = (self.commits.len(), self.refs.len(), self.gone.len());
        let inline = self.inline.len();
        let mut project = &b""[..];
        let mut malformed = 0;
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            let good = match number {
                1 => {
                    project = value.bytes()?;
                    true
                }
                2 => self.add_commit(payload, value.bytes()?)?,
                3 => self.add_ref(value.bytes()?)?,
                4 => self.add_gone(value.bytes()?),
                100 => self.add_inline(payload, value.bytes()?)?,
                _ => true,
            };
            malformed += u64::from(!good);
        }
        let step = Step::Gerrit {
            project: self.texts.name(project),
            commits: since(&self.commits, commits),
            refs: since(&self.refs, refs),
            gone: since(&self.gone, gone),
            inline: since(&self.inline, inline),
        };
        self.finish(project, step, malformed);
        Ok(())
    }

    pub(super) fn add_refs(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let (refs, gone) = (self.refs.len(), self.gone.len());
        let mut repository = &b""[..];
        let mut malformed = 0;
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            let good = match number {
                1 => {
                    repository = value.bytes()?;
                    true
                }
                2 => self.add_ref(value.bytes()?)?,
                3 => self.add_gone(value.bytes()?),
                _ => true,
            };
            malformed += u64::from(!good);
        }
        let (refs, gone) = (since(&self.refs, refs), since(&self.gone, gone));
        self.finish(repository, Step::Git { repository, refs, gone }, malformed);
        Ok(())
    }

    fn finish(&mut self, name: &[u8], step: Step<'a>, malformed: u64) {
        if name.is_empty() {
            return self.malformed();
        }
        self.steps.push(step);
        if malformed > 0 {
            self.steps.push(Step::Malformed(malformed));
        }
    }

    fn add_ref(&mut self, message: &'a [u8]) -> Result<bool, DecodeError> {
        let (mut name, mut hash) = (&b""[..], &b""[..]);
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => name = value.bytes()?,
                2 => hash = value.bytes()?,
                _ => {}
            }
        }
        let hash = parse_hash(hash).filter(|_| !name.is_empty());
        self.refs.extend(hash.map(|hash| RefDraft { name, hash, change: parse_change_ref(name) }));
        Ok(hash.is_some())
    }

    fn add_inline(&mut self, payload: Payload<'a>, message: &'a [u8]) -> Result<bool, DecodeError> {
        let (mut change, mut uuid) = (0, &b""[..]);
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => change = value.number()?,
                2 => uuid = value.bytes()?,
                _ => {}
            }
        }
        let change = u32::try_from(change).ok().filter(|number| (1..=i32::MAX as u32).contains(number));
        // What cannot be read again is none.
        let change = change.filter(|_| !uuid.is_empty() && GerritComment::decode(message).is_ok());
        let span = payload.span(message);
        let uuid = self.texts.name(uuid);
        self.inline.extend(change.map(|change| InlineDraft { change, uuid, span }));
        Ok(change.is_some())
    }

    fn add_gone(&mut self, name: &'a [u8]) -> bool {
        if !name.is_empty() {
            self.gone.push(name);
        }
        !name.is_empty()
    }
}
