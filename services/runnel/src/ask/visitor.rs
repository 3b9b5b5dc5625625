//! `runnel ask visitor`: where one visitor stands, and what it did.

use anyhow::Context;
use clap::Args;
use comfy_table::Cell;
use runnel_chassis::Clock;
use runnel_contracts::proto::{
    catalog::v1::Stage,
    funnel::v1::UnitState,
    segmentation::v1::{GetVisitorRequest, GetVisitorResponse, ListTimelineRequest, ListTimelineResponse},
};

use super::tables::footer;
use crate::{
    command::Output,
    json,
    render::{self, number, table, thousands},
    target::{Target, TargetArgs},
    when::{parse_instant, show_duration, show_instant},
};

/// `runnel ask visitor`.
#[derive(Debug, Args)]
pub(crate) struct AskVisitor {
    /// Any id of the visitor.
    id: String,
    /// Whether it belongs to these saved segments, separated by commas.
    #[arg(long, value_delimiter = ',')]
    segments: Vec<String>,
    /// How far it has come in these saved funnels, separated by commas.
    #[arg(long, value_delimiter = ',')]
    funnels: Vec<String>,
    /// Tell what is at stake in these funnels: the value that its events carried last.
    #[arg(long, requires = "funnels")]
    values: bool,
    /// Show what it did, the latest first, at most so many events.
    #[arg(long, num_args = 0..=1, default_missing_value = "20", value_parser = clap::value_parser!(u32).range(1..=1_000), conflicts_with_all = ["segments", "funnels"])]
    timeline: Option<u32>,
    /// As if it were this instant. Default: now.
    #[arg(long)]
    as_of: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Asks and prints.
pub(crate) async fn visitor(ask: &AskVisitor, target: &Target, output: Output) -> anyhow::Result<()> {
    let now_ms = Clock::default().now_ms();
    let as_of_ms = ask.as_of.as_ref().map(|text| parse_instant(text, now_ms).context("--as-of"));
    let (visitor_id, as_of_ms) = (ask.id.clone(), as_of_ms.transpose()?);
    let mut client = target.client.segmentation();
    if let Some(page_size) = ask.timeline {
        let request = ListTimelineRequest { visitor_id, as_of_ms, page_size, page_token: String::new() };
        let answer = client.list_timeline(request).await?.into_inner();
        render::print(match output {
            Output::Json => json::to_json("runnel.segmentation.v1.ListTimelineResponse", &answer)?,
            Output::Table => timeline(&answer),
        });
        return Ok(());
    }
    let (segments, funnels) = (ask.segments.clone(), ask.funnels.clone());
    let request = GetVisitorRequest { visitor_id, as_of_ms, segments, funnels, values: ask.values };
    let answer = client.get_visitor(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.segmentation.v1.GetVisitorResponse", &answer)?,
        Output::Table => standing(&answer),
    });
    Ok(())
}

fn standing(answer: &GetVisitorResponse) -> String {
    let footer = footer(answer.provenance.as_ref());
    let (Some(first_ms), Some(last_ms)) = (answer.first_ms, answer.last_ms) else {
        return format!("{}: no event yet.\n{footer}", answer.visitor_id);
    };
    let or_none = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    let stage = match answer.stage() {
        Stage::Unspecified => "–",
        Stage::Interest => "interest",
        Stage::Engagement => "engagement",
        Stage::Willingness => "willingness",
        Stage::Negative => "negative",
    };
    let mut rows = table(&["visitor", &answer.visitor_id]);
    rows.add_row(vec!["events", &thousands(answer.events)]);
    rows.add_row(vec!["first", &show_instant(first_ms)]);
    rows.add_row(vec!["last", &show_instant(last_ms)]);
    rows.add_row(vec!["sessions", &thousands(answer.sessions)]);
    if let Some(session) = &answer.session {
        let state = if session.open { "open, " } else { "" };
        let length = show_duration(session.last_ms - session.started_ms);
        let about = format!("{state}{} events in {length}", thousands(session.events));
        rows.add_row(vec!["last session", &about]);
        rows.add_row(vec!["  channel", &or_none(&session.channel)]);
        rows.add_row(vec!["  device", &or_none(&session.device)]);
    }
    rows.add_row(vec!["first channel", &or_none(&answer.first_channel)]);
    rows.add_row(vec!["stage of intent", stage]);
    for segment in &answer.segments {
        let member = if segment.member { "member" } else { "no member" };
        rows.add_row(vec![&format!("segment {}", segment.name), member]);
    }
    for funnel in &answer.funnels {
        let units: Vec<String> = funnel
            .units
            .iter()
            .map(|unit| {
                let state = match unit.state() {
                    UnitState::Converted => "converted",
                    UnitState::Dropped => "dropped",
                    UnitState::Excluded => "excluded",
                    UnitState::Open => "open",
                    UnitState::Removed | UnitState::Unspecified => "removed",
                };
                let until = unit.ends_ms.map(|ends| format!(" until {}", show_instant(ends)));
                let value = unit.value.clone().map(|value| format!(", {}", render::money(&[value])));
                let (until, value) = (until.unwrap_or_default(), value.unwrap_or_default());
                format!("step {} ({}), {state}{until}{value}", unit.step, unit.label)
            })
            .collect();
        let units = if units.is_empty() { "not entered".to_owned() } else { units.join("\n") };
        rows.add_row(vec![&format!("funnel {}", funnel.name), &units]);
    }
    let mut text = format!("{rows}\n");
    if !answer.conversions.is_empty() {
        let mut rows = table(&["conversion", "times", "first", "last"]);
        for one in &answer.conversions {
            let (first, last) = (show_instant(one.first_ms), show_instant(one.last_ms));
            rows.add_row(vec![Cell::new(&one.name), number(one.times), Cell::new(first), Cell::new(last)]);
        }
        text += &format!("\n{rows}\n");
    }
    text + &footer
}

fn timeline(answer: &ListTimelineResponse) -> String {
    let mut rows = table(&["when", "session", "event", "conversions"]);
    for entry in &answer.entries {
        let session = match (entry.session, entry.off_site) {
            (0, _) => "off the site".to_owned(),
            (session, true) => format!("{session}, off the site"),
            (session, false) => session.to_string(),
        };
        rows.add_row(vec![
            show_instant(entry.time_ms),
            session,
            entry.event.clone(),
            entry.conversions.join(", "),
        ]);
    }
    let more = if answer.next_page_token.is_empty() { "" } else { "\n… and earlier ones" };
    format!("{rows}{more}\n{}", footer(answer.provenance.as_ref()))
}
