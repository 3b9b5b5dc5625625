//! What is good is kept, what is bad is named, and nothing else is lost.

use prost::Message;

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
    receive_append(&message, NOW, &NoRoom::default()).unwrap()
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
    let received = receive_append(&message, NOW, &NoRoom::default()).unwrap();
    assert_eq!(received.batch.len(), 1);
    let reasons: Vec<_> = received.verdicts.iter().map(|verdict| verdict.reason.as_str()).collect();
    assert_eq!(reasons, ["TEXT_NOT_UTF8", "EVENT_MALFORMED"]);
}

#[test]
fn whole_batches_are_refused_before_anything_is_built() {
    let reason = |message: &[u8]| receive_append(message, NOW, &NoRoom::default()).unwrap_err().reason;
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
    let content = |events: &[Event], now_ms, no_room: &NoRoom| {
        let request = AppendRequest { events: events.to_vec(), ..AppendRequest::default() };
        let received = receive_append(&request.encode_to_vec(), now_ms, no_room).unwrap();
        (received.batch.len(), received.content())
    };
    let unreadable = Event { name: String::new(), ..event("d") };
    let events = [event("a"), ahead("b"), ahead("b"), ahead("c"), unreadable, event("a"), ahead("")];
    let (stored, before) = content(&events, NOW, &NoRoom::default());
    let (all, after) = content(&events, NOW + 1, &NoRoom::default());
    assert_eq!((stored, all), (1, 4));
    assert_eq!(before, after);
    let no_room = NoRoom { events: HashSet::from(["view".to_owned()]), ..NoRoom::default() };
    assert_eq!(content(&events, NOW + 1, &no_room), (0, after));
    assert_ne!(content(&events[1..], NOW, &NoRoom::default()).1, before, "other events are another request");
    let other = [event("a"), ahead("x"), ahead("b"), ahead("c"), events[4].clone(), event("a"), ahead("")];
    assert_ne!(content(&other, NOW, &NoRoom::default()).1, before, "also when they are refused");
}
