//! Marks and columns of sessions against a reference that looks at every event by itself, over events that come in any batches and order.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use runnel_journeys::{Happens, Journeys, JourneysOptions, Loaded, MarksFor};
use runnel_model::{
    Conversion, Counting, Dimension, EventBatch, EventMatch, EventRef, Field, Operator, Predicate, Rule,
    Selector, SessionThreshold, Settings, TenantName, Value, ValueRef, Visit, Worth,
};
use runnel_storage::{Admitted, EmbeddedOptions, Store};

const START: i64 = 1_767_225_600_000;
const GAP: i64 = 10;

/// Small, seeded random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[derive(Debug, Clone)]
struct Event {
    visitor: u64,
    time: i64,
    id: u64,
    name: &'static str,
    price: Option<i64>,
    percent: Option<f64>,
    item: Option<i64>,
    channel: Option<&'static str>,
    off_site: bool,
}

fn events(random: &mut Random) -> Vec<Event> {
    let count = 1 + random.below(40);
    let event = |id: u64| Event {
        visitor: random.below(4),
        time: random.below(60) as i64,
        id,
        name: ["a", "b", "page_view"][random.below(3) as usize],
        price: (random.below(2) == 0).then(|| random.below(10) as i64),
        percent: (random.below(2) == 0).then(|| random.below(100) as f64 / 2.0),
        item: (random.below(2) == 0).then(|| random.below(2) as i64),
        channel: (random.below(3) == 0).then(|| ["Email", "Direct"][random.below(2) as usize]),
        off_site: random.below(6) == 0,
    };
    (0..count).map(event).collect()
}

async fn append(store: &Store, tenant: &TenantName, events: &[Event]) {
    let mut batch = EventBatch::default();
    for event in events {
        let (visitor, id) = (format!("v{}", event.visitor), format!("e{:04}", event.id));
        let mut properties = Vec::new();
        properties.extend(event.price.map(|price| ("price", ValueRef::Int(price))));
        properties.extend(event.percent.map(|percent| ("percent", ValueRef::Double(percent))));
        properties.extend(event.item.map(|item| ("item", ValueRef::Int(item))));
        properties.extend(event.channel.map(|channel| ("channel", ValueRef::String(channel))));
        let off_site = [(Field::OffSite, ValueRef::String("CALL"))];
        batch.push(&EventRef {
            visitor: &visitor,
            time_ms: START + event.time,
            name: event.name,
            event_id: &id,
            sequence: 0,
            fields: if event.off_site { &off_site } else { &[] },
            properties: &properties,
        });
    }
    store.append(tenant, Admitted::new(batch, None, Bytes::new()).unwrap(), START).await.unwrap();
}

/// The reference: a visitor's events in order, each with the number of the session that it belongs to.
fn visitors(events: &[Event], as_of: i64) -> BTreeMap<u64, Vec<(Event, Option<usize>)>> {
    let mut visitors: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.time < as_of) {
        visitors.entry(event.visitor).or_default().push(event.clone());
    }
    let with_sessions = |(visitor, mut events): (u64, Vec<Event>)| {
        events.sort_by_key(|event| (event.time, event.id));
        let (mut number, mut last) = (0, None::<i64>);
        let mut told = Vec::new();
        for event in events {
            let near = last.is_some_and(|last| event.time - last <= GAP);
            if !event.off_site {
                number += usize::from(!near);
                last = Some(event.time);
            }
            told.push((event.clone(), (near || !event.off_site).then(|| number - 1)));
        }
        (visitor, told)
    };
    visitors.into_iter().map(with_sessions).collect()
}

/// The ids of the events at which a conversion happens, by its definition.
fn expected(conversion: &Conversion, journey: &[(Event, Option<usize>)]) -> Vec<u64> {
    let on_site = |session: usize| {
        let of = move |(event, number): &&(Event, Option<usize>)| *number == Some(session) && !event.off_site;
        journey.iter().filter(of).map(|(event, _)| event)
    };
    let sessions = journey.iter().filter_map(|(_, number)| *number).max().map_or(0, |last| last + 1);
    let mut found: Vec<u64> = Vec::new();
    match &conversion.rule {
        Rule::Event(_) => found.extend(
            journey
                .iter()
                .filter(|(event, _)| {
                    event.name == "b" || event.name == "a" && event.price.is_some_and(|price| price >= 5)
                })
                .map(|(event, _)| event.id),
        ),
        Rule::Session(threshold) => {
            for session in 0..sessions {
                let first = on_site(session).next().unwrap().time;
                let mut so_far = 0;
                let reached = on_site(session).find(|event| match threshold {
                    SessionThreshold::DurationMs(ms) => event.time - first >= *ms,
                    SessionThreshold::Events(count) => {
                        so_far += 1;
                        so_far >= *count
                    }
                    SessionThreshold::Pages(count) => {
                        so_far += u32::from(event.name == "page_view");
                        so_far >= *count
                    }
                });
                found.extend(reached.map(|event| event.id));
            }
        }
        Rule::Visit(Visit::Number(number)) => {
            found.extend(on_site(*number as usize - 1).next().map(|event| event.id));
        }
        Rule::Visit(Visit::ReturningWithinMs(ms)) => {
            for session in 1..sessions {
                let (first, before) =
                    (on_site(session).next().unwrap(), on_site(session - 1).next_back().unwrap());
                found.extend((first.time - before.time <= *ms).then_some(first.id));
            }
        }
        Rule::Progress { .. } => {
            let mut seen = BTreeSet::new();
            for (event, session) in journey {
                let enough = event.name == "a" && event.percent.is_some_and(|percent| percent >= 20.0);
                if enough && (session.is_none() || seen.insert((*session, event.item))) {
                    found.push(event.id);
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    let session =
        |id: &u64| journey.iter().find(|(event, _)| event.id == *id).and_then(|(_, number)| *number);
    match conversion.counting {
        Counting::EveryTime => {}
        Counting::OnceASession => found.retain(|id| session(id).is_none_or(|number| seen.insert(number))),
        Counting::OnceAVisitor => found.truncate(1),
    }
    found
}

fn conversions() -> Vec<Conversion> {
    let at_least_five = Predicate::Compare {
        column: Selector::property("price"),
        operator: Operator::GreaterOrEqual,
        values: vec![Value::Int(5)],
    };
    let dear = EventMatch { event: Some("a".to_owned()), condition: Some(at_least_five) };
    let rules = [
        Rule::Event(vec![dear, EventMatch::named("b"), EventMatch::named("never")]),
        Rule::Session(SessionThreshold::DurationMs(12)),
        Rule::Session(SessionThreshold::Events(3)),
        Rule::Session(SessionThreshold::Pages(2)),
        Rule::Visit(Visit::Number(2)),
        Rule::Visit(Visit::ReturningWithinMs(14)),
        Rule::Progress {
            event: EventMatch::named("a"),
            progress: Selector::property("percent"),
            at_least: 20.0,
            item: Some(Selector::property("item")),
        },
    ];
    let counting = [Counting::EveryTime, Counting::OnceASession, Counting::OnceAVisitor];
    rules
        .iter()
        .flat_map(|rule| {
            counting.map(|counting| Conversion { rule: rule.clone(), counting, worth: Worth::OfEvent })
        })
        .collect()
}

/// Times and names of marked events by visitor, in order.
fn found(loaded: &Loaded, wanted: &MarksFor, at: usize, as_of: i64) -> BTreeMap<String, Vec<(i64, String)>> {
    let marks = wanted.derive(loaded, START + as_of).unwrap();
    let mut found: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for (run, skip) in loaded.runs().filter(|(run, _)| run.events() > 0) {
        let view = marks.view(run, skip).unwrap();
        let bits = view.conversion(at);
        let slice = view.sessions().slice();
        for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
            for event in slice.range(visitor).filter(|event| bits[event / 64] >> (event % 64) & 1 == 1) {
                let who = String::from_utf8(run.visitors.get(visitor).to_vec()).unwrap();
                let name = loaded.names.name(run.kind(event));
                found.entry(who).or_default().push((run.time(event) - START, name));
            }
        }
    }
    found
}

/// What every event has of a dimension, by visitor, in order.
fn dimension(loaded: &Loaded, dimension: Dimension) -> BTreeMap<String, Vec<Option<String>>> {
    let column = loaded.column(&Selector::Session(dimension)).unwrap();
    let mut found: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (run, skip) in loaded.runs().filter(|(run, _)| run.events() > 0) {
        let slice = run.slice(skip).unwrap();
        for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
            let who = String::from_utf8(run.visitors.get(visitor).to_vec()).unwrap();
            for event in slice.range(visitor) {
                let code = run.columns[column].values().get(event).unwrap();
                let value = loaded.columns[column].1.value(code).map(|value| value.show());
                found.entry(who.clone()).or_default().push(value);
            }
        }
    }
    found
}

/// The reference for channels, where some events name one and nothing else tells, and for visits.
fn expected_dimension(wanted: Dimension, journey: &[(Event, Option<usize>)]) -> Vec<Option<String>> {
    let channel = |session: usize| {
        let of = |(_, number): &&(Event, Option<usize>)| *number == Some(session);
        let last = journey.iter().rposition(|(event, number)| *number == Some(session) && !event.off_site);
        let span = &journey[..=last.unwrap()];
        let first = span.iter().position(|one| of(&one)).unwrap();
        let sent = span[first..].iter().find_map(|(event, _)| event.channel);
        Some(sent.unwrap_or("Direct").to_owned())
    };
    let any = journey.iter().any(|(_, number)| number.is_some());
    let told = |(_, session): &(Event, Option<usize>)| match (wanted, session) {
        (Dimension::FirstChannel, _) => any.then(|| channel(0)).flatten(),
        (Dimension::LastChannel, _) => journey.iter().filter_map(|one| one.1).max().and_then(channel),
        (Dimension::Channel, Some(session)) => channel(*session),
        (Dimension::Visit, Some(session)) => Some(if *session == 0 { "new" } else { "returning" }.to_owned()),
        (Dimension::Device | Dimension::Os | Dimension::Browser, _) | (_, None) => None,
    };
    journey.iter().map(told).collect()
}

#[tokio::test]
async fn marks_and_dimensions_agree_with_the_reference() {
    let cases =
        std::env::var("RUNNEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000u64) / 50;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
    let options = || JourneysOptions { threads: 2, ..JourneysOptions::default() };
    let journeys = Journeys::new(store.clone(), options()).unwrap();
    let settings = Settings { session_gap_ms: GAP, ..Settings::default() };
    let conversions = conversions();
    let wanted = MarksFor {
        conversions: conversions.iter().cloned().map(Happens::from).collect(),
        settings: settings.clone(),
        pages: false,
    };
    let dimensions = [Dimension::Channel, Dimension::Visit, Dimension::FirstChannel, Dimension::LastChannel];
    let mut columns = wanted.selectors();
    columns.extend(dimensions.map(Selector::Session));
    for seed in 0..cases.max(4) {
        let mut random = Random(seed);
        let tenant = TenantName::parse(&format!("t{seed}")).unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        let events = events(&mut random);
        let mut order: Vec<Event> = events.clone();
        for at in (1..order.len()).rev() {
            order.swap(at, random.below(at as u64 + 1) as usize);
        }
        // Some of it is in memory before the rest comes.
        let size = 1 + random.below(12) as usize;
        for batch in order.chunks(size) {
            append(&store, &tenant, batch).await;
            if random.below(2) == 0 {
                journeys.with_sessions(&tenant, &columns, &settings).await.unwrap();
            }
        }
        let loaded = journeys.with_sessions(&tenant, &columns, &settings).await.unwrap();
        let as_of = [70, 25][random.below(2) as usize];
        for (at, conversion) in conversions.iter().enumerate() {
            let mut reference: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
            for (visitor, journey) in visitors(&events, as_of) {
                let told = expected(conversion, &journey);
                let mut of = told
                    .iter()
                    .map(|id| journey.iter().find(|(event, _)| event.id == *id).unwrap().0.clone())
                    .collect::<Vec<_>>();
                of.sort_by_key(|event| (event.time, event.id));
                if !of.is_empty() {
                    let named = of.iter().map(|event| (event.time, event.name.to_owned())).collect();
                    reference.insert(format!("v{visitor}"), named);
                }
            }
            let found = found(&loaded, &wanted, at, as_of);
            assert_eq!(found, reference, "seed {seed}, as of {as_of}, {conversion:?}\n{events:#?}");
        }
        for wanted in dimensions {
            let reference: BTreeMap<String, Vec<Option<String>>> = visitors(&events, i64::MAX)
                .iter()
                .map(|(visitor, journey)| (format!("v{visitor}"), expected_dimension(wanted, journey)))
                .collect();
            assert_eq!(dimension(&loaded, wanted), reference, "seed {seed}, {wanted:?}\n{events:#?}");
        }
    }
}
