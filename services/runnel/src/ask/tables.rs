//! Answers about conversions, sessions and visitors for a terminal.

use comfy_table::Cell;
use runnel_contracts::proto::{
    catalog::v1::{Conversion, Part, Role, Stage},
    identity::v1::{GetIdentityResponse, IdentityVerdict, Link},
    insight::v1::{
        Counts, Interval, ListRestatementsResponse, QueryConversionsResponse, QueryFrequencyResponse,
        QueryMicroToMacroResponse, QueryPagesResponse, QueryRetentionResponse, QuerySessionsResponse,
        QueryTrendResponse, RestatementCause, SessionCounts,
    },
    query::v1::{Dimension, Provenance, SplitValue, TimeRange, selector::Column, split_value},
};

use crate::{
    render::{bar, between, median, money, number, percent, right, table, thousands, unobserved, value},
    when::show_instant,
};

/// As of when, and remarks.
pub(crate) fn footer(provenance: Option<&Provenance>) -> String {
    let Some(provenance) = provenance else { return String::new() };
    let sequence = provenance.revision.as_ref().map_or(0, |revision| revision.sequence);
    let mut lines = vec![format!("as of  {}, revision {sequence}", show_instant(provenance.as_of_ms))];
    lines.extend(provenance.notes.iter().map(|note| format!("note   {note}")));
    lines.join("\n")
}

/// What a conversion is for, in a word or two.
fn kind(conversion: &Conversion) -> String {
    let stage = match conversion.stage() {
        Stage::Unspecified => "",
        Stage::Interest => "interest",
        Stage::Engagement => "engagement",
        Stage::Willingness => "willingness",
        Stage::Negative => "negative",
    };
    let part = match conversion.part() {
        Part::Unspecified => "",
        Part::Step => "step",
        Part::Indicator => "indicator",
    };
    match conversion.role() {
        Role::Macro => "MACRO".to_owned(),
        _ => format!("{part}, {stage}"),
    }
}

fn part(split: Option<&SplitValue>) -> String {
    match split.and_then(|split| split.part.as_ref()) {
        Some(split_value::Part::Value(found)) => value(found),
        Some(split_value::Part::Other(_)) => "Other".to_owned(),
        Some(split_value::Part::Unset(_)) => "(unset)".to_owned(),
        None => "all".to_owned(),
    }
}

fn start(bucket: Option<&TimeRange>) -> String {
    let from_ms = bucket.and_then(|bucket| bucket.from_ms).unwrap_or(0);
    show_instant(from_ms).trim_end_matches(":00.000Z").trim_end_matches("T00:00").replace('T', " ")
}

/// The ids of a visitor.
pub(crate) fn identity(answer: &GetIdentityResponse) -> String {
    let mut rows = table(&["id", "how", "as", "since"]);
    for known in &answer.ids {
        let how = match known.link() {
            Link::Own => "the visitor",
            Link::Identified => "identified",
            Link::Merged => "merged",
            Link::Unspecified => "",
        };
        let since = if known.belongs_to.is_empty() { String::new() } else { show_instant(known.time_ms) };
        rows.add_row(vec![&known.id, how, &known.belongs_to, &since]);
    }
    let ignored = answer.ignored.iter().map(|one| {
        let why = match one.verdict() {
            IdentityVerdict::Known => "it is a known id itself",
            _ => "it was identified as somebody else earlier",
        };
        let (id, known, at) = (&one.anonymous_id, &one.known_id, show_instant(one.time_ms));
        format!("\nignored  {id} as {known}, {at}: {why}")
    });
    let more = if answer.truncated { "\nthere are more" } else { "" };
    format!("{rows}{}{more}\nas of  identities {}", ignored.collect::<String>(), answer.alias)
}

/// The table of conversions.
pub(crate) fn conversions(answer: &QueryConversionsResponse) -> String {
    let mut headings = vec![
        "conversion",
        "kind",
        "visitors",
        "",
        "of visitors",
        "sessions",
        "of sessions",
        "events",
        "value",
    ];
    let bounded = answer.conversions.iter().any(|counts| counts.unobserved.is_some());
    if bounded {
        headings.extend(["events, with the unobserved", "visitors, with the unobserved"]);
    }
    let mut rows = table(&headings);
    for counts in &answer.conversions {
        let conversion = counts.conversion.clone().unwrap_or_default();
        let mut cells = vec![
            Cell::new(&conversion.name),
            Cell::new(kind(&conversion)),
            number(counts.visitors),
            Cell::new(bar(counts.visitors, answer.visitors)),
            right(percent(counts.of_visitors.as_ref())),
            number(counts.sessions),
            right(percent(counts.of_sessions.as_ref())),
            number(counts.events),
            right(money(&counts.values)),
        ];
        if bounded {
            cells.push(right(between(counts.events_with_unobserved.as_ref())));
            cells.push(right(between(counts.visitors_with_unobserved.as_ref())));
        }
        rows.add_row(cells);
    }
    let all = format!("{} visitors, {} sessions", thousands(answer.visitors), thousands(answer.sessions));
    if answer.conversions.is_empty() {
        let hint = "The catalogue has no such conversions; runnel catalog apply --template shop makes some.";
        return format!("{hint}\n{all}\n{}", footer(answer.provenance.as_ref()));
    }
    format!("{rows}\n{all}\n{}", footer(answer.provenance.as_ref()))
}

/// Sessions.
pub(crate) fn sessions(answer: &QuerySessionsResponse) -> String {
    let mut rows = table(&[
        "",
        "sessions",
        "single event",
        "bounced",
        "bounce rate",
        "events",
        "pages",
        "median length",
        "visitors",
        "new",
        "returning",
    ]);
    let mut add = |name: String, counts: &SessionCounts| {
        rows.add_row(vec![
            Cell::new(name),
            number(counts.sessions),
            number(counts.single_event),
            number(counts.bounced),
            right(percent(counts.bounce_rate.as_ref())),
            number(counts.events),
            number(counts.pages),
            right(median(counts.duration.as_ref())),
            number(counts.visitors),
            number(counts.new_visitors),
            number(counts.returning_visitors),
        ]);
    };
    let total = answer.total.clone().unwrap_or_default();
    add("all".to_owned(), &total);
    for row in &answer.rows {
        add(part(row.value.as_ref()), &row.counts.clone().unwrap_or_default());
    }
    let mut visits = table(&["visit", "sessions", ""]);
    for visit in total.visit_numbers.iter().take(10) {
        let bar = Cell::new(bar(visit.sessions, total.sessions));
        visits.add_row(vec![right(visit.number), number(visit.sessions), bar]);
    }
    let denied = unobserved(answer.unobserved.as_ref()).map(|text| format!("\n{text}")).unwrap_or_default();
    format!("{rows}\n\n{visits}{denied}\n{}", footer(answer.provenance.as_ref()))
}

/// Counts over time.
pub(crate) fn trend(answer: &QueryTrendResponse) -> String {
    let mut text = String::new();
    for series in &answer.series {
        let mut headings = vec!["from", "events", "", "visitors", "sessions", "value"];
        let denied = series.points.iter().any(|point| point.unobserved > 0);
        headings.extend(denied.then_some("unobserved"));
        if !series.previous.is_empty() {
            headings.extend(["events before", "change"]);
        }
        let mut rows = table(&headings);
        let most = series.points.iter().map(|point| point.events).max().unwrap_or(0);
        let mut add = |name: String, now: &Counts, then: Option<&Counts>, most: u64| {
            let mut cells = vec![
                Cell::new(name),
                number(now.events),
                Cell::new(bar(now.events.min(most), most)),
                number(now.visitors),
                number(now.sessions),
                right(money(&now.values)),
            ];
            cells.extend(denied.then(|| number(now.unobserved)));
            if let Some(then) = then {
                cells.extend([number(then.events), right(change(now.events, then.events))]);
            }
            rows.add_row(cells);
        };
        for (at, point) in series.points.iter().enumerate() {
            add(start(answer.buckets.get(at)), point, series.previous.get(at), most);
        }
        if let Some(total) = &series.total {
            add("all".to_owned(), total, series.previous_total.as_ref(), 0);
        }
        let of = series.value.as_ref().map_or_else(String::new, |value| format!(", {}", part(Some(value))));
        text.push_str(&format!("{}{of}\n{rows}\n\n", series.label));
    }
    let source = if answer.aggregated { ", from aggregates" } else { "" };
    format!("{text}time zone {}{source}\n{}", answer.time_zone, footer(answer.provenance.as_ref()))
}

/// What has changed of the past.
pub(crate) fn restatements(answer: &ListRestatementsResponse) -> String {
    let mut text = String::new();
    for restatement in &answer.restatements {
        let mut rows = table(&["conversion", "of", "each", "from", "events", "visitors", "sessions", "why"]);
        for cell in &restatement.cells {
            let (before, after) =
                (cell.before.clone().unwrap_or_default(), cell.after.clone().unwrap_or_default());
            let change = |was: u64, is: u64| match was == is {
                true => right(thousands(is)),
                false => right(format!("{} → {}", thousands(was), thousands(is))),
            };
            let of = cell.part.as_ref().map_or_else(
                || "all".to_owned(),
                |known| {
                    let device = Some(Column::Dimension(Dimension::Device as i32));
                    let is_device = known.column.as_ref().is_some_and(|selector| selector.column == device);
                    format!("{} {}", if is_device { "device" } else { "channel" }, part(known.value.as_ref()))
                },
            );
            let each = match cell.interval() {
                Interval::Hour => "hour",
                Interval::Unspecified | Interval::Day => "day",
                Interval::Week => "week",
                Interval::Month => "month",
            };
            let why = cell.causes().map(|cause| match cause {
                RestatementCause::Unspecified => "",
                RestatementCause::Events => "late events",
                RestatementCause::Identity => "identities",
                RestatementCause::Definition => "definition",
                RestatementCause::Settings => "settings",
                RestatementCause::Erasure => "erasures",
                RestatementCause::Retention => "retention",
            });
            rows.add_row(vec![
                Cell::new(&cell.conversion),
                Cell::new(of),
                Cell::new(each),
                Cell::new(start(cell.bucket.as_ref())),
                change(before.events, after.events),
                change(before.visitors, after.visitors),
                change(before.sessions, after.sessions),
                Cell::new(why.collect::<Vec<_>>().join(", ")),
            ]);
        }
        let (number, at) = (restatement.number, show_instant(restatement.at_ms));
        text.push_str(&format!("{number}, {at}\n{rows}\n\n"));
    }
    if answer.restatements.is_empty() {
        text.push_str("Nothing of the past has changed since it was counted first.\n");
    }
    format!("{text}{}", footer(answer.provenance.as_ref()))
}

fn change(now: u64, then: u64) -> String {
    if then == 0 {
        return "–".to_owned();
    }
    format!("{:+.1} %", (now as f64 / then as f64 - 1.0) * 100.0)
}

/// Who comes back.
pub(crate) fn retention(answer: &QueryRetentionResponse) -> String {
    let shown = answer.cohorts.len().min(12);
    let numbers: Vec<String> = (0..shown).map(|at| format!("+{at}")).collect();
    let headings: Vec<&str> =
        ["from", "visitors"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let mut rows = table(&headings);
    for cohort in &answer.cohorts {
        let mut cells = vec![Cell::new(start(cohort.bucket.as_ref())), number(cohort.visitors)];
        cells.extend(cohort.again.iter().take(shown).map(|rate| right(percent(Some(rate)))));
        rows.add_row(cells);
    }
    let denied = denied(answer.unobserved);
    format!("{rows}\ntime zone {}{denied}\n{}", answer.time_zone, footer(answer.provenance.as_ref()))
}

/// What is in no count because consent was denied, for the end of a line.
fn denied(events: u64) -> String {
    if events == 0 { String::new() } else { format!("; {} events unobserved", thousands(events)) }
}

/// How often.
pub(crate) fn frequency(answer: &QueryFrequencyResponse) -> String {
    let mut rows = table(&["times", "visitors", ""]);
    let most = answer.buckets.iter().map(|bucket| bucket.visitors).max().unwrap_or(0);
    for bucket in &answer.buckets {
        let times = if bucket.times == 100 { "100 or more".to_owned() } else { bucket.times.to_string() };
        let bar = Cell::new(bar(bucket.visitors, most));
        rows.add_row(vec![right(times), number(bucket.visitors), bar]);
    }
    let denied = denied(answer.unobserved);
    format!("{rows}\n{} visitors{denied}\n{}", thousands(answer.visitors), footer(answer.provenance.as_ref()))
}

/// Landing and exit pages.
pub(crate) fn pages(answer: &QueryPagesResponse) -> String {
    let mut rows = table(&["page", "landings", "", "exits", "bounces"]);
    for page in &answer.pages {
        rows.add_row(vec![
            Cell::new(page.page.as_deref().unwrap_or("(unset)")),
            number(page.landings),
            Cell::new(bar(page.landings, answer.sessions)),
            number(page.exits),
            number(page.bounces),
        ]);
    }
    let sessions = thousands(answer.sessions);
    let (more, without) = (thousands(answer.more_pages), thousands(answer.without_page));
    let all = format!(
        "{sessions} sessions with a page, {without} without; {more} more pages{}",
        denied(answer.unobserved)
    );
    format!("{rows}\n{all}\n{}", footer(answer.provenance.as_ref()))
}

/// Which micro-conversions go before the macro-conversion.
pub(crate) fn micro_to_macro(answer: &QueryMicroToMacroResponse) -> String {
    let mut rows = table(&[
        "micro-conversion",
        "kind",
        "visitors",
        "reached it",
        "open",
        "matured",
        "95 %",
        "median time",
    ]);
    for one in &answer.micros {
        let micro = one.micro.clone().unwrap_or_default();
        let interval = one.matured.as_ref().map_or_else(String::new, |rate| {
            format!("{:.1} to {:.1} %", rate.low * 100.0, rate.high * 100.0)
        });
        rows.add_row(vec![
            Cell::new(&micro.name),
            Cell::new(kind(&micro)),
            number(one.visitors),
            number(one.reached),
            number(one.open),
            right(percent(one.matured.as_ref())),
            right(interval),
            right(median(one.time_to_macro.as_ref())),
        ]);
    }
    let of_micros = answer.micros.iter().map(|one| one.unobserved).sum::<u64>();
    let all = of_micros + answer.macro_unobserved;
    let denied = if all == 0 { String::new() } else { format!("{} events unobserved\n", thousands(all)) };
    format!("{rows}\n{denied}{}", footer(answer.provenance.as_ref()))
}
