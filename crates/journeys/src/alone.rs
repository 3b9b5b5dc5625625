//! The journeys of some visitors alone, so that what is asked of few costs little, and does not wait until everybody's are up to date.

use std::{collections::BTreeSet, iter::once, sync::Arc};

use hashbrown::HashMap;
use runnel_model::{ColumnKey, Erasing, EventBatch, Selector, Settings, TenantName, shard_of};
use runnel_storage::{Listing, compute};

use crate::{
    builder::{Room, RunBuilder},
    cache::Journeys,
    load::{LoadError, complete},
    loaded::{Loaded, Shard},
    merge::{Part, merge},
    rows::{Rows, TooManyNames, Who},
    run::Run,
    values::ValueDictionary,
};

/// Batches, events and stored bytes that are looked through for what is one visitor's. Where more have come since journeys were brought up to date, that is done for everybody.
const BATCHES: usize = 256;
const EVENTS: u64 = 20_000;
const BYTES: u64 = 4 << 20;

impl Journeys {
    /// The journey of the visitor that an id counts as, alone as [`Loaded::alone`] has it, holding every batch that was committed before the call; with at least
    /// these columns, of which the settings say how those that are made of sessions are told.
    pub async fn alone(
        &self,
        tenant: &TenantName,
        id: &str,
        columns: &BTreeSet<Selector>,
        settings: &Settings,
    ) -> Result<Loaded, LoadError> {
        if let Some(known) = self.at_hand(tenant, columns, settings)
            && let Some(alone) = self.since(tenant, known, id).await?
        {
            return Ok(alone);
        }
        let loaded = self.with_sessions(tenant, columns, settings).await?;
        let id = id.to_owned();
        compute(move || loaded.alone(once(loaded.people.visitor(&id)), |_| true))
            .await
            .map_err(|_| LoadError::Stopped)
    }

    /// The same of journeys and what came behind them. `None` where that takes more than to look through a few batches.
    async fn since(
        &self,
        tenant: &TenantName,
        known: Arc<Loaded>,
        id: &str,
    ) -> Result<Option<Loaded>, LoadError> {
        let listing = self.store().list(tenant, known.sequence).await?;
        let Listing { sequence, alias, erasure, erasing, journal, blocks } = listing;
        let events: u64 = journal.iter().map(|row| u64::from(row.events)).sum();
        let bytes: u64 = journal.iter().map(|row| row.bytes).sum();
        let same = (alias, erasure) == (known.people.version(), known.erasure) && sequence >= known.sequence;
        let little = blocks.is_empty() && journal.len() <= BATCHES && events <= EVENTS && bytes <= BYTES;
        if !same || !little {
            return Ok(None);
        }
        let sequences: Vec<u64> = journal.iter().map(|row| row.sequence).collect();
        // What is wrong with a row, if anything is, is told where everybody's journeys are brought up to date.
        let Ok(batches) = self.store().fetch_journal(tenant, &sequences).await else { return Ok(None) };
        let visitor = known.people.visitor(id).to_owned();
        let look = move || known.with(&visitor, sequence, &batches, &erasing);
        compute(look).await.map_err(|_| LoadError::Stopped)?
    }
}

impl Loaded {
    /// The journeys of some visitors alone, in one run and in the order in which they are named, with the columns that are wanted and dictionaries of what these have. Whoever
    /// has no journey, as an id that counts as another visitor, has an empty one.
    #[must_use]
    pub fn alone<'a>(
        &self,
        visitors: impl Iterator<Item = &'a str>,
        wanted: impl Fn(&Selector) -> bool,
    ) -> Loaded {
        self.pick(visitors.map(|visitor| (visitor, self.place(visitor))), wanted)
    }

    /// The same of a visitor with what came behind these journeys, up to a sequence number. `None` where ids are needed that are not resident.
    fn with(
        &self,
        visitor: &str,
        sequence: u64,
        batches: &[(u64, EventBatch)],
        erasing: &Erasing,
    ) -> Result<Option<Loaded>, LoadError> {
        let is_it = |sent: &str| self.people.visitor(sent) == visitor;
        let (shard, who) = (shard_of(visitor), Who { people: &self.people, erasing });
        let rows = batches.iter().map(|(number, batch)| {
            Rows::of_batch(&of_senders(batch, is_it), *number, &self.names, &self.columns, who)
        });
        let rows: Vec<Rows> = rows.collect::<Result<_, TooManyNames>>()?;
        let known = self.place(visitor);
        let picked = known.map(|(run, at)| (run, [at as u32]));
        let picked = picked.iter().map(|(run, visitors)| Part::Picked { run, visitors });
        let fresh = rows.iter().filter_map(|rows| {
            let (from, until) = (rows.shards[shard] as usize, rows.shards[shard + 1] as usize);
            (from < until).then_some(Part::Rows { rows, from, until })
        });
        let parts: Vec<Part<'_>> = picked.chain(fresh).collect();
        let merged;
        let place = match parts.len() - usize::from(known.is_some()) {
            0 => known,
            _ => {
                let Ok(both) = merge(&parts, self.columns.len(), false) else { return Ok(None) };
                merged = complete(both, &self.columns, &self.settings);
                Some((&merged, 0))
            }
        };
        Ok(Some(Loaded { sequence, ..self.pick(once((visitor, place)), |_| true) }))
    }

    /// Some visitors, each with the run and the position that hold it, if any do.
    fn pick<'a>(
        &self,
        visitors: impl Iterator<Item = (&'a str, Option<(&'a Run, usize)>)>,
        wanted: impl Fn(&Selector) -> bool,
    ) -> Loaded {
        let columns = self.columns.iter().enumerate().filter(|(_, (selector, _))| wanted(selector));
        let columns: Vec<(usize, &ValueDictionary)> =
            columns.map(|(at, (_, values))| (at, &**values)).collect();
        let dictionaries: Vec<ValueDictionary> = columns.iter().map(|_| ValueDictionary::default()).collect();
        let mut known: Vec<HashMap<u32, u32>> = vec![HashMap::new(); columns.len()];
        let mut builder = RunBuilder::new(columns.len(), false, &Room::default());
        let mut codes = vec![0; columns.len()];
        for (visitor, place) in visitors {
            if let Some((run, place)) = place {
                for event in run.range(place) {
                    for (at, (column, values)) in columns.iter().enumerate() {
                        let found = run.columns.get(*column).and_then(|column| column.values().get(event));
                        // Most events have no value of most properties.
                        let Some(found) = found.filter(|code| *code != 0) else {
                            codes[at] = 0;
                            continue;
                        };
                        codes[at] = *known[at].entry(found).or_insert_with(|| {
                            values.value(found).map_or(0, |value| dictionaries[at].code(value.as_ref()))
                        });
                    }
                    builder.event(run.time(event), run.kind(event), codes.iter().copied(), (&[], 0));
                }
            }
            builder.visitor(visitor.as_bytes());
        }
        let selectors = columns.iter().map(|(at, _)| self.columns[*at].0.clone());
        let shard = Shard::of(builder.finish(), columns.len());
        Loaded {
            columns: selectors.zip(dictionaries.into_iter().map(Arc::new)).collect(),
            identities: false,
            shards: vec![shard],
            people: self.people.clone(),
            names: self.names.clone(),
            properties: self.properties.clone(),
            settings: self.settings.clone(),
            ..*self
        }
    }
}

/// The events of a batch that some senders sent.
fn of_senders(batch: &EventBatch, is_one: impl Fn(&str) -> bool) -> EventBatch {
    let mut some = EventBatch::default();
    for row in 0..batch.len() {
        let [sent, name] = [batch.visitors[row], batch.names[row]].map(|word| batch.strings.get(word));
        if !is_one(sent) {
            continue;
        }
        let [visitor, name] = [sent, name].map(|text| some.strings.intern(text));
        let (id, sequence) = (batch.event_ids.get(row), batch.sequences[row]);
        let to = some.push_row(visitor, batch.times[row], name, id, sequence);
        for column in &batch.columns {
            let Ok(at) = column.rows.binary_search(&(row as u32)) else { continue };
            let key = match column.key {
                ColumnKey::Property(name) => {
                    ColumnKey::Property(some.strings.intern(batch.strings.get(name)))
                }
                field @ ColumnKey::Field(_) => field,
            };
            let place = some.place(key, column.values.value_type());
            some.set(place, to, batch.value(column, at));
        }
    }
    some
}
