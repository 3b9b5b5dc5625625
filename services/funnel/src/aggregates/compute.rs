//! Counts aggregates from journeys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use runnel_contracts::{
    proto::aggregate::v1::{AggregateSplit, AggregateState, AggregatedConversion, Reach},
    refusal::Refusal,
};
use runnel_definitions::{
    catalogue::{Catalogue, Known},
    funnel::Range,
    refusal::unavailable,
};
use runnel_journeys::{Journeys, View};
use runnel_kernel::{TrendCounts, trend};
use runnel_model::{TenantName, limits};
use runnel_storage::{AggregateCell, AggregateChange, Aggregates, Store, Versions};

use super::{
    FORMAT, GRAINS, HISTORY_MS, Kept,
    ledger::Ledger,
    rows::{Rows, SPLITS, column, decode, encode},
    settings,
};
use crate::{
    calendar::{Calendar, Width},
    insight::{Asked, Over, Subject, too_many},
    unobserved,
};

/// Aggregates that were counted again from some instant on.
pub(super) struct Made {
    made_of: Versions,
    state: AggregateState,
    /// By grain and by when they begin.
    cells: BTreeMap<(u8, i64), Rows>,
    /// By grain, the instant from which on stored cells that were not found now are no more.
    from_ms: BTreeMap<u8, i64>,
}

/// What one run of journeys adds.
#[derive(Default)]
struct Sum {
    /// By subject, grain and split.
    counts: BTreeMap<(usize, usize, usize), TrendCounts>,
    /// The earliest session that reaches each of the midnights, by place.
    reaches: BTreeMap<usize, i64>,
}

/// Counts all conversions of a catalogue from the instant on from which what is kept may be outdated, or from an earlier one. `None` when erasures came in between.
pub(super) async fn make(
    journeys: &Journeys,
    tenant: &TenantName,
    catalogue: &Catalogue,
    kept: Option<&Kept>,
    now_ms: i64,
) -> Result<Option<Made>, Refusal> {
    let subjects: Vec<Subject> = catalogue
        .conversions
        .iter()
        .map(|(name, known)| Subject { label: name.clone(), conversion: known.conversion.clone() })
        .collect();
    let everything = Range { from_ms: *limits::TIME_RANGE_MS.start(), until_ms: now_ms, as_of_ms: now_ms };
    let columns = SPLITS.iter().filter_map(|split| column(*split));
    let over = Over { tenant, catalogue, range: everything, without_bots: false };
    let asked = Asked::new(journeys, over, &subjects, columns).await?;
    let asked = Arc::new(asked);
    let made_of = Versions {
        sequence: asked.loaded.sequence,
        definition: asked.definition,
        alias: asked.loaded.people.version(),
        erasure: asked.loaded.erasure,
    };
    // What journeys know decides how far back one has to go: more may have come since somebody asked for them.
    let Some(from_ms) = outdated_from(journeys, tenant, catalogue, kept, made_of).await? else {
        return Ok(None);
    };
    let span = asked.span_ms();
    let calendar = Calendar::of("settings.time_zone", &catalogue.settings.time_zone)?;
    let (first_ms, last_ms) = span.unwrap_or((now_ms, now_ms - 1));
    let history_ms = now_ms.saturating_sub(HISTORY_MS);
    let kept_from_ms = asked.loaded.kept_from_ms;
    let (everything, from_ms) = (from_ms == i64::MIN, from_ms.max(first_ms).max(history_ms));
    let from_ms = from_ms.max(kept_from_ms.unwrap_or(i64::MIN));
    let until_ms = last_ms.saturating_add(1).min(now_ms).max(from_ms.saturating_add(1));
    let edges = |width: Width, from_ms: i64| {
        let most = limits::TREND_BUCKETS;
        calendar.edges(from_ms, until_ms, width, most).ok_or_else(|| too_many(most))
    };
    let grains: Vec<Vec<i64>> =
        GRAINS.iter().map(|(_, width)| edges(*width, from_ms)).collect::<Result<_, _>>()?;
    let sum = count(journeys, &asked, &subjects, &grains, catalogue.settings.session_gap_ms).await?;
    let mut cells: BTreeMap<(u8, i64), Rows> = BTreeMap::new();
    for ((subject, grain, split), counts) in &sum.counts {
        let split = SPLITS[*split];
        let place = column(split).map(|selector| asked.column(&selector));
        for ((code, bucket), cell) in &counts.cells {
            let value = place.and_then(|place| asked.value(place, *code));
            let start_ms = grains[*grain][*bucket as usize];
            // Of what began earlier not all is there. It stays as it is.
            if kept_from_ms.is_some_and(|kept_from_ms| start_ms < kept_from_ms) {
                continue;
            }
            let key = (subjects[*subject].label.clone(), split as i32, value);
            let counts = asked.counts(*subject, Some(cell))?;
            cells.entry((GRAINS[*grain].0, start_ms)).or_default().insert(key, counts);
        }
    }
    let denied = asked.unobserved(journeys).await?;
    for subject in &subjects {
        let key = (subject.label.clone(), AggregateSplit::Unspecified as i32, None);
        for ((grain, _), edges) in GRAINS.iter().zip(&grains) {
            let each = unobserved::may_each(&denied, &asked.loaded.names, &subject.conversion, edges);
            let kept = |start_ms: i64| kept_from_ms.is_none_or(|kept_from_ms| start_ms >= kept_from_ms);
            let some = edges.iter().zip(each).filter(|(start_ms, events)| *events > 0 && kept(**start_ms));
            for (start_ms, events) in some {
                let cell = cells.entry((*grain, *start_ms)).or_default();
                cell.entry(key.clone()).or_default().unobserved = events;
            }
        }
    }
    // Midnights before those that were looked at again are reached as they were.
    let days = &grains[0];
    let kept_reaches = kept.iter().flat_map(|kept| &kept.state.reaches);
    let mut reaches: Vec<Reach> = kept_reaches.filter(|reach| reach.midnight_ms < days[0]).copied().collect();
    reaches.extend(
        sum.reaches.iter().map(|(at, start_ms)| Reach { midnight_ms: days[*at], start_ms: *start_ms }),
    );
    let conversions = subjects.iter().map(|subject| {
        let mut names = BTreeSet::new();
        subject.conversion.event_names(&mut names);
        let known = catalogue.conversions.get(&subject.label);
        AggregatedConversion {
            name: subject.label.clone(),
            version: known.map_or(0, |known| known.wire.version),
            since_ms: since(kept, &catalogue.settings.time_zone, known, kept_from_ms),
            missing_events: names
                .into_iter()
                .filter(|name| {
                    asked.loaded.names.find(name).is_none() && !occurred(kept, &subject.label, name)
                })
                .collect(),
        }
    });
    let (span, from_ms) = match kept.zip(kept_from_ms) {
        Some((kept, kept_from_ms)) => (kept.spanned(span, kept_from_ms), kept.state.from_ms.min(history_ms)),
        None => (span, history_ms),
    };
    let stale_from = |edges: &Vec<i64>| {
        let counted_from = edges.first().copied().filter(|_| !everything);
        counted_from.max(kept_from_ms).unwrap_or(i64::MIN)
    };
    let state = AggregateState {
        format_version: FORMAT,
        time_zone: catalogue.settings.time_zone.clone(),
        settings: settings(catalogue),
        as_of_ms: now_ms,
        first_ms: span.map(|(first_ms, _)| first_ms),
        last_ms: span.map(|(_, last_ms)| last_ms),
        from_ms,
        conversions: conversions.collect(),
        reaches,
        kept_from_ms,
        // Known when it is stored.
        retentions: 0,
        settings_since_ms: match kept {
            Some(kept) if kept.state.settings != settings(catalogue) => kept_from_ms,
            kept => kept.and_then(|kept| kept.state.settings_since_ms),
        },
    };
    let from_ms = GRAINS.iter().map(|(grain, _)| *grain).zip(grains.iter().map(stale_from)).collect();
    Ok(Some(Made { made_of, state, cells, from_ms }))
}

/// From when on what is kept may differ from what these versions make; the beginning of time where that is not known. `None` when erasures are other ones by now.
async fn outdated_from(
    journeys: &Journeys,
    tenant: &TenantName,
    catalogue: &Catalogue,
    kept: Option<&Kept>,
    made_of: Versions,
) -> Result<Option<i64>, Refusal> {
    let Some(kept) = kept.filter(|kept| kept.counts_as(catalogue)) else { return Ok(Some(i64::MIN)) };
    let store = journeys.store();
    let there = store.aggregates(tenant, 0, 0, 0).await.map_err(|fault| unavailable(&fault))?;
    if there.head.erasure != made_of.erasure {
        return Ok(None);
    }
    let made = Aggregates { head: made_of, ..there };
    Ok(Some(kept.outdated_from(journeys, tenant, &made).await?.unwrap_or(i64::MIN)))
}

/// Whether an event of a conversion is known to have occurred, though it may not be kept any more.
fn occurred(kept: Option<&Kept>, conversion: &str, event: &str) -> bool {
    let Some(kept) = kept.filter(|kept| kept.state.kept_from_ms.is_some()) else { return false };
    let mut known = kept.state.conversions.iter().filter(|one| one.name == conversion);
    known.any(|one| !one.missing_events.iter().any(|missing| missing == event))
}

/// From when on cells have a conversion, when they are counted by what is kept now.
fn since(kept: Option<&Kept>, zone: &str, known: Option<&Known>, kept_from_ms: Option<i64>) -> Option<i64> {
    let kept = kept.filter(|kept| kept.state.time_zone == zone);
    let same = |one: &&AggregatedConversion| {
        known.is_some_and(|known| (&one.name, one.version) == (&known.wire.name, known.wire.version))
    };
    match kept.and_then(|kept| kept.state.conversions.iter().find(same)) {
        Some(before) => before.since_ms,
        None => kept_from_ms,
    }
}

async fn count(
    journeys: &Journeys,
    asked: &Arc<Asked>,
    subjects: &[Subject],
    grains: &[Vec<i64>],
    gap_ms: i64,
) -> Result<Sum, Refusal> {
    let (told, edges, subjects) = (asked.clone(), grains.to_vec(), subjects.len());
    let places: Vec<Option<usize>> =
        SPLITS.iter().map(|split| column(*split).map(|selector| asked.column(&selector))).collect();
    let count = move |view: &View<'_>| {
        let mut sum = Sum { reaches: reaches(view, &edges[0], gap_ms), ..Sum::default() };
        for subject in 0..subjects {
            let (marks, amounts) = (view.conversion(subject), told.amounts(view, subject));
            for (grain, edges) in edges.iter().enumerate().filter(|(_, edges)| edges.len() > 1) {
                for (split, place) in places.iter().enumerate() {
                    let codes = place.map(|place| view.codes(place));
                    let counts = trend(view.sessions(), &marks, edges, codes, amounts);
                    sum.counts.insert((subject, grain, split), counts);
                }
            }
        }
        sum
    };
    let merge = |sum: &mut Sum, more: Sum| {
        for (place, counts) in more.counts {
            sum.counts.entry(place).or_default().merge(&counts);
        }
        for (at, start_ms) in more.reaches {
            let earliest = sum.reaches.entry(at).or_insert(start_ms);
            *earliest = start_ms.min(*earliest);
        }
    };
    asked.count(journeys, count, merge).await
}

/// For each of the midnights that a session began before and still goes on, or could: when the earliest such session began.
fn reaches(view: &View<'_>, midnights: &[i64], gap_ms: i64) -> BTreeMap<usize, i64> {
    let mut reaches = BTreeMap::new();
    let (sessions, run) = (view.sessions(), view.run());
    for visitor in 0..run.visitors.len() {
        for session in sessions.of_visitor(visitor) {
            let (start_ms, last_ms) = (run.time(session.first), run.time(session.last));
            let behind = midnights.partition_point(|midnight| *midnight <= start_ms);
            let passed = midnights[behind..].iter().take_while(|midnight| **midnight <= last_ms + gap_ms);
            for (at, _) in passed.enumerate() {
                let earliest = reaches.entry(behind + at).or_insert(start_ms);
                *earliest = start_ms.min(*earliest);
            }
        }
    }
    reaches
}

impl Made {
    /// What there is to change in the store, and to tell of it. `None` when the definitions changed while they were counted by, or what is kept.
    pub(super) async fn change(
        mut self,
        store: &Store,
        tenant: &TenantName,
        kept: Option<&Kept>,
        expected: u64,
    ) -> Result<Option<AggregateChange>, Refusal> {
        let now = Catalogue::read(store, tenant).await?;
        let counted = self.state.conversions.iter().map(|one| (&one.name, one.version));
        let current = now.conversions.iter().map(|(name, known)| (name, known.wire.version));
        if !counted.eq(current) || settings(&now) != self.state.settings {
            return Ok(None);
        }
        let head = store.aggregates(tenant, 0, 0, 0).await.map_err(|fault| unavailable(&fault))?;
        if head.head.erasure != self.made_of.erasure {
            return Ok(None);
        }
        self.state.retentions = head.retentions;
        let mut ledger = Ledger::new(kept, &self.state, self.made_of);
        let mut changed = Vec::new();
        for (grain, width) in GRAINS {
            let from_ms = self.from_ms.get(&grain).copied().unwrap_or(i64::MIN);
            let stored = store.aggregates(tenant, grain, from_ms, i64::MAX).await;
            let mut before: BTreeMap<i64, bytes::Bytes> = BTreeMap::new();
            for cell in stored.map_err(|fault| unavailable(&fault))?.cells {
                before.extend(cell.body.map(|body| (cell.start_ms, body)));
            }
            let mut starts: BTreeSet<i64> = before.keys().copied().collect();
            starts.extend(self.cells.keys().filter(|(of, _)| *of == grain).map(|(_, start_ms)| *start_ms));
            for start_ms in starts {
                let rows = self.cells.get(&(grain, start_ms));
                let body = rows.map(encode);
                let old = before.get(&start_ms);
                if old == body.as_ref() {
                    continue;
                }
                let old = old.map(decode).transpose()?.unwrap_or_default();
                ledger.compare((width, start_ms), &old, rows.unwrap_or(&Rows::new()))?;
                changed.push(AggregateCell { grain, start_ms, body });
            }
        }
        Ok(Some(AggregateChange {
            expected,
            made_of: self.made_of,
            body: self.state.encode_to_vec().into(),
            cells: changed,
            restatements: ledger.pieces(),
        }))
    }
}
