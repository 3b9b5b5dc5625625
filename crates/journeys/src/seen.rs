//! When visitors were last there, for open sessions: of all of them from journeys in memory, or of those with new events from the store.
//!
//! Events that did not take place on the site never open or extend a session, so they are left out. Of copies with one identity and other content the journeys know the first; what
//! is read from the store alone takes each as an event, which matters only where such copies differ in whether they took place on the site.

use std::{collections::HashMap, sync::Arc};

use rayon::prelude::*;
use runnel_model::{
    Attribute, ColumnKey, Erasing, EventBatch, Field, SHARDS, Selector, TenantName, shard_of,
};
use runnel_storage::{
    Block, BlockError, FetchError, compute,
    hot::{Seen, VisitorKey},
};

use crate::{
    cache::Journeys,
    load::{Fetched, LoadError, fetch},
    loaded::{Loaded, is_set},
    rows::is_hidden,
    run::{Run, ValueColumn},
};

/// Events that are read to learn when they happened.
const READ_AT_ONCE: u64 = 100_000;

/// The time that matters for who is there at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Earlier events do not matter, in milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// The instant. Of events up to it only a visitor's last matters; of later ones, each.
    pub now_ms: i64,
}

/// Events that matter for who is there, numbered above a sequence number.
#[derive(Debug, Clone, Default)]
pub struct SeenSince {
    /// Every batch up to this number was looked at: the tenant's highest number. Below `after`, the journal is another one than the caller knew.
    pub sequence: u64,
    /// The version of the identities at the same instant. Who is who is not looked at here: visitors are as sent.
    pub alias: u64,
    /// The version of the erasures at that instant.
    pub erasure: u64,
    /// The events, by shard.
    pub shards: Vec<Vec<Seen>>,
}

impl Journeys {
    /// What matters of the batches that were committed before the call and numbered above `after`. Journeys are not loaded for it.
    pub async fn seen_since(
        &self,
        tenant: &TenantName,
        after: u64,
        presence: Presence,
    ) -> Result<SeenSince, LoadError> {
        let fetched = fetch(self.store(), tenant, after).await?;
        if fetched.batches.is_empty() && fetched.blocks.is_empty() {
            let shards = vec![Vec::new(); SHARDS];
            let Fetched { sequence, alias, erasure, .. } = fetched;
            return Ok(SeenSince { sequence, alias, erasure, shards });
        }
        let read = move || -> Result<SeenSince, LoadError> {
            let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
            for (_, batch) in &fetched.batches {
                read_batch(batch, presence, &fetched.erasing, &mut shards);
            }
            for block in &fetched.blocks {
                for group in 0..block.row_groups().len() {
                    read_group(block, group, after, presence, &fetched.erasing, &mut shards)?;
                }
            }
            let shards = shards.into_iter().map(Shard::seen).collect();
            let Fetched { sequence, alias, erasure, .. } = fetched;
            Ok(SeenSince { sequence, alias, erasure, shards })
        };
        compute(read).await.map_err(|_| LoadError::Stopped)?
    }

    /// When the earliest event happened that came in batches numbered above `after` up to `until`; `None` when that is not known without reading much.
    pub async fn earliest_since(
        &self,
        tenant: &TenantName,
        after: u64,
        until: u64,
    ) -> Result<Option<i64>, LoadError> {
        let listing = self.store().list(tenant, after).await?;
        let rows: Vec<_> = listing.journal.iter().filter(|row| row.sequence <= until).collect();
        let events: u64 = rows.iter().map(|row| u64::from(row.events)).sum();
        if !listing.blocks.is_empty() || rows.len() as u64 != until - after || events > READ_AT_ONCE {
            return Ok(None);
        }
        let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
        match self.store().fetch_journal(tenant, &sequences).await {
            Ok(batches) => Ok(batches.iter().flat_map(|(_, batch)| &batch.times).copied().min()),
            Err(FetchError::Missing) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// How many visitors have an event on the site from `presence.from_ms` to `presence.now_ms`, inclusive.
    pub async fn present(&self, loaded: Arc<Loaded>, presence: Presence) -> Result<u64, LoadError> {
        let pool = self.pool().clone();
        let count = move || {
            let of_shard = |shard| loaded.visit(shard, presence, |_, last, _| u64::from(last.is_some()));
            pool.install(|| (0..SHARDS).into_par_iter().map(of_shard).sum())
        };
        compute(count).await.map_err(|_| LoadError::Stopped)
    }
}

impl Loaded {
    /// What matters of one shard's events. The column of [`Field::OffSite`] has to be loaded.
    #[must_use]
    pub fn seen(&self, shard: usize, presence: Presence) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.visit(shard, presence, |visitor, last, later| {
            let times = last.into_iter().chain(later.iter().copied());
            let visitor = VisitorKey::of(visitor);
            seen.extend(times.map(|time_ms| Seen { visitor, time_ms }));
            0
        });
        seen
    }

    /// Visits every visitor of a shard with the last event up to now, if it matters, and all later ones. The sum of what is answered.
    fn visit(
        &self,
        shard: usize,
        presence: Presence,
        mut each: impl FnMut(&[u8], Option<i64>, &[i64]) -> u64,
    ) -> u64 {
        let Some(shard) = self.shards.get(shard) else { return 0 };
        let off_site = self.column(&off_site());
        let mut later = Vec::new();
        let mut sum = 0;
        for (run, skip) in shard.runs() {
            if run.events() == 0 || run.span_ms.1 < presence.from_ms {
                continue;
            }
            let codes = off_site.and_then(|column| run.columns.get(column));
            let skipped = |visitor: usize| skip.is_some_and(|skip| is_set(skip, visitor));
            for visitor in (0..run.visitors.len()).filter(|visitor| !skipped(*visitor)) {
                let last = last_of(run, codes, visitor, presence, &mut later);
                if last.is_some() || !later.is_empty() {
                    sum += each(run.visitors.get(visitor), last, &later);
                }
            }
        }
        sum
    }
}

/// The time of a visitor's last event up to now, if it matters; later ones are put aside.
fn last_of(
    run: &Run,
    codes: Option<&ValueColumn>,
    visitor: usize,
    presence: Presence,
    later: &mut Vec<i64>,
) -> Option<i64> {
    later.clear();
    for event in run.range(visitor).rev() {
        let time_ms = run.time(event);
        if time_ms < presence.from_ms {
            return None;
        }
        if codes.is_some_and(|codes| codes.values().get(event).unwrap_or(0) != 0) {
            continue;
        }
        if time_ms <= presence.now_ms {
            return Some(time_ms);
        }
        later.push(time_ms);
    }
    None
}

/// The column that says whether an event took place elsewhere.
#[must_use]
pub fn off_site() -> Selector {
    Selector::field(Field::OffSite)
}

/// One shard's events that matter so far.
#[derive(Debug, Default)]
struct Shard {
    last: HashMap<VisitorKey, i64>,
    later: Vec<Seen>,
}

impl Shard {
    fn add(&mut self, visitor: VisitorKey, time_ms: i64, presence: Presence) {
        if time_ms > presence.now_ms {
            self.later.push(Seen { visitor, time_ms });
        } else if time_ms >= presence.from_ms {
            let last_ms = self.last.entry(visitor).or_insert(time_ms);
            *last_ms = time_ms.max(*last_ms);
        }
    }

    fn seen(self) -> Vec<Seen> {
        let last = self.last.into_iter().map(|(visitor, time_ms)| Seen { visitor, time_ms });
        last.chain(self.later).collect()
    }
}

fn read_batch(batch: &EventBatch, presence: Presence, erasing: &Erasing, shards: &mut [Shard]) {
    let mut elsewhere = vec![false; batch.len()];
    for column in batch.columns.iter().filter(|column| column.key == ColumnKey::Field(Field::OffSite)) {
        column.rows.iter().for_each(|&row| elsewhere[row as usize] = true);
    }
    let on_site = (0..batch.len()).filter(|&row| !elsewhere[row] && batch.times[row] >= presence.from_ms);
    for row in on_site {
        let visitor = batch.strings.get(batch.visitors[row]);
        if is_hidden(visitor, batch.times[row], erasing) {
            continue;
        }
        shards[shard_of(visitor)].add(VisitorKey::of(visitor.as_bytes()), batch.times[row], presence);
    }
}

fn read_group(
    block: &Block,
    group: usize,
    after: u64,
    presence: Presence,
    erasing: &Erasing,
    shards: &mut [Shard],
) -> Result<(), BlockError> {
    let keys = block.read_keys(group)?;
    let mut elsewhere = vec![false; keys.times.len()];
    for (at, info) in block.columns().iter().enumerate() {
        if info.selector == Attribute::Field(Field::OffSite) {
            block.read_column(group, at)?.rows.iter().for_each(|&row| elsewhere[row as usize] = true);
        }
    }
    for (row, &time_ms) in keys.times.iter().enumerate() {
        if keys.numbers[row] <= after || elsewhere[row] || time_ms < presence.from_ms {
            continue;
        }
        let visitor = keys.visitors.get(keys.visitor_codes[row] as usize);
        let name = std::str::from_utf8(visitor).unwrap_or_default();
        if is_hidden(name, time_ms, erasing) {
            continue;
        }
        let shard = shard_of(name);
        shards[shard].add(VisitorKey::of(visitor), time_ms, presence);
    }
    Ok(())
}
