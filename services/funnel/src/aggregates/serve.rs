//! Answers trends from aggregates, where these give the answer that journeys would.

use std::collections::{BTreeMap, BTreeSet};

use runnel_contracts::{
    proto::{
        aggregate::v1::{AggregateSplit, AggregatedConversion},
        insight::v1::{Counts, Interval, QueryTrendRequest, QueryTrendResponse, Series},
        query::v1::{self as query, SplitValue, TimeRange, split_value::Part},
    },
    question::value_to_wire,
    refusal::Refusal,
};
use runnel_definitions::{
    funnel::Range,
    posed::{never_occurred, not_known, shown},
    refusal::unavailable,
};
use runnel_model::{Dimension, Selector, Value};
use runnel_storage::Aggregates;

use super::{
    Aggregator, GRAINS, Kept,
    rows::{Rows, decode},
};
use crate::{
    calendar::Width,
    insight::{Scene, Splitting, resolved},
};

/// The edges of buckets, as asked for and whole, and the resolved range.
type Edges = (Vec<i64>, Vec<i64>, Range);

/// The answer to a trend without totals; `None` where aggregates do not have it. Those that are outdated are brought up to date for the next question.
pub(crate) async fn trend(
    aggregator: &Aggregator,
    scene: &Scene,
    request: &QueryTrendRequest,
    width: Width,
) -> Result<Option<QueryTrendResponse>, Refusal> {
    let Some(grain) = GRAINS.iter().find(|(_, of)| *of == width).map(|(grain, _)| *grain) else {
        return Ok(None);
    };
    let Some(split) = split(request)? else { return Ok(None) };
    let conversions: Vec<&str> = request.of.iter().map(|of| &*of.conversion).collect();
    let zone = &scene.catalogue.settings.time_zone;
    let fits = request.buckets_only
        && !request.compare
        && request.as_of_ms.is_none()
        && !request.without_bots
        && conversions.iter().all(|name| !name.is_empty())
        && (request.time_zone.is_empty() || request.time_zone == *zone);
    if !fits {
        return Ok(None);
    }
    let (from_ms, until_ms) = (scene.range.from_ms, scene.range.until_ms);
    let store = aggregator.journeys.store();
    let earliest = scene.calendar("")?.before(from_ms, width, 0).unwrap_or(i64::MIN);
    let read = || async {
        let stored = store.aggregates(&scene.tenant, grain, earliest, until_ms).await;
        stored.map_err(|fault| unavailable(&fault))
    };
    let mut stored = read().await?;
    let not_kept = stored.kept_from_ms.filter(|kept_from_ms| from_ms < *kept_from_ms);
    if not_kept.is_some() {
        // Nothing else knows of it: what was committed before is counted first.
        aggregator.refresh(&scene.tenant).await?;
        stored = read().await?;
    }
    let Some(kept) = Kept::of(&stored)? else {
        aggregator.wish(&scene.tenant);
        return Ok(None);
    };
    let outdated_from = match not_kept {
        Some(_) => None,
        None => kept.outdated_from(&aggregator.journeys, &scene.tenant, &stored).await?,
    };
    let Some(edges) = current(scene, &kept, outdated_from, &conversions, width)? else {
        aggregator.wish(&scene.tenant);
        return Ok(None);
    };
    answer(scene, request, (&kept, &stored), &edges, split)
}

/// What aggregates a question's split is; the inner `None` is no split, the outer one that there are none.
fn split(request: &QueryTrendRequest) -> Result<Option<Option<(AggregateSplit, Splitting)>>, Refusal> {
    let Some(splitting) = Splitting::of(request.split.as_ref())? else { return Ok(Some(None)) };
    let split = match splitting.column {
        Selector::Session(Dimension::Channel) => AggregateSplit::Channel,
        Selector::Session(Dimension::Device) => AggregateSplit::Device,
        _ => return Ok(None),
    };
    Ok(Some(Some((split, splitting))))
}

/// The edges of the buckets and the resolved range, if aggregates have all of them as they are now.
fn current(
    scene: &Scene,
    kept: &Kept,
    outdated_from: Option<i64>,
    conversions: &[&str],
    width: Width,
) -> Result<Option<Edges>, Refusal> {
    let counted = |name: &&str| {
        let version = scene.catalogue.conversions.get(*name).map(|known| known.wire.version);
        kept.state.conversions.iter().find(|one| one.name == **name && Some(one.version) == version)
    };
    let counted: Option<Vec<&AggregatedConversion>> = conversions.iter().map(counted).collect();
    let Some(counted) = counted.filter(|_| kept.has_settings(&scene.catalogue)) else { return Ok(None) };
    // Where an end was not given, the first or last event is it, which may be another one by now.
    if outdated_from.is_some() && scene.given != (true, true) {
        return Ok(None);
    }
    let range = scene.spanned(kept.state.first_ms.zip(kept.state.last_ms));
    if range.from_ms >= range.until_ms {
        return Ok(Some((vec![range.from_ms], vec![range.from_ms], range)));
    }
    let most = runnel_model::limits::TREND_BUCKETS;
    let Some(whole) = kept.calendar.edges(range.from_ms, range.until_ms, width, most) else {
        return Ok(None);
    };
    let cut: Vec<i64> =
        whole.iter().map(|edge| (*edge).clamp(scene.range.from_ms, scene.range.until_ms)).collect();
    // The bucket that goes on at this moment is whole when nothing lies behind the moment.
    let goes_on = |edge: i64| edge == scene.range.as_of_ms && kept.is_settled();
    let uncut = cut.iter().zip(&whole).all(|(cut, whole)| cut == whole || goes_on(*cut));
    let has_all = counted.iter().all(|one| one.since_ms.is_none_or(|since_ms| since_ms <= whole[0]));
    let nothing_before = kept.state.first_ms.is_none_or(|first_ms| first_ms >= kept.state.from_ms);
    let kept_all = whole[0] >= kept.state.from_ms || nothing_before;
    let fresh =
        outdated_from.is_none_or(|outdated_from| whole.last().is_some_and(|end| *end <= outdated_from));
    Ok((uncut && has_all && kept_all && fresh).then_some((cut, whole, range)))
}

fn answer(
    scene: &Scene,
    request: &QueryTrendRequest,
    (kept, stored): (&Kept, &Aggregates),
    (cut, whole, range): &Edges,
    split: Option<(AggregateSplit, Splitting)>,
) -> Result<Option<QueryTrendResponse>, Refusal> {
    let mut cells: BTreeMap<i64, Rows> = BTreeMap::new();
    for cell in &stored.cells {
        let rows = cell.body.as_ref().map(decode).transpose()?.unwrap_or_default();
        cells.insert(cell.start_ms, rows);
    }
    let starts = &whole[..whole.len() - 1];
    let points = |conversion: &str, split: AggregateSplit, value: Option<&Value>| -> Vec<Counts> {
        let key = (conversion.to_owned(), split as i32, value.cloned());
        let find = |start: &i64| cells.get(start).and_then(|rows| rows.get(&key)).cloned();
        starts.iter().map(|start| find(start).unwrap_or_default()).collect()
    };
    let mut series = Vec::new();
    for (at, of) in request.of.iter().enumerate() {
        let mut add = |value: Option<SplitValue>, points: Vec<Counts>| {
            let (of_number, label) = (at as u32, of.conversion.clone());
            series.push(Series { of: of_number, label, value, points, ..Series::default() });
        };
        add(None, points(&of.conversion, AggregateSplit::Unspecified, None));
        let Some((split, splitting)) = &split else { continue };
        let keys = starts.iter().filter_map(|start| cells.get(start)).flat_map(BTreeMap::keys);
        let values: BTreeSet<Option<&Value>> = keys
            .filter(|(conversion, of_split, _)| *conversion == of.conversion && *of_split == *split as i32)
            .map(|(_, _, value)| value.as_ref())
            .collect();
        let mut rows: Vec<(u64, &Value, Vec<Counts>)> = Vec::new();
        for value in values.iter().copied().flatten() {
            let points = points(&of.conversion, *split, Some(value));
            rows.push((points.iter().map(|point| point.events).sum(), value, points));
        }
        rows.sort_by(|left, right| (right.0, left.1).cmp(&(left.0, right.1)));
        // How many visitors all others are together, aggregates do not tell.
        if rows.len() > splitting.top() {
            return Ok(None);
        }
        for (_, value, points) in rows {
            add(Some(SplitValue { part: Some(Part::Value(value_to_wire(value))) }), points);
        }
        if values.contains(&None) {
            let unset = Some(SplitValue { part: Some(Part::Unset(true)) });
            add(unset, points(&of.conversion, *split, None));
        }
    }
    let bucket = |pair: &[i64]| TimeRange { from_ms: Some(pair[0]), until_ms: Some(pair[1]) };
    let kept_from_ms = stored.kept_from_ms.filter(|kept_from_ms| range.from_ms < *kept_from_ms);
    let head = if kept_from_ms.is_some() { kept.made_of } else { stored.head };
    let revision = query::Revision {
        sequence: head.sequence,
        definition: head.definition,
        alias: head.alias,
        erasure: head.erasure,
    };
    Ok(Some(QueryTrendResponse {
        series,
        buckets: cut.windows(2).map(bucket).collect(),
        time_zone: kept.calendar.name().to_owned(),
        provenance: Some(query::Provenance {
            definition_version: 0,
            as_of_ms: scene.range.as_of_ms,
            revision: Some(revision),
            notes: notes(kept, request, stored.kept_from_ms, *range),
        }),
        range: Some(resolved(*range)),
        aggregated: true,
    }))
}

/// Remarks on events that never occurred, so that a zero is never silent; and on what is not kept.
fn notes(kept: &Kept, request: &QueryTrendRequest, kept_from_ms: Option<i64>, range: Range) -> Vec<String> {
    let asked = |name: &str| request.of.iter().any(|of| of.conversion == name);
    let counted = kept.state.conversions.iter().filter(|one| asked(&one.name));
    let missing: BTreeSet<&String> = counted.flat_map(|one| &one.missing_events).collect();
    let mut notes: Vec<String> = missing.into_iter().map(|name| never_occurred(name)).collect();
    let Some(kept_from_ms) = kept_from_ms else { return notes };
    if range.from_ms >= kept_from_ms {
        notes.push(not_known(kept_from_ms));
        return notes;
    }
    notes.push(format!("What happened before {} is known by its counts only.", shown(kept_from_ms)));
    if [Interval::Week, Interval::Month].contains(&request.interval()) {
        notes.push(
            "A week or month that began before has nothing that came when its first day was not kept any more."
                .to_owned(),
        );
    }
    if let Some(since_ms) = kept.state.settings_since_ms.filter(|since_ms| range.from_ms < *since_ms) {
        notes.push(format!("What happened before {} is counted by other settings.", shown(since_ms)));
    }
    notes
}
