//! Counts by hour, day, week or month.

use std::{collections::BTreeMap, sync::Arc};

use runnel_contracts::{
    conversion::known,
    proto::{
        insight::v1::{Counts, Interval, QueryTrendRequest, QueryTrendResponse, Series},
        query::v1::TimeRange,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{funnel::Range, posed};
use runnel_journeys::{Journeys, View};
use runnel_kernel::{Cell, TrendCounts, Values, trend};
use runnel_model::limits;

use super::{
    Insights, Scene,
    asked::{Asked, Subject, resolved, subject},
    split::{Splitting, grouped, order},
};
use crate::{
    aggregates,
    calendar::{Calendar, Width},
    unobserved,
};

/// The ascending instants between the buckets that touch a range, cut off at the ends of what was asked for; where an end was not given, the bucket there is whole.
pub(super) fn edges(
    calendar: &Calendar,
    (range, asked): (Range, Range),
    width: Width,
    most: usize,
) -> Option<Vec<i64>> {
    if range.from_ms >= range.until_ms {
        return Some(vec![range.from_ms]);
    }
    let mut edges = calendar.edges(range.from_ms, range.until_ms, width, most)?;
    edges.iter_mut().for_each(|edge| *edge = (*edge).clamp(asked.from_ms, asked.until_ms));
    Some(edges)
}

/// More buckets than there may be.
pub(crate) fn too_many(most: usize) -> Refusal {
    let text = format!("The range has more than {most} buckets of this width; ask for wider ones.");
    Refusal::field(Reason::CostTooHigh, "interval", text)
}

/// How often what happened, in each bucket and in all of them.
struct Counted {
    each: TrendCounts,
    all: TrendCounts,
}

pub(super) async fn answer(
    insights: &Insights,
    scene: &Scene,
    request: QueryTrendRequest,
) -> Result<QueryTrendResponse, Refusal> {
    let journeys = &insights.journeys;
    if request.of.is_empty() || request.of.len() > limits::TREND_SERIES {
        let text =
            format!("A trend counts 1 to {} things; this one {}.", limits::TREND_SERIES, request.of.len());
        return Err(Refusal::field(Reason::NumberOutOfRange, "of", text));
    }
    let subjects: Vec<Subject> = request
        .of
        .iter()
        .enumerate()
        .map(|(at, event)| subject(&format!("of[{at}]"), event, &scene.catalogue))
        .collect::<Result<_, _>>()?;
    let width = Width::of(known::<Interval>("interval", request.interval)?);
    if let Some(answer) = aggregates::trend(&insights.aggregator, scene, &request, width).await? {
        return Ok(answer);
    }
    let calendar = scene.calendar(&request.time_zone)?;
    let split = Splitting::of(request.split.as_ref())?;
    let columns = split.iter().map(|split| split.column.clone());
    let asked = Asked::new(journeys, scene.over(), &subjects, columns).await?;
    let asked = Arc::new(asked);
    let range = scene.spanned(asked.span_ms());
    let most = limits::TREND_BUCKETS;
    let edges = edges(&calendar, (range, scene.range), width, most).ok_or_else(|| too_many(most))?;
    let earlier = request.compare.then(|| previous(&calendar, range, width, edges.len() - 1)).flatten();
    if let Some(first_ms) = earlier.as_ref().and_then(|earlier| earlier.first()) {
        posed::kept(&asked.loaded, *first_ms)?;
    }
    let denied = asked.unobserved(journeys).await?;
    let mut series = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        let mut rows = vec![(None, None)];
        let mut own = Vec::new();
        if let Some(split) = &split {
            let column = asked.column(&split.column);
            let found = count(journeys, &asked, at, &edges, Some(Codes { column, own: None })).await?;
            let sizes: BTreeMap<u32, u64> =
                found.all.cells.iter().map(|((code, _), cell)| (*code, cell.events)).collect();
            own = split.rows(&asked, &sizes);
            let present = |code: &u32| match code {
                0 => sizes.get(&0).is_some_and(|events| *events > 0),
                code if own.contains(code) => true,
                _ => sizes.keys().filter(|code| **code != 0).count() > own.len(),
            };
            rows.extend(order(&own).filter(present).map(|code| (Some(code), Some(split.part(&asked, code)))));
        }
        let plain = count(journeys, &asked, at, &edges, None).await?;
        let before = match &earlier {
            Some(earlier) => Some(count(journeys, &asked, at, earlier, None).await?),
            None => None,
        };
        let (mut split_now, mut split_before) = (None, None);
        if let Some(split) = &split {
            let codes = || Some(Codes { column: asked.column(&split.column), own: Some(own.clone()) });
            split_now = Some(count(journeys, &asked, at, &edges, codes()).await?);
            if let Some(earlier) = &earlier {
                split_before = Some(count(journeys, &asked, at, earlier, codes()).await?);
            }
        }
        for (code, value) in rows {
            let (now, then) = match code {
                None => (Some(&plain), before.as_ref()),
                Some(_) => (split_now.as_ref(), split_before.as_ref()),
            };
            let is_split = code.is_some();
            let code = code.unwrap_or(0);
            let buckets = edges.len() - 1;
            let mut row = Series {
                of: at as u32,
                label: subject.label.clone(),
                value,
                total: now
                    .filter(|_| !request.buckets_only)
                    .map(|now| asked.counts(at, now.all.cells.get(&(code, 0))))
                    .transpose()?,
                points: now
                    .map(|now| points(&asked, at, now, code, buckets))
                    .transpose()?
                    .unwrap_or_default(),
                previous_total: then
                    .filter(|_| !request.buckets_only)
                    .map(|then| asked.counts(at, then.all.cells.get(&(code, 0))))
                    .transpose()?,
                previous: then
                    .map(|then| points(&asked, at, then, code, buckets))
                    .transpose()?
                    .unwrap_or_default(),
            };
            if !is_split {
                let of = |edges: &[i64]| {
                    unobserved::may_each(&denied, &asked.loaded.names, &subject.conversion, edges)
                };
                tell(&mut row.points, row.total.as_mut(), &edges, of);
                if let Some(earlier) = &earlier {
                    tell(&mut row.previous, row.previous_total.as_mut(), earlier, of);
                }
            }
            series.push(row);
        }
    }
    let bucket = |pair: &[i64]| TimeRange { from_ms: Some(pair[0]), until_ms: Some(pair[1]) };
    Ok(QueryTrendResponse {
        series,
        buckets: edges.windows(2).map(bucket).collect(),
        time_zone: calendar.name().to_owned(),
        provenance: Some(asked.provenance(asked.notes(&subjects))),
        range: Some(resolved(range)),
        aggregated: false,
    })
}

/// As many buckets before a range as it has.
fn previous(calendar: &Calendar, range: Range, width: Width, buckets: usize) -> Option<Vec<i64>> {
    let until_ms = calendar.before(range.from_ms, width, 0)?;
    let from_ms = calendar.before(range.from_ms, width, buckets)?;
    calendar.edges(from_ms, until_ms, width, buckets)
}

/// A column whose codes split counts; with `own`, only these have a row, all others are one.
#[derive(Clone)]
struct Codes {
    column: usize,
    own: Option<Vec<u32>>,
}

async fn count(
    journeys: &Journeys,
    asked: &Arc<Asked>,
    subject: usize,
    edges: &[i64],
    codes: Option<Codes>,
) -> Result<Counted, Refusal> {
    let (told, edges) = (asked.clone(), edges.to_vec());
    let whole = [edges.first().copied().unwrap_or(0), edges.last().copied().unwrap_or(0)];
    let count = move |view: &View<'_>| {
        let (marks, amounts) = (view.conversion(subject), told.amounts(view, subject));
        let grouping =
            codes.as_ref().and_then(|codes| Some(grouped(view.codes(codes.column), codes.own.as_ref()?)));
        let split = match (&codes, &grouping) {
            (None, _) => None,
            (Some(_), Some(grouping)) => Some(Values::U32(grouping)),
            (Some(codes), None) => Some(view.codes(codes.column)),
        };
        let each = trend(view.sessions(), &marks, &edges, split, amounts);
        let all = trend(view.sessions(), &marks, &whole, split, amounts);
        (each, all)
    };
    let merge = |sum: &mut (TrendCounts, TrendCounts), more: (TrendCounts, TrendCounts)| {
        sum.0.merge(&more.0);
        sum.1.merge(&more.1);
    };
    let (each, all) = asked.count(journeys, count, merge).await?;
    Ok(Counted { each, all })
}

fn points(
    asked: &Asked,
    subject: usize,
    counted: &Counted,
    code: u32,
    buckets: usize,
) -> Result<Vec<Counts>, Refusal> {
    (0..buckets).map(|bucket| asked.counts(subject, counted.each.cells.get(&(code, bucket as u32)))).collect()
}

/// Adds to the counts of buckets, and of all of them, what is not in them.
fn tell(points: &mut [Counts], total: Option<&mut Counts>, edges: &[i64], of: impl Fn(&[i64]) -> Vec<u64>) {
    for (point, unobserved) in points.iter_mut().zip(of(edges)) {
        point.unobserved = unobserved;
    }
    if let (Some(total), [first, .., last]) = (total, edges) {
        total.unobserved = of(&[*first, *last]).iter().sum();
    }
}

impl Asked {
    /// A cell as it is answered.
    pub(crate) fn counts(&self, subject: usize, cell: Option<&Cell>) -> Result<Counts, Refusal> {
        let Some(cell) = cell else { return Ok(Counts::default()) };
        Ok(Counts {
            events: cell.events,
            visitors: cell.visitors,
            sessions: cell.sessions,
            values: self.money(subject, cell.events, &cell.sums)?,
            unobserved: 0,
        })
    }
}
