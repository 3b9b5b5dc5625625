//! One shard of open sessions in memory.

use std::collections::{BTreeSet, HashMap};

use crate::hot::{
    HotError,
    sessions::{AHEAD_MS, Part, Seen, ShardCount, Step, VisitorKey},
};

/// A shard: who wrote last, which filling it has grown from, up to which number it is complete, and the sessions.
#[derive(Debug)]
pub(super) struct Shard {
    epoch: u64,
    filling: u64,
    /// `None` while it is being filled.
    sequence: Option<u64>,
    /// How long a session stays open without events.
    gap_ms: i64,
    clock_ms: i64,
    /// Last event of every visitor with an open session, and the same by time.
    open: HashMap<VisitorKey, i64>,
    by_time: BTreeSet<(i64, VisitorKey)>,
    /// Events that are still to come.
    later: BTreeSet<(i64, VisitorKey)>,
}

impl Shard {
    /// Takes one part of a filling.
    pub(super) fn reset(
        place: &mut Option<Shard>,
        part: Part<'_>,
        gap_ms: i64,
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        if let Some(shard) = place
            && shard.epoch > part.epoch
        {
            return Err(HotError::Fenced { epoch: shard.epoch });
        }
        if part.first {
            *place = Some(Shard {
                epoch: part.epoch,
                filling: part.word,
                sequence: None,
                gap_ms,
                clock_ms: now_ms,
                open: HashMap::new(),
                by_time: BTreeSet::new(),
                later: BTreeSet::new(),
            });
        }
        let is_its = |shard: &&mut Shard| shard.filling == part.word && shard.sequence.is_none();
        let shard = place.as_mut().filter(is_its).ok_or(HotError::Lost)?;
        shard.note(part.seen);
        if part.last {
            shard.sequence = Some(part.sequence);
        }
        Ok(shard.settle(part.sequence))
    }

    /// Takes one part of a step, of which the parts before went into a filling.
    pub(super) fn apply(
        &mut self,
        step: Step,
        into: Option<u64>,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        if self.epoch > step.epoch {
            return Err(HotError::Fenced { epoch: self.epoch });
        }
        let sequence = self.at(now_ms)?;
        if sequence < step.from || into.is_some_and(|filling| filling != self.filling) {
            return Err(HotError::Lost);
        }
        let sequence = sequence.max(step.to);
        self.note(seen);
        (self.epoch, self.sequence) = (step.epoch, Some(sequence));
        Ok(self.settle(sequence))
    }

    pub(super) fn count(&mut self, now_ms: i64) -> Result<ShardCount, HotError> {
        let sequence = self.at(now_ms)?;
        Ok(self.settle(sequence))
    }

    /// Lets the clock advance. The number up to which the shard is complete.
    fn at(&mut self, now_ms: i64) -> Result<u64, HotError> {
        let sequence = self.sequence.ok_or(HotError::Lost)?;
        if self.clock_ms.saturating_sub(now_ms) > AHEAD_MS {
            return Err(HotError::Lost);
        }
        self.clock_ms = self.clock_ms.max(now_ms);
        Ok(sequence)
    }

    fn note(&mut self, seen: &[Seen]) {
        for &Seen { visitor, time_ms } in seen {
            if time_ms > self.clock_ms {
                self.later.insert((time_ms, visitor));
            } else {
                self.extend(visitor, time_ms);
            }
        }
    }

    fn extend(&mut self, visitor: VisitorKey, time_ms: i64) {
        let last_ms = self.open.entry(visitor).or_insert(i64::MIN);
        if time_ms > *last_ms {
            self.by_time.remove(&(*last_ms, visitor));
            self.by_time.insert((time_ms, visitor));
            *last_ms = time_ms;
        }
    }

    /// Opens what is due, ends what has ended, counts the rest.
    fn settle(&mut self, sequence: u64) -> ShardCount {
        while let Some(&(time_ms, visitor)) = self.later.first().filter(|(time, _)| *time <= self.clock_ms) {
            self.later.pop_first();
            self.extend(visitor, time_ms);
        }
        let oldest_ms = self.clock_ms.saturating_sub(self.gap_ms);
        while let Some((_, visitor)) = self.by_time.first().filter(|(time, _)| *time < oldest_ms).copied() {
            self.by_time.pop_first();
            self.open.remove(&visitor);
        }
        let open = self.open.len() as u64;
        ShardCount { open, sequence, as_of_ms: self.clock_ms, epoch: self.epoch, filling: self.filling }
    }
}
