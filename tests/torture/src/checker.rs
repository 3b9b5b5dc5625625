//! What senders and readers know, and what follows from it: the same for every tier.

pub(crate) mod days;
mod ledger;
mod reference;

use runnel_client::{
    Client, Refusal, Transport,
    proto::{
        catalog::v1::ListPropertiesRequest,
        event::v1::{Event, Value, value::Kind},
        funnel::v1::{
            BreakDown, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse, Step,
            break_down_row::Group, query_funnel_request,
        },
        ingest::v1::{GetIngestReportRequest, GetIngestReportResponse},
        query::v1::{EventMatch, Selector, selector::Column},
        segmentation::v1::{CountOpenSessionsRequest, CountOpenSessionsResponse},
    },
};
use tonic::{Code, Response, Status};

pub(crate) use runnel_harness::Random;

pub(crate) use ledger::{Ledger, Seen};
#[cfg(test)]
pub(crate) use reference::Reference;
pub(crate) use reference::{Identity, STEPS, identity};

/// Events before this instant exist, whatever the clock of the server that answers shows.
const AS_OF_MS: i64 = 1_900_000_000_000;
/// The event whose contents may differ, and the property that tells them apart. A visitor does it once.
pub(crate) const PICK: &str = "pick";
pub(crate) const TONE: &str = "tone";
/// A property that tells whose an event is, and how its value begins.
pub(crate) const OWNER: &str = "owner";
pub(crate) const CANARY: &str = "canary-of-";

fn funnel(steps: &[&str]) -> QueryFunnelRequest {
    let step = |name: &&str| Step {
        any_of: vec![EventMatch { event: (*name).into(), ..EventMatch::default() }],
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

/// A text as the value of a property.
pub(crate) fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// A funnel, told apart by a property.
async fn ask_by<S: Transport>(
    reader: &Client<S>,
    steps: &[&str],
    property: &str,
) -> Result<QueryFunnelResponse, Status> {
    let column = Some(Selector { column: Some(Column::Property(property.into())) });
    let break_down = Some(BreakDown { column, ..BreakDown::default() });
    let request = QueryFunnelRequest { break_down, ..funnel(steps) };
    reader.funnel().query_funnel(request).await.map(Response::into_inner)
}

/// How many visitors picked in this tone.
pub(crate) async fn ask_tone<S: Transport>(reader: &Client<S>, tone: &str) -> Result<u64, Status> {
    let answer = ask_by(reader, &[PICK, PICK], TONE).await?;
    assert_eq!(answer.steps[1].reached, 0, "I2: what was sent more than once was done once");
    let wanted = Some(Group::Value(text(tone)));
    let row = answer.rows.iter().find(|row| row.group == wanted);
    Ok(row.map_or(0, |row| row.reached[0]))
}

/// The answers that show what events carry, as text: the funnel by owner, and the properties with their values.
async fn ask_owners<S: Transport>(reader: &Client<S>) -> Result<[String; 2], Status> {
    let funnel = ask_by(reader, &STEPS, OWNER).await?;
    let properties = reader.catalog().list_properties(ListPropertiesRequest::default()).await?;
    Ok([format!("{funnel:?}"), format!("{:?}", properties.into_inner())])
}

/// I8: the first owner in an answer to a tenant that is somebody else.
fn stranger<'a>(answer: &'a str, tenant: &str) -> Option<&'a str> {
    let mut owners = answer.split(CANARY).skip(1);
    owners.find(|rest| !rest.strip_prefix(tenant).is_some_and(|rest| rest.starts_with('"')))
}

/// How many sessions are open.
async fn ask_open<S: Transport>(reader: &Client<S>) -> Result<CountOpenSessionsResponse, Status> {
    let request = CountOpenSessionsRequest {};
    reader.segmentation().count_open_sessions(request).await.map(Response::into_inner)
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

/// Words of the database, and of events, that nobody may read in a refusal.
const INSIDE: [&str; 4] = ["as the simulation has it", "SELECT ", "sqlx", CANARY];

/// I10: while things break, a call that fails says that it may be repeated, and when; and nothing of the inside.
pub(crate) fn allowed(refusal: &Refusal) {
    assert!(refusal.may_be_repeated(), "I10: {refusal:?}");
    let ours = !refusal.reason.is_empty();
    let says_when = refusal.retry_after.is_some();
    let waits = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
    assert!(!ours || !waits || says_when, "I10: when may it be repeated? {refusal:?}");
    assert!(INSIDE.iter().all(|words| !refusal.message.contains(words)), "I10: {refusal:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_found_and_owners_are_none() {
        assert_eq!(stranger(r#""canary-of-shop", ["canary-of-shop"]"#, "shop"), None);
        assert_eq!(stranger("", "shop"), None);
        for answer in [r#""canary-of-shop", "canary-of-other""#, r#""canary-of-shop-2""#] {
            assert!(stranger(answer, "shop").is_some(), "{answer}");
        }
    }
}
