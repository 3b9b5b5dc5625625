//! What is good is kept, what is bad is named, and nothing else is lost.

use std::collections::HashMap;

use prost::Message;

use runnel_model::{EventRef, Field, Secret, ValueRef, derived_event_id, hour, is_nobody};

use super::*;
use crate::proto::{
    event::v1::{Event, Money, Value, value::Kind},
    ingest::v1::AppendRequest,
};

const NOW: i64 = 1_700_000_000_000;

fn event(id: &str) -> Event {
    Event {
        event_id: id.into(),
        visitor_id: "v".into(),
        time_ms: Some(NOW),
        name: "view".into(),
        ..Default::default()
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.into())) }
}

fn receive(events: Vec<Event>) -> Received {
    let message = AppendRequest { request_id: "r".into(), events, validate_only: false }.encode_to_vec();
    receive_append(&message, NOW, &Terms::default()).unwrap()
}

fn reason_of(event: Event) -> (String, String) {
    let received = receive(vec![self::event("ok"), event]);
    assert_eq!(received.batch.len(), 1, "the good event is kept");
    let verdict = &received.verdicts[0];
    assert_eq!((verdict.index, verdict.verdict), (1, Verdict::Rejected as i32));
    assert!(verdict.message.ends_with('.'), "{}", verdict.message);
    (verdict.reason.clone(), verdict.field.clone())
}

#[test]
fn each_bad_event_is_refused_by_name() {
    let with = |change: &dyn Fn(&mut Event)| {
        let mut event = event("x");
        change(&mut event);
        reason_of(event)
    };
    let is = |got: (String, String), reason: &str, field: &str| {
        assert_eq!(got, (reason.to_owned(), field.to_owned()))
    };
    is(with(&|e| e.visitor_id.clear()), "FIELD_MISSING", "visitor_id");
    is(with(&|e| e.name.clear()), "FIELD_MISSING", "name");
    is(with(&|e| e.time_ms = None), "FIELD_MISSING", "time_ms");
    is(with(&|e| e.time_ms = Some(NOW + 25 * 3_600_000)), "EVENT_TIME_IN_FUTURE", "time_ms");
    is(with(&|e| e.time_ms = Some(i64::MIN)), "EVENT_TIME_OUT_OF_RANGE", "time_ms");
    is(with(&|e| e.visitor_id = "v".repeat(257)), "TEXT_TOO_LONG", "visitor_id");
    is(with(&|e| e.visitor_id = "a\0b".into()), "TEXT_HAS_NUL", "visitor_id");
    is(with(&|e| e.event_id = "\0".into()), "TEXT_HAS_NUL", "event_id");
    let put = |name: &str, value: Value| {
        with(&|e: &mut Event| {
            e.properties.insert(name.into(), value.clone());
        })
    };
    is(put("p", Value { kind: None }), "PROPERTY_TYPE_UNKNOWN", "properties[p]");
    is(put("", text("x")), "FIELD_MISSING", "properties");
    is(put("p", Value { kind: Some(Kind::DoubleValue(f64::NAN)) }), "NUMBER_NOT_FINITE", "properties[p]");
    is(put("p", text(&"x".repeat(8_193))), "TEXT_TOO_LONG", "properties[p]");
    is(put("p", text(&"x".repeat(1 << 20))), "EVENT_TOO_LARGE", "");
    is(
        with(&|e| (0..65).for_each(|n| drop(e.properties.insert(n.to_string(), text("x"))))),
        "PROPERTIES_TOO_MANY",
        "properties",
    );
    is(
        with(&|e| e.value = Some(Money { micros: 1, currency: "eur".into() })),
        "CURRENCY_MALFORMED",
        "value.currency",
    );
    is(with(&|e| e.latency_ms = Some(-1)), "NUMBER_OUT_OF_RANGE", "latency_ms");
    is(with(&|e| e.outcome = 9), "ENUM_UNKNOWN", "outcome");
}

#[test]
fn bytes_that_are_not_utf8_cost_one_event() {
    let good = event("ok").encode_to_vec();
    let mut bad = event("bad").encode_to_vec();
    let at = bad.windows(4).position(|window| window == b"view").unwrap();
    bad[at] = 0xff;
    let mut message = Vec::new();
    for event in [&good, &bad, &vec![0x0a, 0x7f]] {
        message.extend([0x12, event.len() as u8]);
        message.extend_from_slice(event);
    }
    let received = receive_append(&message, NOW, &Terms::default()).unwrap();
    assert_eq!(received.batch.len(), 1);
    let reasons: Vec<_> = received.verdicts.iter().map(|verdict| verdict.reason.as_str()).collect();
    assert_eq!(reasons, ["TEXT_NOT_UTF8", "EVENT_MALFORMED"]);
}

#[test]
fn whole_batches_are_refused_before_anything_is_built() {
    let reason = |message: &[u8]| receive_append(message, NOW, &Terms::default()).unwrap_err().reason;
    assert_eq!(reason(&[]), Reason::BatchEmpty);
    assert_eq!(reason(&[0x12]), Reason::MessageMalformed);
    assert_eq!(reason(&[0x12, 0].repeat(10_001)), Reason::BatchTooLong);
    assert_eq!(reason(&[0x12, 0].repeat(2_000_000)), Reason::BatchTooLong);
}

#[test]
fn an_identity_stands_once_and_the_first_wins() {
    let mut other = event("1");
    other.properties.insert("a".into(), text("x"));
    let received = receive(vec![event("1"), event("1"), other, event("2"), event(""), event("")]);
    let verdicts: Vec<_> =
        received.verdicts.iter().map(|verdict| (verdict.index, verdict.verdict())).collect();
    assert_eq!(verdicts, [(1, Verdict::Duplicate), (2, Verdict::Conflict), (5, Verdict::Duplicate)]);
    assert_eq!(received.batch.len(), 3);
}

#[test]
fn a_batch_brings_as_many_property_names_as_a_tenant_may_have() {
    let with = |number: usize| Event {
        properties: [(format!("p{number}"), text("x"))].into(),
        ..event(&format!("e{number}"))
    };
    let events: Vec<Event> = (0..5_000).map(with).chain([with(0), with(7_000)]).collect();
    let received = receive(events);
    assert_eq!(received.batch.len(), limits::PROPERTY_NAMES);
    assert_eq!(received.batch.columns.len(), limits::PROPERTY_NAMES);
    let refused: Vec<_> = received.verdicts.iter().filter(|found| !found.reason.is_empty()).collect();
    assert_eq!(refused.len(), 5_001 - limits::PROPERTY_NAMES);
    assert!(
        refused.iter().all(|found| (&*found.reason, &*found.field) == ("PROPERTIES_TOO_MANY", "properties"))
    );
    let text = "A batch brings at most 1024 property names; with this event it would be 1025.";
    assert!(refused[0].message.starts_with(text), "{}", refused[0].message);
}

#[test]
fn every_field_becomes_a_column() {
    let mut full = event("1");
    full.properties = [
        ("s".to_owned(), text("x")),
        ("i".to_owned(), Value { kind: Some(Kind::IntValue(-3)) }),
        ("d".to_owned(), Value { kind: Some(Kind::DoubleValue(0.5)) }),
        ("b".to_owned(), Value { kind: Some(Kind::BoolValue(false)) }),
    ]
    .into();
    full.value = Some(Money { micros: -5, currency: "EUR".into() });
    full.cost = Some(Money { micros: 7, currency: "USD".into() });
    full.consent = Some(crate::proto::event::v1::Consent { analytics: 1, ads: 2, personalization: 0 });
    full.campaign = Some(crate::proto::event::v1::Campaign {
        source: "google".into(),
        click_id: "c".into(),
        ..Default::default()
    });
    (full.outcome, full.error_code, full.latency_ms, full.attempt, full.off_site) =
        (2, "E1".into(), Some(12), Some(3), 2);
    full.sequence = Some(-9);
    let received = receive(vec![full]);
    assert!(received.verdicts.is_empty(), "{:?}", received.verdicts);
    let batch = &received.batch;
    assert!(batch.is_consistent());
    assert_eq!(batch.sequences, [-9]);
    let mut cells: Vec<_> = batch
        .columns
        .iter()
        .map(|column| {
            format!("{:?} {:?}", (column.key, batch.property_name(column.key)), batch.value(column, 0))
        })
        .map(|cell| cell.replace("Property(", "P("))
        .collect();
    cells.sort();
    assert_eq!(cells.len(), 4 + 2 + 2 + 2 + 2 + 5);
    assert!(cells.iter().any(|cell| cell.contains("ConsentAds") && cell.contains("DENIED")));
    assert!(cells.iter().any(|cell| cell.contains("OffSite") && cell.contains("AD_CLICK")));
}

#[test]
fn a_request_is_the_same_whatever_the_clock_shows() {
    let day = 24 * 3_600_000;
    let ahead = |id: &str| Event { time_ms: Some(NOW + day + 1), ..event(id) };
    let denied = |event: Event| Event {
        consent: Some(crate::proto::event::v1::Consent { analytics: 2, ..Default::default() }),
        ..event
    };
    let content = |events: &[Event], now_ms, no_room: &NoRoom| {
        let request = AppendRequest { events: events.to_vec(), ..AppendRequest::default() };
        let privacy = Privacy { secret: Some(Secret([3; 32])), ..Privacy::default() };
        let terms = Terms { no_room: no_room.clone(), privacy: Arc::new(privacy) };
        let received = receive_append(&request.encode_to_vec(), now_ms, &terms).unwrap();
        (received.batch.len(), received.content(ContentSum::of(&content_hashes(&received.batch))))
    };
    let unreadable = Event { name: String::new(), ..event("d") };
    let nobody = denied(ahead("n"));
    let events =
        [event("a"), ahead("b"), ahead("b"), ahead("c"), unreadable, event("a"), ahead(""), nobody.clone()];
    let (stored, before) = content(&events, NOW, &NoRoom::default());
    let (all, after) = content(&events, NOW + 1, &NoRoom::default());
    assert_eq!((stored, all), (1, 5));
    assert_eq!(before, after);
    let no_room = NoRoom { events: HashSet::from(["view".to_owned()]), ..NoRoom::default() };
    assert_eq!(content(&events, NOW + 1, &no_room), (0, after));
    assert_ne!(content(&events[1..], NOW, &NoRoom::default()).1, before, "other events are another request");
    let mut other = events.clone();
    other[1] = ahead("x");
    assert_ne!(content(&other, NOW, &NoRoom::default()).1, before, "also when they are refused");
    let request = AppendRequest { events: vec![nobody], ..AppendRequest::default() };
    assert!(receive_append(&request.encode_to_vec(), NOW, &Terms::default()).unwrap().needs_secret);
}

#[test]
fn of_people_who_denied_consent_nothing_is_kept() {
    let denied = |id: &str, visitor: &str, time_ms: i64| Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(time_ms),
        consent: Some(crate::proto::event::v1::Consent { analytics: 2, ..Default::default() }),
        campaign: Some(crate::proto::event::v1::Campaign {
            source: "google".to_owned(),
            medium: "cpc".to_owned(),
            click_id: "gclid=Cj0KCQjw".to_owned(),
            ..Default::default()
        }),
        ..event(id)
    };
    let hour_ms = NOW - NOW % 3_600_000;
    let events = [
        denied("one", "ada lovelace", hour_ms),
        denied("one", "somebody else", hour_ms + 1),
        denied("one", "ada lovelace", hour_ms - 1),
        denied("two", "ada lovelace", hour_ms),
        denied("", "ada lovelace", hour_ms),
        denied("", "ada lovelace", hour_ms),
        event("three"),
    ];
    let request = AppendRequest { events: events.to_vec(), ..AppendRequest::default() };
    let bytes = request.encode_to_vec();
    assert!(receive_append(&bytes, NOW, &Terms::default()).unwrap().needs_secret);
    let privacy = Privacy { secret: Some(Secret([3; 32])), ..Privacy::default() };
    let terms = Terms { privacy: Arc::new(privacy), ..Terms::default() };
    let received = receive_append(&bytes, NOW, &terms).unwrap();
    assert!(!received.needs_secret);
    assert_eq!(
        (received.batch.len(), received.unobserved),
        (6, 5),
        "a copy counts once, whose id others have too"
    );
    assert_eq!(received.count(Verdict::Duplicate), 1);
    let kept = received.batch.strings.text();
    for personal in ["ada", "lovelace", "somebody", "Cj0KCQjw", "google", "cpc"] {
        assert!(!kept.contains(personal), "{kept:?} has {personal}");
    }
    assert!(kept.contains("Paid Search") && kept.contains("view"));
    let nobody =
        |row: &usize| is_nobody(received.batch.strings.get(received.batch.visitors[*row]).as_bytes());
    assert_eq!((0..received.batch.len()).filter(nobody).count(), 5);
    assert!((0..5).all(|row| hour(received.batch.times[row]) <= hour_ms));
    let again = receive_append(&bytes, NOW, &terms).unwrap();
    assert_eq!(content_hashes(&received.batch), content_hashes(&again.batch), "a copy has the same identity");
}

#[test]
fn what_happened_before_an_erasure_is_refused() {
    let secret = Secret([3; 32]);
    let visitor = "visitor-77".to_owned();
    let event = |id: &str| Event { visitor_id: visitor.clone(), ..event(id) };
    let erased = HashMap::from([(secret.mark(&visitor), NOW)]);
    let privacy = Privacy { version: 1, secret: Some(secret), erased, ..Privacy::default() };
    let terms = Terms { privacy: Arc::new(privacy), ..Terms::default() };
    let later = Event { time_ms: Some(NOW + 1), ..event("c") };
    let other = Event { visitor_id: "somebody else".to_owned(), ..event("d") };
    let at = Event { time_ms: Some(NOW), ..event("a") };
    let request = AppendRequest { events: vec![at, event("b"), later, other], ..AppendRequest::default() };
    let received = receive_append(&request.encode_to_vec(), NOW + 10, &terms).unwrap();
    assert_eq!((received.batch.len(), received.count(Verdict::Rejected)), (2, 2));
    let verdict = &received.verdicts[0];
    assert_eq!((verdict.reason.as_str(), verdict.field.as_str()), ("SUBJECT_ERASED", "visitor_id"));
    assert!(!verdict.message.contains(&visitor), "{}", verdict.message);
    let before = receive_append(&request.encode_to_vec(), NOW + 10, &Terms::default()).unwrap();
    let content = |of: &Received| of.content(ContentSum::of(&content_hashes(&of.batch)));
    assert_eq!(content(&received), content(&before), "it is the same request as before");
}

#[test]
fn what_happened_longer_ago_than_events_are_kept_is_late() {
    let privacy = Privacy { version: 1, refused_before_ms: Some(NOW), ..Privacy::default() };
    let terms = Terms { privacy: Arc::new(privacy), ..Terms::default() };
    let old = Event { time_ms: Some(NOW - 1), ..event("a") };
    let denied = Event {
        consent: Some(crate::proto::event::v1::Consent { analytics: 2, ..Default::default() }),
        time_ms: Some(NOW - 1),
        ..event("b")
    };
    let kept = Event { time_ms: Some(NOW), ..event("c") };
    let request = AppendRequest { events: vec![old, denied, kept], ..AppendRequest::default() };
    let received = receive_append(&request.encode_to_vec(), NOW + 10, &terms).unwrap();
    assert_eq!((received.batch.len(), received.count(Verdict::Late), received.refused()), (1, 2, 2));
    let verdict = &received.verdicts[1];
    assert_eq!((verdict.reason.as_str(), verdict.field.as_str()), ("LATE", "time_ms"));
    // It is the same request as before, when the events were not late.
    let privacy = Privacy { secret: Some(Secret([3; 32])), ..Privacy::default() };
    let terms = Terms { privacy: Arc::new(privacy.clone()), ..Terms::default() };
    let before = receive_append(&request.encode_to_vec(), NOW + 10, &terms).unwrap();
    let privacy = Privacy { refused_before_ms: Some(NOW), ..privacy };
    let terms = Terms { privacy: Arc::new(privacy), ..Terms::default() };
    let received = receive_append(&request.encode_to_vec(), NOW + 10, &terms).unwrap();
    let content = |of: &Received| of.content(ContentSum::of(&content_hashes(&of.batch)));
    assert_eq!(content(&received), content(&before));
}

#[test]
fn events_come_back_as_they_were_sent() {
    let mut full = event("full");
    full.value = Some(crate::proto::event::v1::Money { micros: 12_500_000, currency: "EUR".to_owned() });
    full.consent = Some(crate::proto::event::v1::Consent { analytics: 1, ads: 2, personalization: 0 });
    full.off_site = 2;
    full.attempt = Some(3);
    full.outcome = 1;
    full.sequence = Some(-4);
    let sent = vec![event("plain"), full];
    let request = AppendRequest { events: sent.clone(), ..AppendRequest::default() };
    let received = receive_append(&request.encode_to_vec(), NOW, &Terms::default()).unwrap();
    assert_eq!(crate::event::events(&received.batch, &[0, 1]), sent);
    assert_eq!(crate::event::events(&received.batch, &[1]), sent[1..]);
}

/// The plain way: messages by prost, one event after the other, everything looked at anew.
fn plainly(request: &AppendRequest) -> (Vec<u128>, Vec<(u32, Verdict)>) {
    let (mut kept, mut verdicts) = (Vec::<((String, i64, String), u128)>::new(), Vec::new());
    for (index, event) in request.events.iter().enumerate() {
        let properties: Vec<(&str, ValueRef<'_>)> = event
            .properties
            .iter()
            .map(|(name, value)| {
                let value = match value.kind.as_ref().unwrap() {
                    Kind::StringValue(text) => ValueRef::String(text),
                    Kind::IntValue(number) => ValueRef::Int(*number),
                    Kind::DoubleValue(number) => ValueRef::Double(*number),
                    Kind::BoolValue(truth) => ValueRef::Bool(*truth),
                };
                (name.as_str(), value)
            })
            .collect();
        let attempt = event.attempt.map(|attempt| (Field::Attempt, ValueRef::Int(i64::from(attempt))));
        let fields: Vec<_> = attempt.into_iter().collect();
        let mut row = EventRef {
            visitor: &event.visitor_id,
            time_ms: event.time_ms.unwrap(),
            name: &event.name,
            event_id: &event.event_id,
            sequence: event.sequence.unwrap_or_default(),
            fields: &fields,
            properties: &properties,
        };
        let derived = derived_event_id(&row);
        if row.event_id.is_empty() {
            row.event_id = &derived;
        }
        let mut batch = EventBatch::default();
        batch.push(&row);
        let content = content_hashes(&batch)[0];
        let identity = (row.visitor.to_owned(), row.time_ms, row.event_id.to_owned());
        match kept.iter().find(|(other, _)| *other == identity) {
            None => kept.push((identity, content)),
            Some((_, same)) if *same == content => verdicts.push((index as u32, Verdict::Duplicate)),
            Some(_) => verdicts.push((index as u32, Verdict::Conflict)),
        }
    }
    (kept.into_iter().map(|(_, content)| content).collect(), verdicts)
}

proptest::proptest! {
    #[test]
    fn columns_are_what_the_messages_say(
        events in proptest::collection::vec(
            (0u8..3, "[ab]{0,2}", 0i64..3, proptest::option::of(0u32..3), proptest::collection::vec((0usize..12, 0usize..14), 0..8)),
            1..60,
        ),
        many in 0usize..3,
        again in proptest::collection::vec((0usize..60, 0usize..12, 0usize..14), 0..4),
    ) {
        let name = |at: usize, event: usize| match at {
            0..6 => ["a", "ab", "price", "seven77", "campaign_source", "campaign_source_of_the_first_touch"][at].to_owned(),
            6..9 => format!("ü{at}"),
            // More than are kept.
            _ => format!("{}{at}-{event}", "n".repeat(many * 8)),
        };
        let value = |at: usize| Value { kind: Some(match at {
            0 => Kind::IntValue(-7),
            1 => Kind::DoubleValue(0.25),
            2 => Kind::BoolValue(true),
            3 => Kind::StringValue(String::new()),
            4..8 => Kind::StringValue("x".repeat(at * at * 4 - 60)),
            8 => Kind::StringValue("price".into()),
            _ => Kind::StringValue(format!("{at}é")),
        }) };
        let events: Vec<Event> = events.iter().enumerate().map(|(number, (visitor, id, time, attempt, properties))| Event {
            visitor_id: format!("v{visitor}"),
            event_id: id.clone(),
            time_ms: Some(NOW + time),
            name: name(usize::from(*visitor) * 3, number),
            attempt: *attempt,
            properties: properties.iter().map(|(at, what)| (name(*at, number), value(*what))).collect(),
            ..Event::default()
        }).collect();
        // A map may have an entry twice on the wire, of which the last one counts; and an entry may have its value before its name, or twice.
        let mut request = AppendRequest { request_id: "r".into(), events: Vec::new(), validate_only: false };
        let mut message = request.encode_to_vec();
        for (number, event) in events.into_iter().enumerate() {
            let mut bytes = event.encode_to_vec();
            for (_, at, what) in again.iter().filter(|(to, _, _)| *to == number) {
                let mut entry = Vec::new();
                prost::encoding::message::encode(2, &value(*what), &mut entry);
                prost::encoding::string::encode(1, &name(*at, number), &mut entry);
                if *what % 2 == 0 {
                    prost::encoding::message::encode(2, &value(*what), &mut entry);
                }
                prost::encoding::bytes::encode(6, &entry, &mut bytes);
            }
            request.events.push(Event::decode(bytes.as_slice()).unwrap());
            prost::encoding::bytes::encode(2, &bytes, &mut message);
        }
        let received = receive_append(&message, NOW, &Terms::default()).unwrap();
        proptest::prop_assert!(received.batch.is_consistent());
        let verdicts: Vec<_> = received.verdicts.iter().map(|found| (found.index, found.verdict())).collect();
        proptest::prop_assert_eq!((content_hashes(&received.batch), verdicts), plainly(&request));
    }
}
