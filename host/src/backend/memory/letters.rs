//! The dead letters of the memory broker: what [`Store`](crate::store::Store) says about them in its simplest form.

use std::collections::BTreeMap;

use super::Inner;
use crate::backend::again;
use crate::backend::table::{Plan, Stored};
use crate::queue::Item;
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterFilter, LetterPage, LetterPart, LetterSummary,
    LettersDone, Reason, ReplayTo,
};
use crate::topic::TopicName;
use crate::wire::Packet;

/// More dead letters than this push out the oldest.
const MOST: usize = 10_000;

/// The letters by number.
#[derive(Debug, Default)]
pub(super) struct Letters {
    letters: BTreeMap<u64, KeptLetter>,
    last: u64,
}

impl Letters {
    pub(super) fn bury(&mut self, item: &Item<Stored>, letter: DeadLetter) {
        if self.letters.len() >= MOST {
            self.letters.pop_first();
        }
        self.last += 1;
        self.letters
            .insert(self.last, item.letter(self.last, letter));
    }

    pub(super) fn get(&self, id: u64) -> Option<&KeptLetter> {
        self.letters.get(&id)
    }

    pub(super) fn newest(&self, limit: usize) -> Vec<DeadLetter> {
        let newest = self.letters.values().rev().take(limit);
        newest.map(|kept| kept.letter.clone()).collect()
    }

    pub(super) fn page(
        &self,
        filter: &LetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> LetterPage {
        let older = self.letters.range(..before.unwrap_or(u64::MAX)).rev();
        let mut wanted = older
            .map(|(_, kept)| kept)
            .filter(|kept| selects(filter, kept));
        let letters: Vec<LetterSummary> = wanted.by_ref().take(limit).map(summary).collect();
        let next = wanted
            .next()
            .and_then(|_| letters.last().map(|letter| letter.id));
        LetterPage { letters, next }
    }

    pub(super) fn count(&self, filter: &LetterFilter) -> LetterCounts {
        let mut reasons: BTreeMap<&str, (Reason, u64)> = BTreeMap::new();
        let mut last = None;
        for kept in self.letters.values().filter(|kept| selects(filter, kept)) {
            let reason = kept.letter.reason;
            reasons.entry(reason.as_str()).or_insert((reason, 0)).1 += 1;
            last = Some(kept.id);
        }
        let mut reasons: Vec<_> = reasons.into_values().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        LetterCounts { reasons, last }
    }

    pub(super) fn purge(&mut self, part: &LetterPart) -> LettersDone {
        let (ids, next) = self.part(part);
        for id in &ids {
            self.letters.remove(id);
        }
        LettersDone {
            done: ids.len() as u64,
            refused: Vec::new(),
            next,
        }
    }

    /// The numbers of a part, and where the next one begins.
    fn part(&self, part: &LetterPart) -> (Vec<u64>, Option<u64>) {
        let newer = self
            .letters
            .range(part.after.saturating_add(1)..)
            .take_while(|(id, _)| **id <= part.until);
        let wanted = newer.filter(|(_, kept)| selects(&part.filter, kept));
        let limit = part.limit.max(1);
        let ids: Vec<u64> = wanted.map(|(id, _)| *id).take(limit).collect();
        let next = ids.last().copied().filter(|_| ids.len() == limit);
        (ids, next)
    }
}

impl Inner {
    pub(super) fn replay(&mut self, part: &LetterPart, to: &ReplayTo, now: i64) -> LettersDone {
        let (ids, next) = self.letters.part(part);
        let mut done = LettersDone {
            next,
            ..LettersDone::default()
        };
        for id in ids {
            match self.replay_one(id, to, now) {
                Ok(()) => done.done += 1,
                Err(error) => done.refused.push((id, error)),
            }
        }
        done
    }

    fn replay_one(&mut self, id: u64, to: &ReplayTo, now: i64) -> Result<(), String> {
        let kept = self.letters.get(id).ok_or("it is gone")?;
        let outgoing = again::outgoing(kept, to, |name| self.table.slot(name).is_some())?;
        let plan = self.admit(&outgoing, &mut Vec::new());
        match plan.map_err(|error| error.to_string())? {
            Plan::Drop => Err(again::nobody_waits(&outgoing.message.topic)),
            plan => {
                self.enter(outgoing, &plan, now);
                self.letters.letters.remove(&id);
                Ok(())
            }
        }
    }
}

/// What a filter means.
fn selects(filter: &LetterFilter, kept: &KeptLetter) -> bool {
    let letter = &kept.letter;
    let same = |wanted: &Option<String>, found: Option<&str>| {
        wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
    };
    let of_topic = filter.topic.as_ref().is_none_or(|pattern| {
        let topic = topic(&letter.packet).parse::<TopicName>();
        topic.is_ok_and(|topic| pattern.matches(&topic))
    });
    let of_message = filter
        .identifier
        .is_none_or(|wanted| identifier(&letter.packet) == Some(wanted));
    (filter.ids.is_empty() || filter.ids.contains(&kept.id))
        && of_topic
        && of_message
        && same(&filter.plugin, letter.plugin.as_deref())
        && same(&filter.queue, Some(&letter.queue))
        && filter.reason.is_none_or(|reason| reason == letter.reason)
        && filter.before_ms.is_none_or(|moment| letter.at_ms < moment)
        && filter.since_ms.is_none_or(|moment| letter.at_ms >= moment)
}

fn summary(kept: &KeptLetter) -> LetterSummary {
    let letter = &kept.letter;
    let bytes = match &letter.packet {
        Packet::Message(message) => message.payload.content.len(),
        Packet::Raw(raw) => raw.body.len(),
    };
    LetterSummary {
        id: kept.id,
        at_ms: letter.at_ms,
        first_ms: kept.history.first_ms,
        reason: letter.reason,
        error: LetterSummary::error_of(&letter.error),
        topic: topic(&letter.packet).to_owned(),
        identifier: identifier(&letter.packet),
        bytes: bytes as u64,
        plugin: letter.plugin.clone(),
        queue: letter.queue.clone(),
        attempts: letter.attempts,
    }
}

fn topic(packet: &Packet) -> &str {
    match packet {
        Packet::Message(message) => message.topic.as_str(),
        Packet::Raw(raw) => &raw.topic,
    }
}

fn identifier(packet: &Packet) -> Option<uuid::Uuid> {
    match packet {
        Packet::Message(message) => Some(message.identifier),
        Packet::Raw(_) => None,
    }
}
