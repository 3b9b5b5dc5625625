//! From counts to the answer.

use std::collections::BTreeMap;

use runnel_contracts::{
    proto::{
        funnel::v1::{
            BreakDownRow, OptionalStep, QueryFunnelResponse, StepResult, Totals, TrendBucket,
            break_down_row::Group,
        },
        query::v1 as query,
    },
    question::value_to_wire,
    refusal::{Reason, Refusal},
};
use runnel_journeys::ValueDictionary;
use runnel_kernel::{
    Counts, Histogram, State,
    counts::{BreakDownRow as RowCounts, Levels},
    stats::{self, Estimate},
};
use runnel_model::limits;

use crate::{
    ask::{Counted, Posed},
    definition::{Checked, Range},
};

/// The whole answer.
pub(crate) fn answer(
    checked: &Checked,
    posed: &Posed,
    counted: &Counted,
    version: u64,
    range: Range,
    top: usize,
) -> Result<QueryFunnelResponse, Refusal> {
    let counts = &counted.counts;
    let matured = counted.matured.as_ref().unwrap_or(counts);
    let mut totals = totals(&counts.levels, Some(&matured.levels));
    totals.removed = counts.removed;
    totals.hold_missing = counts.missing_hold;
    let followed = counts.survival.converted.total() + counts.survival.censored.total();
    totals.projected =
        stats::kaplan_meier(&counts.survival).map(|estimate| rate(estimate, followed, KAPLAN_MEIER));
    let dictionary = checked.break_down().and_then(|column| posed.loaded.column(column));
    let rows = match dictionary.map(|at| &posed.loaded.columns[at].1) {
        Some(dictionary) => rows(checked, counts, matured, dictionary, top),
        None => Vec::new(),
    };
    Ok(QueryFunnelResponse {
        steps: steps(checked, counts),
        totals: Some(totals),
        time_to_convert: Some(quantiles(&counts.time_to_convert)),
        rows,
        trend: trend(checked, posed, counts, matured)?,
        resolved: Some(checked.resolved().clone()),
        provenance: Some(posed.provenance(version, range, checked.notes(&posed.loaded))),
        range: Some(query::TimeRange { from_ms: Some(range.from_ms), until_ms: Some(range.until_ms) }),
    })
}

const WILSON: &str = "wilson";
const KAPLAN_MEIER: &str = "kaplan-meier, greenwood log-log";

fn rate(estimate: Estimate, n: u64, method: &str) -> query::Rate {
    query::Rate { point: estimate.rate, low: estimate.low, high: estimate.high, n, method: method.to_owned() }
}

/// A share with its Wilson interval; none of nothing.
pub(crate) fn share(part: u64, whole: u64) -> Option<query::Rate> {
    stats::wilson(part, whole).map(|estimate| rate(estimate, whole, WILSON))
}

/// Quantiles of a histogram.
pub(crate) fn quantiles(histogram: &Histogram) -> query::Quantiles {
    query::Quantiles {
        n: histogram.total(),
        p10_ms: histogram.quantile(0.10),
        p25_ms: histogram.quantile(0.25),
        p50_ms: histogram.quantile(0.50),
        p75_ms: histogram.quantile(0.75),
        p90_ms: histogram.quantile(0.90),
    }
}

fn totals(levels: &Levels, matured: Option<&Levels>) -> Totals {
    let entered = levels.units();
    Totals {
        entered,
        converted: levels.in_state(State::Converted),
        dropped: levels.in_state(State::Dropped),
        excluded: levels.in_state(State::Excluded),
        open: levels.in_state(State::Open),
        removed: 0,
        hold_missing: 0,
        rate: share(levels.in_state(State::Converted), entered),
        matured: matured.and_then(|levels| share(levels.in_state(State::Converted), levels.units())),
        projected: None,
    }
}

/// Per step its level: how many required steps there are up to it; `None` for an optional step.
fn levels_of(checked: &Checked) -> Vec<Option<usize>> {
    let mut level = 0;
    let required = |step: &runnel_contracts::proto::funnel::v1::Step| {
        level += usize::from(!step.optional);
        (!step.optional).then_some(level)
    };
    checked.resolved().steps.iter().map(required).collect()
}

fn steps(checked: &Checked, counts: &Counts) -> Vec<StepResult> {
    let entered = counts.levels.units();
    let levels = levels_of(checked);
    let mut previous: Option<u64> = None;
    let mut results = Vec::new();
    for (at, step) in checked.resolved().steps.iter().enumerate() {
        let reached = counts.reached.get(at).copied().unwrap_or(0);
        let cell = levels[at].and_then(|level| counts.levels.cells.get(level)).copied().unwrap_or_default();
        let optional = counts.optional.get(at).filter(|_| step.optional).map(|seen| {
            let (with, without) =
                (share(seen.with_converted, seen.with), share(seen.without_converted, seen.without));
            let point = |rate: &Option<query::Rate>| rate.as_ref().map_or(0.0, |rate| rate.point);
            OptionalStep { uplift: point(&with) - point(&without), with, without }
        });
        results.push(StepResult {
            label: step.label.clone(),
            reached,
            dropped: cell[State::Dropped as usize],
            excluded: cell[State::Excluded as usize],
            open: cell[State::Open as usize],
            entered_here: counts.entered_here.get(at).copied().unwrap_or(0),
            of_first: share(reached, entered),
            of_previous: previous
                .filter(|_| !checked.resolved().open)
                .and_then(|previous| share(reached, previous)),
            time_from_previous: counts.step_times.get(at).filter(|_| at > 0).map(quantiles),
            optional,
        });
        if !step.optional {
            previous = Some(reached);
        }
    }
    results
}

/// One count a step: units whose furthest required step is this one or a later one.
fn furthest(checked: &Checked, levels: &Levels) -> Vec<u64> {
    levels_of(checked).iter().map(|level| level.map_or(0, |level| levels.at_least(level))).collect()
}

fn row(checked: &Checked, group: Group, counts: &RowCounts, matured: Option<&RowCounts>) -> BreakDownRow {
    let mut times = Histogram::default();
    counts.time_to_convert.iter().for_each(|(bucket, count)| times.add(*bucket, *count));
    BreakDownRow {
        group: Some(group),
        reached: furthest(checked, &counts.levels),
        totals: Some(totals(&counts.levels, Some(matured.map_or(&Levels::default(), |row| &row.levels)))),
        time_to_convert: Some(quantiles(&times)),
    }
}

/// The most frequent values, then the rest as one row, then units without a value.
fn rows(
    checked: &Checked,
    counts: &Counts,
    matured: &Counts,
    dictionary: &ValueDictionary,
    top: usize,
) -> Vec<BreakDownRow> {
    let named = counts.break_down.iter().filter(|(code, _)| **code != 0);
    let mut named: Vec<_> =
        named.filter_map(|(code, row)| Some((*code, row, dictionary.value(*code)?))).collect();
    named.sort_by(|left, right| (right.1.levels.units(), &left.2).cmp(&(left.1.levels.units(), &right.2)));
    let mut rows = Vec::new();
    let (mut other, mut other_matured) = (RowCounts::default(), RowCounts::default());
    for (at, (code, counts, value)) in named.iter().enumerate() {
        let matured = matured.break_down.get(code);
        if at < top {
            rows.push(row(checked, Group::Value(value_to_wire(value)), counts, matured));
        } else {
            merge(&mut other, counts);
            matured.into_iter().for_each(|row| merge(&mut other_matured, row));
        }
    }
    if named.len() > top {
        rows.push(row(checked, Group::Other(true), &other, Some(&other_matured)));
    }
    if let Some(unset) = counts.break_down.get(&0) {
        rows.push(row(checked, Group::Unset(true), unset, matured.break_down.get(&0)));
    }
    rows
}

fn merge(into: &mut RowCounts, more: &RowCounts) {
    into.levels.merge(&more.levels);
    more.time_to_convert
        .iter()
        .for_each(|(bucket, count)| *into.time_to_convert.entry(*bucket).or_default() += count);
}

/// Every bucket from the first to the last with an entry, empty ones included.
fn trend(
    checked: &Checked,
    posed: &Posed,
    counts: &Counts,
    matured: &Counts,
) -> Result<Vec<TrendBucket>, Refusal> {
    let (Some(trend), Some((first, _)), Some((last, _))) =
        (posed.plan.question().trend, counts.trend.first_key_value(), counts.trend.last_key_value())
    else {
        return Ok(Vec::new());
    };
    let buckets = last.abs_diff(*first).saturating_add(1);
    if buckets > limits::TREND_BUCKETS as u64 {
        let text =
            format!("A trend has at most {} buckets; this one would have {buckets}.", limits::TREND_BUCKETS);
        return Err(Refusal::field(Reason::CostTooHigh, "trend", text));
    }
    let none = Levels::default();
    let of =
        |all: &BTreeMap<i64, Levels>, bucket: i64| all.get(&bucket).cloned().unwrap_or_else(|| none.clone());
    let bucket = |bucket: i64| {
        let levels = of(&counts.trend, bucket);
        TrendBucket {
            start_ms: trend.origin_ms + bucket * trend.bucket_ms,
            reached: furthest(checked, &levels),
            totals: Some(totals(&levels, Some(&of(&matured.trend, bucket)))),
        }
    };
    Ok((*first..=*last).map(bucket).collect())
}
