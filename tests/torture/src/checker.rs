//! What senders and readers know, and what follows from it: the same for every tier.

mod ledger;
mod reference;

use runnel_client::{
    Client, Refusal, Transport,
    proto::{
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{
            BreakDown, EventMatch, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse, Step,
            break_down_row::Group, query_funnel_request,
        },
        ingest::v1::{GetIngestReportRequest, GetIngestReportResponse},
        query::v1::{Selector, selector::Column},
    },
};
use tonic::{Code, Response, Status};

pub(crate) use runnel_harness::Random;

pub(crate) use ledger::{Ledger, Seen};
pub(crate) use reference::{Identity, STEPS, identity};

/// Events before this instant exist, whatever the clock of the server that answers shows.
const AS_OF_MS: i64 = 1_900_000_000_000;
/// The event whose contents may differ, and the property that tells them apart. A visitor does it once.
pub(crate) const PICK: &str = "pick";
pub(crate) const TONE: &str = "tone";

fn funnel(steps: &[&str]) -> QueryFunnelRequest {
    let step = |name: &&str| Step {
        any_of: vec![EventMatch { event: (*name).into(), r#where: None }],
        ..Step::default()
    };
    let definition =
        FunnelDefinition { steps: steps.iter().map(step).collect(), ..FunnelDefinition::default() };
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        as_of_ms: Some(AS_OF_MS),
        ..QueryFunnelRequest::default()
    }
}

/// The question that the reference answers as well.
pub(crate) fn question() -> QueryFunnelRequest {
    funnel(&STEPS)
}

/// How many visitors did each step.
pub(crate) async fn ask<S: Transport>(reader: &Client<S>) -> Result<Vec<u64>, Status> {
    let answer = reader.funnel().query_funnel(question()).await?.into_inner();
    Ok(reached(&answer))
}

pub(crate) fn reached(answer: &QueryFunnelResponse) -> Vec<u64> {
    answer.steps.iter().map(|step| step.reached).collect()
}

/// How many visitors picked in this tone.
pub(crate) async fn ask_tone<S: Transport>(reader: &Client<S>, tone: &str) -> Result<u64, Status> {
    let column = Some(Selector { column: Some(Column::Property(TONE.into())) });
    let break_down = Some(BreakDown { column, ..BreakDown::default() });
    let request = QueryFunnelRequest { break_down, ..funnel(&[PICK, PICK]) };
    let answer = reader.funnel().query_funnel(request).await?.into_inner();
    assert_eq!(answer.steps[1].reached, 0, "I2: what was sent more than once was done once");
    let wanted = Some(Group::Value(Value { kind: Some(Kind::StringValue(tone.into())) }));
    let row = answer.rows.iter().find(|row| row.group == wanted);
    Ok(row.map_or(0, |row| row.reached[0]))
}

/// What became of everything that was ever appended.
pub(crate) async fn ask_report<S: Transport>(writer: &Client<S>) -> Result<GetIngestReportResponse, Status> {
    writer.ingest().get_ingest_report(GetIngestReportRequest::default()).await.map(Response::into_inner)
}

/// The property that tells contents of one identity apart; empty where there is none.
pub(crate) fn tone(event: &Event) -> &str {
    match event.properties.get(TONE).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(tone)) => tone,
        _ => "",
    }
}

/// Words of the database that nobody outside may read.
const INSIDE: [&str; 3] = ["as the simulation has it", "SELECT ", "sqlx"];

/// I10: while things break, a call that fails says that it may be repeated, and when; and nothing of the inside.
pub(crate) fn allowed(refusal: &Refusal) {
    assert!(refusal.may_be_repeated(), "I10: {refusal:?}");
    let ours = !refusal.reason.is_empty();
    let says_when = refusal.retry_after.is_some();
    let waits = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
    assert!(!ours || !waits || says_when, "I10: when may it be repeated? {refusal:?}");
    assert!(INSIDE.iter().all(|words| !refusal.message.contains(words)), "I10: {refusal:?}");
}
