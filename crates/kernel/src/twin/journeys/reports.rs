//! Counts by counting: every number is the size of a set written out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Event, Journeys, code, has};
use crate::engagement::{Engagement, EngagementRow};
use crate::frequency::{Frequency, FrequencyOf};
use crate::histogram;
use crate::pages::{PageRow, Pages};
use crate::retention::Retention;
use crate::slice::Values;
use crate::trend::{Amounts, Cell, TrendCounts};

/// A session of a visitor.
struct Visit {
    visitor: usize,
    /// 1 for the first of the visitor.
    number: usize,
    /// On the site.
    events: Vec<Event>,
    /// When the last event of the session before happened.
    before: Option<i64>,
}

impl Journeys {
    /// As [`crate::trend()`].
    pub fn trend(
        &self,
        marks: &[u64],
        edges: &[i64],
        split: Option<Values<'_>>,
        amounts: Option<Amounts<'_>>,
    ) -> TrendCounts {
        let mut cells: BTreeMap<(u32, u32), Vec<Event>> = BTreeMap::new();
        for event in self.marked(marks) {
            if let Some(bucket) = bucket(edges, event.time) {
                cells.entry((code(split, event.at), bucket as u32)).or_default().push(event);
            }
        }
        let cell = |events: &Vec<Event>| {
            let mut sums = BTreeMap::new();
            for event in events {
                if let Some((currency, micros)) = amounts.and_then(|amounts| amount(&amounts, event)) {
                    *sums.entry(currency).or_insert(0) += i128::from(micros);
                }
            }
            let sessions = events.iter().filter_map(|event| Some((event.visitor, event.session?)));
            Cell {
                events: events.len() as u64,
                visitors: distinct(events.iter().map(|event| event.visitor)),
                sessions: distinct(sessions),
                sums,
            }
        };
        TrendCounts { cells: cells.iter().map(|(place, events)| (*place, cell(events))).collect() }
    }

    /// As [`crate::retention()`].
    pub fn retention(&self, starts: &[u64], returns: &[u64], edges: &[i64]) -> Retention {
        let buckets = edges.len().max(1) - 1;
        let mut cohorts: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
        for visitor in &self.visitors {
            let in_range = |event: &&Event| has(starts, event.at) && bucket(edges, event.time).is_some();
            if let Some(first) = visitor.iter().find(in_range) {
                let cohort = bucket(edges, first.time);
                cohorts.entry(cohort.unwrap_or(0)).or_default().push(*first);
            }
        }
        let comes_back = |first: &Event, into: usize| {
            self.visitors[first.visitor].iter().any(|event| {
                event.at > first.at && has(returns, event.at) && bucket(edges, event.time) == Some(into)
            })
        };
        let cohort = |at: usize| cohorts.get(&at).cloned().unwrap_or_default();
        let returned =
            |at: usize, into: usize| cohort(at).iter().filter(|first| comes_back(first, into)).count() as u64;
        Retention {
            sizes: (0..buckets).map(|at| cohort(at).len() as u64).collect(),
            returned: (0..buckets).map(|at| (at..buckets).map(|into| returned(at, into)).collect()).collect(),
        }
    }

    /// As [`crate::frequency()`].
    pub fn frequency(&self, marks: &[u64], range: Range<i64>, of: FrequencyOf<'_>) -> Frequency {
        let marked: Vec<Event> =
            self.marked(marks).into_iter().filter(|event| within(&range, event.time)).collect();
        let mut visitors = BTreeMap::new();
        for visitor in 0..self.visitors.len() {
            let mine = marked.iter().filter(|event| event.visitor == visitor);
            let times = match of {
                FrequencyOf::Marks => mine.count() as u64,
                FrequencyOf::Sessions => distinct(mine.filter_map(|event| event.session)),
                FrequencyOf::Buckets(edges) => distinct(mine.filter_map(|event| bucket(edges, event.time))),
            };
            if times > 0 {
                *visitors.entry(times as u32).or_insert(0) += 1;
            }
        }
        Frequency { visitors }
    }

    /// As [`crate::engagement()`].
    pub fn engagement(
        &self,
        range: Range<i64>,
        pages: Option<&[u64]>,
        split: Option<Values<'_>>,
    ) -> Engagement {
        let mut rows: BTreeMap<u32, Vec<Visit>> = BTreeMap::new();
        for visit in self.visits_in(&range) {
            rows.entry(code(split, visit.events[0].at)).or_default().push(visit);
        }
        let row = |visits: &Vec<Visit>| {
            let number = |holds: &dyn Fn(&Visit) -> bool| visits.iter().filter(|visit| holds(visit)).count();
            let paged = |visit: &Visit| visit.events.iter().filter(|event| is_page(pages, event)).count();
            let who = |holds: &dyn Fn(&Visit) -> bool| {
                distinct(visits.iter().filter(|visit| holds(visit)).map(|visit| visit.visitor))
            };
            let bounced = |visit: &Visit| match pages {
                Some(_) => paged(visit) <= 1,
                None => visit.events.len() == 1,
            };
            let duration = |visit: &Visit| visit.events[visit.events.len() - 1].time - visit.events[0].time;
            let recency = |visit: &Visit| Some(visit.events[0].time - visit.before?);
            EngagementRow {
                sessions: visits.len() as u64,
                single: number(&|visit| visit.events.len() == 1) as u64,
                bounced: number(&bounced) as u64,
                events: visits.iter().map(|visit| visit.events.len() as u64).sum(),
                pages: visits.iter().map(|visit| paged(visit) as u64).sum(),
                visitors: who(&|_| true),
                new_visitors: who(&|visit| visit.number == 1),
                returning_visitors: who(&|visit| visit.number > 1),
                durations: tally(visits.iter().map(|visit| histogram::bucket(duration(visit)))),
                visit_numbers: tally(visits.iter().map(|visit| visit.number.min(64) as u32)),
                recency: tally(visits.iter().filter_map(|visit| recency(visit).map(histogram::bucket))),
            }
        };
        Engagement { rows: rows.iter().map(|(code, visits)| (*code, row(visits))).collect() }
    }

    /// As [`crate::pages()`].
    pub fn pages(&self, range: Range<i64>, pages: &[u64], codes: Values<'_>) -> Pages {
        let mut answer = Pages::default();
        for visit in self.visits_in(&range) {
            let seen: Vec<u32> = visit
                .events
                .iter()
                .filter(|event| is_page(Some(pages), event))
                .map(|event| code(Some(codes), event.at))
                .collect();
            let mut row = |code: u32, add: fn(&mut PageRow)| add(answer.rows.entry(code).or_default());
            match seen.as_slice() {
                [] => answer.without_page += 1,
                [only] => row(*only, |row| {
                    row.landings += 1;
                    row.exits += 1;
                    row.bounces += 1;
                }),
                [first, .., last] => {
                    row(*first, |row| row.landings += 1);
                    row(*last, |row| row.exits += 1);
                }
            }
        }
        answer
    }

    /// Every session whose first event lies in a range.
    fn visits_in(&self, range: &Range<i64>) -> Vec<Visit> {
        let mut all = Vec::new();
        for visitor in 0..self.visitors.len() {
            let mut before = None;
            for (at, events) in self.visits(visitor).into_iter().enumerate() {
                let last = events[events.len() - 1].time;
                all.push(Visit { visitor, number: at + 1, events, before });
                before = Some(last);
            }
        }
        all.retain(|visit| within(range, visit.events[0].time));
        all
    }
}

/// Currency and amount of an event, unless its amount's code is 0 or stands for nothing.
fn amount(amounts: &Amounts<'_>, event: &Event) -> Option<(u32, i64)> {
    match code(Some(amounts.codes), event.at) as usize {
        0 => None,
        place => Some((code(Some(amounts.currencies), event.at), *amounts.micros.get(place)?)),
    }
}

fn is_page(pages: Option<&[u64]>, event: &Event) -> bool {
    pages.is_some_and(|pages| has(pages, event.at))
}

fn within(range: &Range<i64>, time: i64) -> bool {
    range.start <= time && time < range.end
}

/// The bucket between two edges that holds an instant.
fn bucket(edges: &[i64], time: i64) -> Option<usize> {
    edges.windows(2).position(|pair| pair[0] <= time && time < pair[1])
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> u64 {
    all.collect::<BTreeSet<T>>().len() as u64
}

fn tally<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    all.for_each(|each| *counts.entry(each).or_insert(0) += 1);
    counts
}
