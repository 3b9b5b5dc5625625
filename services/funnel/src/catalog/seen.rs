//! What a tenant's events are made of, counted from the journeys.

use std::collections::{BTreeSet, HashMap};

use runnel_contracts::{
    proto::catalog::v1::{
        EventName, ListEventNamesRequest, ListEventNamesResponse, ListPropertiesRequest,
        ListPropertiesResponse, Property, PropertyValue,
    },
    question::value_to_wire,
    refusal::{Reason, Refusal},
};
use runnel_definitions::{refusal::stopped, saved::page_size};
use runnel_journeys::{Loaded, ValueColumn};
use runnel_model::{Selector, TenantName, ValueType};
use runnel_storage::compute;

use crate::catalog::Catalog;

/// Frequent values shown of a property.
const FREQUENT: usize = 10;

/// What was seen of one event name.
#[derive(Clone, Copy)]
struct Seen {
    events: u64,
    visitors: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { events: 0, visitors: 0, first_ms: i64::MAX, last_ms: i64::MIN }
    }
}

/// Event names, most frequent first, then by name.
pub(crate) fn names(loaded: &Loaded) -> Vec<EventName> {
    let mut seen = vec![Seen::default(); loaded.names.len()];
    let mut last_visitor = vec![u64::MAX; seen.len()];
    let mut visitors = 0;
    for (run, skip) in loaded.runs() {
        let Ok(slice) = run.slice(skip) else { continue };
        for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
            visitors += 1;
            for event in slice.range(visitor) {
                let kind = usize::from(slice.kind(event));
                let time = slice.time(event);
                let entry = &mut seen[kind];
                entry.events += 1;
                entry.first_ms = entry.first_ms.min(time);
                entry.last_ms = entry.last_ms.max(time);
                entry.visitors += u64::from(last_visitor[kind] != visitors);
                last_visitor[kind] = visitors;
            }
        }
    }
    let name = |(kind, seen): (usize, &Seen)| EventName {
        name: loaded.names.name(kind as u16),
        events: seen.events,
        visitors: seen.visitors,
        first_seen_ms: seen.first_ms,
        last_seen_ms: seen.last_ms,
    };
    let mut names: Vec<EventName> =
        seen.iter().enumerate().filter(|(_, seen)| seen.events > 0).map(name).collect();
    names.sort_by(|left, right| (right.events, &left.name).cmp(&(left.events, &right.name)));
    names
}

/// Counts the values of one loaded property over all events, or those of one name.
fn property(loaded: &Loaded, name: &str, types: &[ValueType], kind: Option<u16>) -> Property {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    let mut last_seen_ms = i64::MIN;
    let place = loaded.column(&Selector::property(name));
    for (run, skip) in loaded.runs() {
        let (Ok(slice), Some(codes)) =
            (run.slice(skip), place.and_then(|place| run.columns.get(place)).map(ValueColumn::values))
        else {
            continue;
        };
        for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
            for event in slice.range(visitor) {
                let code = codes.get(event).unwrap_or(0);
                if code != 0 && kind.is_none_or(|kind| slice.kind(event) == kind) {
                    *counts.entry(code).or_default() += 1;
                    last_seen_ms = last_seen_ms.max(slice.time(event));
                }
            }
        }
    }
    let dictionary = place.map(|place| &loaded.columns[place].1);
    let value = |code: u32| dictionary.and_then(|dictionary| dictionary.value(code));
    let mut frequent: Vec<_> =
        counts.iter().filter_map(|(code, events)| Some((*events, value(*code)?))).collect();
    frequent.sort_by(|left, right| (right.0, &left.1).cmp(&(left.0, &right.1)));
    frequent.truncate(FREQUENT);
    Property {
        name: name.to_owned(),
        types: types.iter().map(|value_type| value_type.name().to_owned()).collect(),
        events: counts.values().sum(),
        values: counts.len() as u64,
        frequent: frequent
            .into_iter()
            .map(|(events, value)| PropertyValue { value: Some(value_to_wire(&value)), events })
            .collect(),
        last_seen_ms: if counts.is_empty() { 0 } else { last_seen_ms },
    }
}

impl Catalog {
    pub(crate) async fn event_names(
        &self,
        tenant: &TenantName,
        request: ListEventNamesRequest,
        now_ms: i64,
    ) -> Result<ListEventNamesResponse, Refusal> {
        let size = page_size(request.page_size)?;
        let loaded = self.load(tenant, &BTreeSet::new()).await?;
        let provenance = self.provenance(tenant, &loaded, now_ms).await?;
        let all = compute(move || names(&loaded)).await.map_err(|_| stopped())?;
        let start = if request.page_token.is_empty() {
            0
        } else {
            let token = |name: &EventName| name.name == request.page_token;
            all.iter().position(token).ok_or_else(|| {
                Refusal::field(
                    Reason::PageTokenInvalid,
                    "page_token",
                    "The page token names no event of this tenant.",
                )
            })? + 1
        };
        let page: Vec<EventName> = all.iter().skip(start).take(size).cloned().collect();
        let more = start + page.len() < all.len();
        let next_page_token = page.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
        Ok(ListEventNamesResponse { event_names: page, next_page_token, provenance: Some(provenance) })
    }

    pub(crate) async fn properties(
        &self,
        tenant: &TenantName,
        request: ListPropertiesRequest,
        now_ms: i64,
    ) -> Result<ListPropertiesResponse, Refusal> {
        let size = page_size(request.page_size)?;
        let loaded = self.load(tenant, &BTreeSet::new()).await?;
        let mut page = loaded.properties.page(&request.page_token, size + 1);
        let more = page.len() > size;
        page.truncate(size);
        let selectors = page.iter().map(|(name, _)| Selector::property(name)).collect();
        let loaded = self.load(tenant, &selectors).await?;
        let provenance = self.provenance(tenant, &loaded, now_ms).await?;
        let next_page_token = page.last().filter(|_| more).map(|(name, _)| name.clone()).unwrap_or_default();
        let kind = if request.event_name.is_empty() {
            None
        } else {
            let unknown =
                || Refusal::field(Reason::NotFound, "event_name", "There is no event of this name.");
            Some(loaded.names.find(&request.event_name).ok_or_else(unknown)?)
        };
        let count = move || page.iter().map(|(name, types)| property(&loaded, name, types, kind)).collect();
        let properties = compute(count).await.map_err(|_| stopped())?;
        Ok(ListPropertiesResponse { properties, next_page_token, provenance: Some(provenance) })
    }
}
