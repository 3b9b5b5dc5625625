//! Events from columns back to messages, as their senders wrote them.

use std::collections::HashMap;

use runnel_model::{ColumnKey, EventBatch, Field, ValueRef};

use crate::proto::event::v1::{Campaign, Consent, ConsentState, Event, OffSite, Outcome, Value, value::Kind};

/// Rows of a batch, ascending, as messages. An event that came without an id has the one that was made for it.
#[must_use]
pub fn events(batch: &EventBatch, rows: &[u32]) -> Vec<Event> {
    let mut events: Vec<Event> = rows
        .iter()
        .map(|&row| {
            let at = row as usize;
            Event {
                event_id: String::from_utf8_lossy(batch.event_ids.get(at)).into_owned(),
                visitor_id: batch.strings.get(batch.visitors[at]).to_owned(),
                time_ms: Some(batch.times[at]),
                name: batch.strings.get(batch.names[at]).to_owned(),
                sequence: Some(batch.sequences[at]).filter(|sequence| *sequence != 0),
                ..Event::default()
            }
        })
        .collect();
    let places: HashMap<u32, usize> = rows.iter().copied().zip(0..).collect();
    for column in &batch.columns {
        for (at, row) in column.rows.iter().enumerate() {
            let Some(event) = places.get(row).and_then(|place| events.get_mut(*place)) else { continue };
            let value = batch.value(column, at);
            match column.key {
                ColumnKey::Property(name) => {
                    event.properties.insert(batch.strings.get(name).to_owned(), property(value));
                }
                ColumnKey::Field(field) => set(event, field, value),
            }
        }
    }
    events
}

fn property(value: ValueRef<'_>) -> Value {
    let kind = match value {
        ValueRef::String(text) => Kind::StringValue(text.to_owned()),
        ValueRef::Int(number) => Kind::IntValue(number),
        ValueRef::Double(number) => Kind::DoubleValue(number),
        ValueRef::Bool(truth) => Kind::BoolValue(truth),
    };
    Value { kind: Some(kind) }
}

fn set(event: &mut Event, field: Field, value: ValueRef<'_>) {
    let text = match value {
        ValueRef::String(text) => text.to_owned(),
        _ => String::new(),
    };
    let number = match value {
        ValueRef::Int(number) => number,
        _ => 0,
    };
    match field {
        Field::ValueMicros => event.value.get_or_insert_default().micros = number,
        Field::ValueCurrency => event.value.get_or_insert_default().currency = text,
        Field::CostMicros => event.cost.get_or_insert_default().micros = number,
        Field::CostCurrency => event.cost.get_or_insert_default().currency = text,
        Field::ConsentAnalytics => consent(event).analytics = state(&text),
        Field::ConsentAds => consent(event).ads = state(&text),
        Field::ConsentPersonalization => consent(event).personalization = state(&text),
        Field::CampaignSource => campaign(event).source = text,
        Field::CampaignMedium => campaign(event).medium = text,
        Field::CampaignName => campaign(event).name = text,
        Field::CampaignTerm => campaign(event).term = text,
        Field::CampaignContent => campaign(event).content = text,
        Field::CampaignId => campaign(event).id = text,
        Field::CampaignClickId => campaign(event).click_id = text,
        Field::Outcome => {
            let outcome = Outcome::from_str_name(&format!("OUTCOME_{text}"));
            event.outcome = outcome.unwrap_or_default() as i32;
        }
        Field::ErrorCode => event.error_code = text,
        Field::LatencyMs => event.latency_ms = Some(number),
        Field::Attempt => event.attempt = u32::try_from(number).ok(),
        Field::OffSite => {
            let off_site = OffSite::from_str_name(&format!("OFF_SITE_{text}"));
            event.off_site = off_site.unwrap_or_default() as i32;
        }
    }
}

fn consent(event: &mut Event) -> &mut Consent {
    event.consent.get_or_insert_default()
}

fn campaign(event: &mut Event) -> &mut Campaign {
    event.campaign.get_or_insert_default()
}

fn state(text: &str) -> i32 {
    ConsentState::from_str_name(&format!("CONSENT_STATE_{text}")).unwrap_or_default() as i32
}
