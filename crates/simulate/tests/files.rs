//! Files: what is written reads back as what was made.

use runnel_simulate::{
    BROWSERS, CHANNELS, COUNTRIES, Config, DEVICES, Event, Property, Shop, Value, write_csv, write_ndjson,
};

fn events() -> Vec<Event> {
    Shop::new(Config::shop(21, 2_000))
        .expect("a good configuration")
        .deliveries()
        .map(|delivery| delivery.event)
        .collect()
}

/// Milliseconds since the epoch of an instant in 2026, such as `2026-01-05T00:00:02.846Z`.
fn instant(text: &str) -> i64 {
    assert!(text.starts_with("2026-") && text.ends_with('Z') && text.len() == 24, "{text}");
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("digits");
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][number(5, 7) as usize - 1];
    let day = 20_454 + before + number(8, 10) - 1;
    (((day * 24 + number(11, 13)) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1_000 + number(20, 23)
}

#[test]
fn csv_reads_back() {
    let events = events();
    let mut bytes = Vec::new();
    assert_eq!(write_csv(&mut bytes, events.iter().copied()).unwrap(), events.len() as u64);
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header = reader.headers().unwrap().clone();
    assert_eq!(
        header.iter().take(5).collect::<Vec<_>>(),
        ["event_id", "visitor_id", "occurred_at", "name", "sequence"]
    );
    let mut rows = 0;
    for (record, event) in reader.records().zip(&events) {
        let record = record.unwrap();
        let field = |name: &str| record.get(header.iter().position(|h| h == name).unwrap()).unwrap();
        assert_eq!(field("event_id"), event.event_id().to_string());
        assert_eq!(field("visitor_id"), event.visitor.to_string());
        assert_eq!(instant(field("occurred_at")), event.time_ms);
        assert_eq!(field("name"), event.name.as_str());
        assert_eq!(field("sequence"), event.sequence().map(|n| n.to_string()).unwrap_or_default());
        for (property, value) in event.properties() {
            assert_eq!(field(property.as_str()), value.to_string());
            assert!(!field(property.as_str()).is_empty());
        }
        assert_eq!(Property::ALL.iter().filter(|p| !field(p.as_str()).is_empty()).count(), 5);
        rows += 1;
    }
    assert_eq!(rows, events.len());
}

#[test]
fn ndjson_reads_back() {
    let events = events();
    let mut bytes = Vec::new();
    assert_eq!(write_ndjson(&mut bytes, events.iter().copied()).unwrap(), events.len() as u64);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), events.len());
    for (line, event) in text.lines().zip(&events) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(object["event_id"], event.event_id().to_string());
        assert_eq!(object["visitor_id"], event.visitor.to_string());
        assert_eq!(instant(object["occurred_at"].as_str().unwrap()), event.time_ms);
        assert_eq!(object["name"], event.name.as_str());
        assert_eq!(object.get("sequence").and_then(|n| n.as_u64()), event.sequence().map(u64::from));
        for (property, value) in event.properties() {
            let read = &object[property.as_str()];
            match value {
                Value::Str(_) | Value::Product(_) | Value::Page(_) => assert_eq!(*read, value.to_string()),
                Value::Bool(b) => assert_eq!(*read, b),
                Value::Int(n) => assert_eq!(*read, n),
                Value::Float(_) | Value::Cents(_) => assert_eq!(read.as_f64(), value.as_f64()),
            }
        }
        assert_eq!(object.len(), 9 + usize::from(event.sequence().is_some()));
    }
}

#[test]
fn words_need_no_quotes() {
    let words = CHANNELS.iter().chain(&DEVICES).chain(&COUNTRIES).chain(&BROWSERS).copied();
    let used = events()
        .iter()
        .flat_map(|e| e.properties())
        .filter_map(|(_, value)| match value {
            Value::Str(word) => Some(word),
            _ => None,
        })
        .collect::<Vec<_>>();
    for word in words.chain(used) {
        assert!(!word.is_empty() && !word.contains([',', '"', '\\', '\n', '\r']), "{word}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(write_csv(&mut Full, events()).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
}
