//! Results for a terminal: tables and bars.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use runnel_contracts::proto::{
    event::v1::{Money, Value, value::Kind},
    funnel::v1::{
        ExplainVisitorResponse, QueryFunnelResponse, Totals, UnitState, VerifyResponse, break_down_row::Group,
    },
    query::v1::{Bounds, Quantiles, Rate, Unobserved},
    segmentation::v1::{CountOpenSessionsResponse, OpenSessionsSource},
};

use crate::{
    command::Output,
    when::{show_duration, show_instant},
};

/// Width of the longest bar, in characters.
const BAR: usize = 24;

/// Prints a result. Whoever reads no further, like `head`, has seen what they wanted.
pub(crate) fn print(text: impl std::fmt::Display) {
    if let Err(fault) = writeln!(io::stdout(), "{text}")
        && fault.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::error!(%fault, "the result could not be printed");
    }
}

/// Says where a server listens and where those who run it are answered, and the operator's key if it was made just now.
pub(crate) fn listening(
    output: Output,
    address: SocketAddr,
    ops: Option<SocketAddr>,
    operator_key: Option<String>,
) {
    match output {
        Output::Json => {
            let mut line = serde_json::json!({ "listening": address.to_string() });
            if let Some(key) = operator_key {
                line["operatorKey"] = key.into();
            }
            if let Some(ops) = ops {
                line["ops"] = ops.to_string().into();
            }
            print(line);
        }
        Output::Table => {
            if let Some(key) = operator_key {
                print(format!("The operator's admin key, shown only now: {key}"));
            }
            if let Some(ops) = ops {
                print(format!("Health and metrics on http://{ops}."));
            }
            print(format!("Listening on {address}. Stop with Ctrl-C."));
        }
    }
}

/// A table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(headings);
    table
}

/// A number, aligned to the right, with thousands apart.
pub(crate) fn number(value: u64) -> Cell {
    Cell::new(thousands(value)).set_alignment(CellAlignment::Right)
}

/// A text aligned to the right.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A number with thousands apart.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar for a part of a whole.
pub(crate) fn bar(part: u64, whole: u64) -> String {
    let eighths = if whole == 0 { 0 } else { (part as u128 * (BAR as u128) * 8 / whole as u128) as usize };
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// What is in no count because consent was denied; nothing where there is none of that.
pub(crate) fn unobserved(unobserved: Option<&Unobserved>) -> Option<String> {
    let Unobserved { events, share, .. } = unobserved?;
    let (events, share) = (thousands(*events), share * 100.0);
    Some(format!("{events} events of people who denied consent, {share:.1} % of all, are in no count"))
}

/// Between which counts one lies.
pub(crate) fn between(bounds: Option<&Bounds>) -> String {
    bounds.map_or_else(String::new, |Bounds { low, high }| {
        format!("{} to {}", thousands(*low as u64), thousands(*high as u64))
    })
}

/// A rate in percent.
pub(crate) fn percent(rate: Option<&Rate>) -> String {
    rate.map_or_else(|| "–".to_owned(), |rate| format!("{:.1} %", rate.point * 100.0))
}

fn interval(rate: Option<&Rate>) -> String {
    match rate {
        Some(rate) => {
            let (low, high) = (rate.low * 100.0, rate.high * 100.0);
            format!("{:.2} % (95 %: {low:.2} to {high:.2}, n = {})", rate.point * 100.0, thousands(rate.n))
        }
        None => "not known: no entry had its full window yet".to_owned(),
    }
}

/// The median of durations.
pub(crate) fn median(times: Option<&Quantiles>) -> String {
    times.and_then(|times| times.p50_ms).map_or_else(|| "–".to_owned(), show_duration)
}

/// A funnel.
pub(crate) fn funnel(answer: &QueryFunnelResponse) -> String {
    let totals = answer.totals.clone().unwrap_or_default();
    let mut headings = vec![
        "step",
        "reached",
        "",
        "of first",
        "of previous",
        "dropped",
        "open",
        "excluded",
        "median from previous",
    ];
    let bounded = answer.steps.iter().any(|step| step.reached_with_unobserved.is_some());
    headings.extend(bounded.then_some("reached, with the unobserved"));
    let named = answer.steps.iter().any(|step| !step.metric.is_empty());
    headings.extend(named.then_some("which is the"));
    let costs = !answer.counted_cost.is_empty();
    headings.extend(costs.then_some("ad cost for each"));
    let mut steps = table(&headings);
    for step in &answer.counted {
        let ratio = step.of_previous.map(|ratio| format!("× {ratio:.4}")).unwrap_or_default();
        let mut cells = vec![Cell::new(format!("{} (counted)", step.label)), number(step.count)];
        cells.extend([Cell::new(""), Cell::new(""), right(ratio)]);
        cells.resize_with(9 + usize::from(bounded), || Cell::new(""));
        cells.extend(named.then(|| Cell::new(&step.metric)));
        cells.extend(costs.then(|| right(money(&step.cost_each))));
        steps.add_row(cells);
    }
    for (at, step) in answer.steps.iter().enumerate() {
        let optional = if step.optional.is_some() { " (optional)" } else { "" };
        let mut cells = vec![
            Cell::new(format!("{} {}{optional}", at + 1, step.label)),
            number(step.reached),
            Cell::new(bar(step.reached, totals.entered)),
            right(percent(step.of_first.as_ref())),
            right(match step.of_counted {
                Some(ratio) => format!("× {ratio:.4}"),
                None => percent(step.of_previous.as_ref()),
            }),
            number(step.dropped),
            number(step.open),
            number(step.excluded),
            right(median(step.time_from_previous.as_ref())),
        ];
        cells.extend(bounded.then(|| right(between(step.reached_with_unobserved.as_ref()))));
        cells.extend(named.then(|| Cell::new(&step.metric)));
        cells.extend(costs.then(|| right(money(&step.cost_each))));
        steps.add_row(cells);
    }
    let mut text = format!("{steps}\n{}", summary(answer, &totals));
    if !answer.rows.is_empty() {
        text.push_str(&format!("\n\n{}", break_down(answer)));
    }
    if !answer.trend.is_empty() {
        text.push_str(&format!("\n\n{}", trend(answer)));
    }
    text
}

fn summary(answer: &QueryFunnelResponse, totals: &Totals) -> String {
    let mut lines = vec![
        format!("matured     {}", interval(totals.matured.as_ref())),
        format!("projected   {}", interval(totals.projected.as_ref())),
    ];
    if let Some(times) = answer.time_to_convert.as_ref().filter(|times| times.n > 0) {
        let of = |time: Option<i64>| time.map_or_else(String::new, show_duration);
        let (p25, p50, p75) = (of(times.p25_ms), of(times.p50_ms), of(times.p75_ms));
        lines.push(format!("to convert  median {p50}, half of all between {p25} and {p75}"));
    }
    if !answer.counted_cost.is_empty() {
        lines.push(format!("cost        {} of the counted steps", money(&answer.counted_cost)));
    }
    if totals.removed > 0 {
        lines.push(format!("removed     {} units by an exclusion", thousands(totals.removed)));
    }
    if totals.hold_missing > 0 {
        lines.push(format!("no value    {} units lack a held property", thousands(totals.hold_missing)));
    }
    lines.extend(unobserved(answer.unobserved.as_ref()).map(|text| format!("unobserved  {text}")));
    if let Some(Bounds { low, high }) = &answer.rate_with_unobserved {
        let (low, high) = (low * 100.0, high * 100.0);
        lines.push(format!("rate        {low:.2} % to {high:.2} % with the unobserved"));
    }
    if let Some(provenance) = &answer.provenance {
        let sequence = provenance.revision.as_ref().map_or(0, |revision| revision.sequence);
        lines.push(format!("as of       {}, revision {sequence}", show_instant(provenance.as_of_ms)));
        lines.extend(provenance.notes.iter().map(|note| format!("note        {note}")));
    }
    lines.join("\n")
}

/// Sums of money for a person, to the cent.
pub(crate) fn money(values: &[Money]) -> String {
    let one = |value: &Money| {
        let cents = (i128::from(value.micros) + 5_000 * i128::from(value.micros.signum())) / 10_000;
        let sign = if cents < 0 { "-" } else { "" };
        let whole = thousands((cents.unsigned_abs() / 100) as u64);
        format!("{sign}{whole}.{:02} {}", cents.unsigned_abs() % 100, value.currency)
    };
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A property value for a person.
pub(crate) fn value(value: &Value) -> String {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::IntValue(number)) => number.to_string(),
        Some(Kind::DoubleValue(number)) => number.to_string(),
        Some(Kind::BoolValue(truth)) => truth.to_string(),
        None => String::new(),
    }
}

fn break_down(answer: &QueryFunnelResponse) -> String {
    let labels = answer.steps.iter().map(|step| step.label.as_str());
    let headings: Vec<&str> =
        std::iter::once("value").chain(labels).chain(["rate", "", "median to convert"]).collect();
    let mut rows = table(&headings);
    for row in &answer.rows {
        let name = match &row.group {
            Some(Group::Value(found)) => value(found),
            Some(Group::Other(_)) => "Other".to_owned(),
            Some(Group::Unset(_)) | None => "(unset)".to_owned(),
        };
        let totals = row.totals.clone().unwrap_or_default();
        let mut cells = vec![Cell::new(name)];
        cells.extend(row.reached.iter().map(|reached| number(*reached)));
        cells.push(right(percent(totals.rate.as_ref())));
        cells.push(Cell::new(bar(totals.converted, totals.entered.max(1))));
        cells.push(right(median(row.time_to_convert.as_ref())));
        rows.add_row(cells);
    }
    rows.to_string()
}

fn trend(answer: &QueryFunnelResponse) -> String {
    let most =
        answer.trend.iter().filter_map(|bucket| Some(bucket.totals.as_ref()?.entered)).max().unwrap_or(0);
    let mut rows = table(&["from", "entered", "", "converted", "rate"]);
    for bucket in &answer.trend {
        let totals = bucket.totals.clone().unwrap_or_default();
        rows.add_row(vec![
            Cell::new(show_instant(bucket.start_ms).trim_end_matches(":00:00.000Z").replace('T', " ")),
            number(totals.entered),
            Cell::new(bar(totals.entered, most)),
            number(totals.converted),
            right(percent(totals.rate.as_ref())),
        ]);
    }
    rows.to_string()
}

/// An explanation.
pub(crate) fn explained(answer: &ExplainVisitorResponse) -> String {
    let mut text = String::new();
    if answer.units.is_empty() {
        text.push_str("Nothing of this visitor counts: there is no entry in the range.\n");
    }
    for unit in &answer.units {
        let state = match unit.state() {
            UnitState::Converted => "converted",
            UnitState::Dropped => "dropped",
            UnitState::Excluded => "excluded",
            UnitState::Open => "open",
            UnitState::Removed => "removed",
            UnitState::Unspecified => "unknown",
        };
        let (entry, end) = (show_instant(unit.entry_ms), show_instant(unit.deadline_ms));
        text.push_str(&format!("{state} at step {}, entered {entry}, window until {end}\n", unit.reached));
    }
    let mut rows = table(&["time", "event", "step", "why"]);
    for event in &answer.events {
        let step = if event.counted_step == 0 { String::new() } else { event.counted_step.to_string() };
        rows.add_row(vec![
            Cell::new(show_instant(event.time_ms)),
            Cell::new(&event.name),
            right(step),
            Cell::new(&event.why),
        ]);
    }
    let notes = answer.provenance.iter().flat_map(|provenance| &provenance.notes);
    let notes: String = notes.map(|note| format!("\nnote   {note}")).collect();
    format!("{text}{rows}{notes}")
}

/// Open sessions.
pub(crate) fn open_sessions(answer: &CountOpenSessionsResponse) -> String {
    let source = match answer.source() {
        OpenSessionsSource::Journeys => "journeys",
        _ => "hot state",
    };
    let mut sessions = table(&["open sessions", "as of", "counted from", "up to batch"]);
    sessions.add_row(vec![
        number(answer.open_sessions),
        Cell::new(show_instant(answer.as_of_ms)),
        Cell::new(source),
        number(answer.revision.map_or(0, |revision| revision.sequence)),
    ]);
    sessions.to_string()
}

/// Checked promises.
pub(crate) fn verified(checked: &VerifyResponse) -> String {
    let mut rows = table(&["", "promise", "numbers"]);
    for check in &checked.checks {
        rows.add_row(vec![if check.holds { "holds" } else { "BROKEN" }, &check.promise, &check.detail]);
    }
    let answer = checked.answer.as_ref().map(funnel).unwrap_or_default();
    format!("{answer}\n\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bars_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(bar(1, 1).chars().count(), BAR);
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(1, 3), "████████");
    }
}
