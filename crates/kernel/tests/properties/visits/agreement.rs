//! Everything that is said of sessions against the twin, on random journeys, and merged against whole.

use runnel_kernel::{
    Engagement, Frequency, FrequencyOf, Pages, Per, Retention, Sessions, Threshold, TrendCounts, engagement,
    frequency, pages, retention, trend, twin,
};

use super::columns::Columns;
use super::random::Case;
use crate::generate::{Random, cases, first_seed};

#[test]
fn sessions_agree_with_the_twin() {
    every_case(|case, columns, context| {
        let slice = columns.slice();
        let sessions = sessions(case, columns);
        let twin = twin(case, columns);
        assert_eq!(sessions.starts(), twin.starts(), "{context}");
        let expected = twin.ordinals();
        let mut numbers = sessions.numbers();
        let mut before = 0;
        for visitor in 0..slice.visitors() {
            let found: Vec<_> = sessions.of_visitor(visitor).collect();
            assert_eq!(found, twin.of_visitor(visitor), "visitor {visitor}, {context}");
            let mut ordinals = sessions.ordinals(visitor);
            for event in slice.range(visitor) {
                assert_eq!(ordinals.of(event), expected[event], "event {event}, {context}");
                let number = expected[event].map(|ordinal| before + ordinal);
                assert_eq!(numbers.of(event), number, "event {event}, {context}");
            }
            // Going back is slow, not wrong; another visitor's events belong to none of these sessions.
            for event in slice.range(visitor).rev() {
                assert_eq!(ordinals.of(event), expected[event], "event {event}, {context}");
            }
            assert_eq!(ordinals.of(slice.range(visitor).end), None, "{context}");
            before += found.len() as u32;
        }
        assert_eq!(sessions.of_visitor(slice.visitors()).count(), 0, "{context}");
    });
}

#[test]
fn marks_agree_with_the_twin() {
    every_case(|case, columns, context| {
        let sessions = sessions(case, columns);
        let twin = twin(case, columns);
        let thresholds = [
            Threshold::DurationMs(case.duration_ms),
            Threshold::Events(case.count),
            Threshold::Matching { count: case.count, which: &columns.marked },
        ];
        for threshold in thresholds {
            let (found, expected) = (sessions.reaching(threshold), twin.reaching(threshold));
            assert_eq!(found, expected, "{threshold:?}, {context}");
        }
        assert_eq!(sessions.nth_visit(case.count), twin.nth_visit(case.count), "{context}");
        assert_eq!(sessions.returning(case.duration_ms), twin.returning(case.duration_ms), "{context}");
        let item = case.has_codes.then(|| columns.codes());
        let found = sessions.first_per_item(&columns.marked, item);
        assert_eq!(found, twin.first_per_item(&columns.marked, item), "{context}");
        for per in [Per::Session, Per::Visitor] {
            let (found, expected) = (sessions.once(&columns.marked, per), twin.once(&columns.marked, per));
            assert_eq!(found, expected, "{per:?}, {context}");
        }
    });
}

#[test]
fn reports_agree_with_the_twin() {
    every_case(|case, columns, context| {
        let twin = twin(case, columns);
        let Reports { trend, retention, frequencies, engagement, pages } = reports(case, columns);
        let codes = case.has_codes.then(|| columns.codes());
        let amounts = case.has_amounts.then(|| columns.amounts(&case.micros));
        let expected = twin.trend(&columns.marked, &case.edges, codes, amounts);
        assert_eq!(trend, expected, "{context}");
        let expected = twin.retention(&columns.marked, &columns.again, &case.edges);
        assert_eq!(retention, expected, "{context}");
        let expected = frequency_of(case).map(|of| twin.frequency(&columns.marked, case.range.clone(), of));
        assert_eq!(frequencies, expected, "{context}");
        let page_bits = case.has_pages.then_some(columns.page.as_slice());
        let expected = twin.engagement(case.range.clone(), page_bits, codes);
        assert_eq!(engagement, expected, "{context}");
        let expected = twin.pages(case.range.clone(), &columns.page, columns.codes());
        assert_eq!(pages, expected, "{context}");
    });
}

#[test]
fn merged_reports_are_those_of_the_whole() {
    every_case(|case, columns, context| {
        let whole = reports(case, columns);
        let cut = case.count as usize * case.visitors.len() / 4;
        let [left, right] = case.cut(cut).map(|part| reports(&part, &part.columns()));
        for (first, second) in [(&left, &right), (&right, &left)] {
            let mut merged = Reports::default();
            merged.merge(first);
            merged.merge(second);
            assert_eq!(merged, whole, "cut at {cut}, {context}");
        }
    });
}

#[test]
fn reports_keep_the_invariants() {
    every_case(|case, columns, context| {
        let Reports { trend, retention, frequencies, engagement, pages } = reports(case, columns);
        for cell in trend.cells.values() {
            assert!(cell.visitors <= cell.events && cell.sessions <= cell.events, "{context}");
        }
        for (size, row) in retention.sizes.iter().zip(&retention.returned) {
            assert!(row.iter().all(|returned| returned <= size), "{context}");
        }
        let marks: u64 =
            frequencies[0].visitors.iter().map(|(times, visitors)| u64::from(*times) * visitors).sum();
        let range = [case.range.start, case.range.end];
        let sessions = sessions(case, columns);
        let whole = runnel_kernel::trend(&sessions, &columns.marked, &range, None, None);
        assert_eq!(whole.cells.values().map(|cell| cell.events).sum::<u64>(), marks, "{context}");
        let visitors = frequencies[0].visitors.values().sum::<u64>();
        assert_eq!(whole.cells.values().map(|cell| cell.visitors).sum::<u64>(), visitors, "{context}");
        let sessions: u64 = engagement.rows.values().map(|row| row.sessions).sum();
        for row in engagement.rows.values() {
            assert_eq!(row.duration_histogram().total(), row.sessions, "{context}");
            assert_eq!(row.visit_numbers.values().sum::<u64>(), row.sessions, "{context}");
            let first = row.visit_numbers.get(&1).copied().unwrap_or(0);
            assert_eq!(
                (row.recency_histogram().total() + first, row.new_visitors),
                (row.sessions, first),
                "{context}"
            );
            assert!(row.visitors <= row.new_visitors + row.returning_visitors, "{context}");
        }
        let landings: u64 = pages.rows.values().map(|row| row.landings).sum();
        let exits: u64 = pages.rows.values().map(|row| row.exits).sum();
        assert_eq!((landings, landings + pages.without_page), (exits, sessions), "{context}");
    });
}

/// Whatever is counted of a case.
#[derive(Debug, Default, PartialEq)]
struct Reports {
    trend: TrendCounts,
    retention: Retention,
    frequencies: [Frequency; 3],
    engagement: Engagement,
    pages: Pages,
}

impl Reports {
    fn merge(&mut self, other: &Self) {
        self.trend.merge(&other.trend);
        self.retention.merge(&other.retention);
        self.frequencies.iter_mut().zip(&other.frequencies).for_each(|(mine, more)| mine.merge(more));
        self.engagement.merge(&other.engagement);
        self.pages.merge(&other.pages);
    }
}

fn reports(case: &Case, columns: &Columns) -> Reports {
    let sessions = sessions(case, columns);
    let codes = case.has_codes.then(|| columns.codes());
    let amounts = case.has_amounts.then(|| columns.amounts(&case.micros));
    let page_bits = case.has_pages.then_some(columns.page.as_slice());
    let range = || case.range.clone();
    Reports {
        trend: trend(&sessions, &columns.marked, &case.edges, codes, amounts),
        retention: retention(sessions.slice(), &columns.marked, &columns.again, &case.edges),
        frequencies: frequency_of(case).map(|of| frequency(&sessions, &columns.marked, range(), of)),
        engagement: engagement(&sessions, range(), page_bits, codes),
        pages: pages(&sessions, range(), &columns.page, columns.codes()),
    }
}

fn frequency_of(case: &Case) -> [FrequencyOf<'_>; 3] {
    [FrequencyOf::Marks, FrequencyOf::Sessions, FrequencyOf::Buckets(&case.edges)]
}

pub(crate) fn sessions<'a>(case: &Case, columns: &'a Columns) -> Sessions<'a> {
    Sessions::new(columns.slice(), case.has_off_site.then_some(columns.off_site.as_slice()), case.gap_ms)
}

pub(crate) fn twin(case: &Case, columns: &Columns) -> twin::Journeys {
    let off_site = case.has_off_site.then_some(columns.off_site.as_slice());
    twin::Journeys::new(&columns.slice(), off_site, case.gap_ms)
}

/// Checks random cases, a fifth of those asked for, as each is of many visitors.
pub(crate) fn every_case(check: impl Fn(&Case, &Columns, &str)) {
    for seed in first_seed()..first_seed() + cases() / 5 {
        let case = Case::new(&mut Random::new(seed));
        check(&case, &case.columns(), &format!("seed {seed}"));
    }
}
