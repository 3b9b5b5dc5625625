//! Answers worked out by hand, over journeys written as text.
//!
//! An event is its instant in milliseconds, after the letters of what it is: `o` off the site, `p` a page, `m` marked, `a`
//! marked again; a code may follow a colon, and an amount's code a dollar. A session ends after 30 ms without an event.

use std::collections::BTreeMap;

use runnel_kernel::trend::Cell;
use runnel_kernel::{
    EngagementRow, FrequencyOf, PageRow, Per, Session, Sessions, Threshold, engagement, frequency, pages,
    retention, trend,
};

use super::columns::{Columns, Event};

const GAP_MS: i64 = 30;

fn event(text: &str) -> Event {
    let digits = text.find(|letter: char| !letter.is_ascii_alphabetic()).expect("an instant");
    let (letters, rest) = text.split_at(digits);
    let (rest, amount) = rest.split_once('$').unwrap_or((rest, "0"));
    let (time, code) = rest.split_once(':').unwrap_or((rest, "0"));
    Event {
        time: time.parse().expect("an instant"),
        off_site: letters.contains('o'),
        page: letters.contains('p'),
        marked: letters.contains('m'),
        again: letters.contains('a'),
        code: code.parse().expect("a code"),
        amount: amount.parse().expect("a code"),
    }
}

/// Columns of visitors, each a line of events.
fn columns(visitors: &[&str]) -> Columns {
    let visitors: Vec<Vec<Event>> =
        visitors.iter().map(|visitor| visitor.split_whitespace().map(event).collect()).collect();
    Columns::new(&visitors, 0, usize::MAX)
}

fn sessions(columns: &Columns) -> Sessions<'_> {
    Sessions::new(columns.slice(), Some(&columns.off_site), GAP_MS)
}

/// The events that have a bit in a column.
fn events(column: &[u64]) -> Vec<usize> {
    (0..column.len() * 64).filter(|at| column[at / 64] >> (at % 64) & 1 == 1).collect()
}

#[test]
fn events_off_the_site_belong_to_sessions_and_make_none() {
    let columns = columns(&["o0 10 o40 40 o71 o100 100"]);
    let sessions = sessions(&columns);
    let found: Vec<Session> = sessions.of_visitor(0).collect();
    let expected = [Session { first: 1, last: 3, events: 2 }, Session { first: 6, last: 6, events: 1 }];
    assert_eq!(found, expected);
    assert_eq!(events(sessions.starts()), [1, 6]);
    let mut ordinals = sessions.ordinals(0);
    let found = [0, 1, 2, 3, 4, 5, 6].map(|event| ordinals.of(event));
    // The event at 100 off the site comes before the session that begins in the same millisecond.
    assert_eq!(found, [None, Some(0), Some(0), Some(0), None, None, Some(1)]);
}

#[test]
fn skipped_visitors_have_nothing() {
    let mut columns = columns(&["m0 m10 m100", "m0 m50"]);
    columns.journeys.skip = Some(vec![1]);
    let sessions = sessions(&columns);
    assert_eq!((sessions.of_visitor(0).count(), sessions.of_visitor(1).count()), (0, 2));
    assert_eq!(events(sessions.starts()), [3, 4]);
    assert_eq!(events(&sessions.once(&columns.marked, Per::Session)), [3, 4]);
    let marks = frequency(&sessions, &columns.marked, 0..1_000, FrequencyOf::Marks);
    assert_eq!(marks.visitors, BTreeMap::from([(2, 1)]));
}

#[test]
fn a_session_reaches_a_threshold_once() {
    let columns = columns(&["m0 10 om20 m25 m55 56 100 m101"]);
    let sessions = sessions(&columns);
    let reaching = |threshold| events(&sessions.reaching(threshold));
    assert_eq!(reaching(Threshold::DurationMs(25)), [3]);
    assert_eq!(reaching(Threshold::DurationMs(26)), [4]);
    assert_eq!(reaching(Threshold::DurationMs(1)), [1, 7]);
    assert_eq!(reaching(Threshold::Events(3)), [3]);
    assert_eq!(reaching(Threshold::Events(2)), [1, 7]);
    assert_eq!(reaching(Threshold::Events(0)), [0, 6]);
    // The marked event at 20 is off the site.
    assert_eq!(reaching(Threshold::Matching { count: 2, which: &columns.marked }), [3]);
    assert_eq!(reaching(Threshold::Matching { count: 1, which: &columns.marked }), [0, 7]);
}

#[test]
fn visits_are_numbered_and_returns_are_in_time() {
    let columns = columns(&["0 100 130 200", "0"]);
    let sessions = sessions(&columns);
    assert_eq!(events(&sessions.nth_visit(1)), [0, 4]);
    assert_eq!(events(&sessions.nth_visit(2)), [1]);
    assert_eq!(events(&sessions.nth_visit(0)), [0; 0]);
    assert_eq!(events(&sessions.returning(69)), [0; 0]);
    assert_eq!(events(&sessions.returning(70)), [3]);
    assert_eq!(events(&sessions.returning(100)), [1, 3]);
}

#[test]
fn the_first_of_each_item_counts() {
    // The events at 90 and 91 belong to no session; the missing item at 7 and 8 is one item.
    let columns = columns(&["m0:1 m5:1 m6:2 m7 m8 om90:1 om91:1 m200:1"]);
    let sessions = sessions(&columns);
    let marked = &columns.marked;
    assert_eq!(events(&sessions.first_per_item(marked, Some(columns.codes()))), [0, 2, 3, 5, 6, 7]);
    assert_eq!(events(&sessions.first_per_item(marked, None)), [0, 5, 6, 7]);
    assert_eq!(events(&sessions.once(marked, Per::Session)), [0, 5, 6, 7]);
    assert_eq!(events(&sessions.once(marked, Per::Visitor)), [0]);
}

#[test]
fn a_trend_counts_events_visitors_sessions_and_amounts() {
    // The event at 99 belongs to no session, and that at 200 to no bucket.
    let columns = columns(&["m0:1$1 m50:1$2 om99:1$3 m100:1", "m120:2$1 m199:1$1 m200:1$1", "10:1$1"]);
    let micros = [9, 500, -200];
    let found = trend(
        &sessions(&columns),
        &columns.marked,
        &[0, 100, 200],
        Some(columns.codes()),
        Some(columns.amounts(&micros)),
    );
    let cell = |events, visitors, sessions, sums: &[(u32, i128)]| Cell {
        events,
        visitors,
        sessions,
        sums: sums.iter().copied().collect(),
    };
    let expected = BTreeMap::from([
        ((1, 0), cell(3, 1, 2, &[(1, 300)])),
        ((1, 1), cell(2, 2, 2, &[(1, 500)])),
        ((2, 1), cell(1, 1, 1, &[(2, 500)])),
    ]);
    assert_eq!(found.cells, expected);
    let whole = trend(&sessions(&columns), &columns.marked, &[0, 200], None, None);
    assert_eq!(whole.cells, BTreeMap::from([((0, 0), cell(6, 2, 5, &[]))]));
}

#[test]
fn retention_begins_after_the_first_start() {
    let columns = columns(&[
        "m10 a10 a150 m160 a250 a251",
        // An event that is both a start and a return does not return to itself.
        "ma110 a200",
        // A start before the first bucket makes no cohort.
        "m-5 m210",
        "a0 m50",
        "a20",
    ]);
    let found = retention(&columns.slice(), &columns.marked, &columns.again, &[0, 100, 200, 300]);
    assert_eq!(found.sizes, [2, 1, 1]);
    assert_eq!(found.returned, [vec![1, 1, 1], vec![0, 1], vec![0]]);
}

#[test]
fn frequency_is_of_marks_sessions_or_days() {
    let columns = columns(&["m0 m10 m50 om55 m150", "m5", "om5", "5"]);
    let sessions = sessions(&columns);
    let of = |range, of| frequency(&sessions, &columns.marked, range, of).visitors;
    assert_eq!(of(0..1_000, FrequencyOf::Marks), BTreeMap::from([(1, 2), (5, 1)]));
    assert_eq!(of(0..150, FrequencyOf::Marks), BTreeMap::from([(1, 2), (4, 1)]));
    // The third visitor has no session.
    assert_eq!(of(0..1_000, FrequencyOf::Sessions), BTreeMap::from([(1, 1), (3, 1)]));
    assert_eq!(of(0..1_000, FrequencyOf::Buckets(&[0, 100, 200])), BTreeMap::from([(1, 2), (2, 1)]));
}

#[test]
fn engagement_is_of_the_sessions_that_begin_in_the_range() {
    let columns = columns(&["p0:1 10:2 p30 100:1", "op40 p50:1"]);
    let sessions = sessions(&columns);
    let page = Some(columns.page.as_slice());
    let all = engagement(&sessions, 0..101, page, Some(columns.codes()));
    let row = EngagementRow {
        sessions: 3,
        single: 2,
        bounced: 2,
        events: 5,
        pages: 3,
        visitors: 2,
        new_visitors: 2,
        returning_visitors: 1,
        durations: BTreeMap::from([(0, 2), (30, 1)]),
        visit_numbers: BTreeMap::from([(1, 2), (2, 1)]),
        recency: BTreeMap::from([(70, 1)]),
    };
    assert_eq!(all.rows, BTreeMap::from([(1, row)]));
    let later = engagement(&sessions, 1..101, None, None);
    let row = EngagementRow {
        sessions: 2,
        single: 2,
        bounced: 2,
        events: 2,
        pages: 0,
        visitors: 2,
        new_visitors: 1,
        returning_visitors: 1,
        durations: BTreeMap::from([(0, 2)]),
        visit_numbers: BTreeMap::from([(1, 1), (2, 1)]),
        recency: BTreeMap::from([(70, 1)]),
    };
    assert_eq!(row.recency_histogram().quantile(0.5), Some(70));
    assert_eq!(later.rows, BTreeMap::from([(0, row)]));
    assert_eq!(engagement(&sessions, 1..50, None, None).rows, BTreeMap::new());
}

#[test]
fn sessions_land_on_pages_and_leave_from_them() {
    // A page that is seen twice is no bounce, and a page off the site is none of the session's.
    let columns = columns(&["p0:1 10 p20:2", "5 p10:1 op12:3", "0:7", "p0:1 p5:1"]);
    let found = pages(&sessions(&columns), 0..100, &columns.page, columns.codes());
    let row = |landings, exits, bounces| PageRow { landings, exits, bounces };
    assert_eq!(found.rows, BTreeMap::from([(1, row(3, 2, 1)), (2, row(0, 1, 0))]));
    assert_eq!(found.without_page, 1);
}
