//! From counts to the answer.

use std::collections::BTreeMap;

use runnel_contracts::{
    proto::{
        event::v1::Money,
        funnel::v1::{
            BreakDownRow, OptionalStep, QueryFunnelResponse, StepResult, Totals, TrendBucket,
            break_down_row::Group,
        },
        query::v1 as query,
    },
    question::value_to_wire,
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    funnel::{Checked, Range},
    posed::Posed,
    rate::{rate, share},
};
use runnel_journeys::ValueDictionary;
use runnel_kernel::{
    Counts, Histogram, State,
    counts::{BreakDownRow as RowCounts, Levels},
    stats,
};
use runnel_model::limits;

use crate::{ask::Counted, unobserved};

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
        Some(dictionary) if !counted.later.is_empty() => rows_of_steps(checked, counted, dictionary, top),
        Some(dictionary) => rows(checked, counts, matured, dictionary, top),
        None => Vec::new(),
    };
    let mut answer = QueryFunnelResponse {
        steps: steps(checked, counts),
        totals: Some(totals),
        time_to_convert: Some(quantiles(&counts.time_to_convert)),
        rows,
        trend: trend(checked, posed, counts, matured)?,
        resolved: Some(checked.resolved().clone()),
        provenance: Some(posed.provenance(version, range, checked.notes(&posed.loaded))),
        range: Some(query::TimeRange { from_ms: Some(range.from_ms), until_ms: Some(range.until_ms) }),
        ..QueryFunnelResponse::default()
    };
    unobserved::tell(&counted.unobserved, &posed.loaded, checked, range, &mut answer);
    Ok(answer)
}

const KAPLAN_MEIER: &str = "kaplan-meier, greenwood log-log";

/// A sum of money, in millionths.
pub(crate) fn amount(currency: String, micros: i128) -> Result<Money, Refusal> {
    match i64::try_from(micros) {
        Ok(micros) => Ok(Money { micros, currency }),
        Err(_) => {
            let text = format!("The sum in {currency} does not fit into 64 bits of millionths.");
            Err(Refusal::new(Reason::NumberOutOfRange, text))
        }
    }
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
            metric: step.metric.clone(),
            ..StepResult::default()
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

/// The rows where each step counts under its own value: those with the most counts, then the rest as one row, then what has no value.
fn rows_of_steps(
    checked: &Checked,
    counted: &Counted,
    dictionary: &ValueDictionary,
    top: usize,
) -> Vec<BreakDownRow> {
    let levels = levels_of(checked);
    let mut found: BTreeMap<u32, (Vec<u64>, Totals)> = BTreeMap::new();
    let first = levels.iter().position(Option::is_some).unwrap_or(0);
    let steps = std::iter::once((first, &counted.counts.break_down));
    for (step, rows) in steps.chain(counted.later.iter().map(|(step, rows)| (*step, rows))) {
        let Some(level) = levels[step] else { continue };
        for (code, row) in rows {
            let (reached, totals) =
                found.entry(*code).or_insert_with(|| (vec![0; levels.len()], Totals::default()));
            reached[step] = row.levels.at_least(level);
            let ended = row.levels.cells.get(level).copied().unwrap_or_default();
            totals.entered += if step == first { reached[step] } else { 0 };
            totals.converted += ended[State::Converted as usize];
            totals.dropped += ended[State::Dropped as usize];
            totals.excluded += ended[State::Excluded as usize];
            totals.open += ended[State::Open as usize];
        }
    }
    found.retain(|_, (reached, _)| reached.iter().any(|count| *count > 0));
    let row = |group: Group, (reached, totals): (Vec<u64>, Totals)| BreakDownRow {
        group: Some(group),
        reached,
        totals: Some(totals),
        time_to_convert: None,
    };
    let unset = found.remove(&0).map(|unset| row(Group::Unset(true), unset));
    let mut named: Vec<_> =
        found.into_iter().filter_map(|(code, row)| Some((dictionary.value(code)?, row))).collect();
    let size = |(reached, _): &(Vec<u64>, Totals)| reached.iter().sum::<u64>();
    named.sort_by(|left, right| (size(&right.1), &left.0).cmp(&(size(&left.1), &right.0)));
    let rest = named.split_off(top.min(named.len()));
    let mut rows: Vec<BreakDownRow> =
        named.into_iter().map(|(value, counts)| row(Group::Value(value_to_wire(&value)), counts)).collect();
    rows.extend(
        rest.into_iter().map(|(_, counts)| counts).reduce(add).map(|rest| row(Group::Other(true), rest)),
    );
    rows.extend(unset);
    rows
}

fn add(mut sum: (Vec<u64>, Totals), (reached, totals): (Vec<u64>, Totals)) -> (Vec<u64>, Totals) {
    sum.0.iter_mut().zip(reached).for_each(|(sum, more)| *sum += more);
    sum.1.entered += totals.entered;
    sum.1.converted += totals.converted;
    sum.1.dropped += totals.dropped;
    sum.1.excluded += totals.excluded;
    sum.1.open += totals.open;
    sum
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
