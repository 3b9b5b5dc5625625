//! Files of every format, whole and damaged: what is read of them, what is rejected, and where reading ends.
#![cfg(test)]

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use runnel::import::{FaultCause, FileFault, Format, ImportArgs, Portion, read_files};
use runnel_client::proto::{
    event::v1::{Event, value::Kind},
    ingest::v1::AppendRequest,
};

/// Everything that came of reading.
struct Outcome {
    events: Vec<(u64, Event)>,
    rejects: Vec<(u64, String, String)>,
    faults: Vec<FileFault>,
    requests: Vec<(String, usize, usize)>,
}

impl Outcome {
    fn of(args: &ImportArgs) -> Outcome {
        let mut outcome =
            Outcome { events: Vec::new(), rejects: Vec::new(), faults: Vec::new(), requests: Vec::new() };
        let mut take = |portion: Portion| {
            let rejects = portion.rejects.iter();
            outcome.rejects.extend(rejects.map(|reject| {
                assert!(reject.message.ends_with('.'), "{}", reject.message);
                (reject.line, reject.reason.clone(), String::from_utf8_lossy(&reject.original).into_owned())
            }));
            let Some(request) = &portion.request else { return true };
            let decoded = AppendRequest::decode(request.bytes.clone()).unwrap();
            assert_eq!(decoded.request_id, request.request_id);
            assert_eq!(portion.lines.len(), decoded.events.len());
            outcome.requests.push((request.request_id.clone(), decoded.events.len(), request.bytes.len()));
            outcome.events.extend(portion.lines.iter().copied().zip(decoded.events));
            true
        };
        outcome.faults = read_files(args, &mut take);
        outcome
    }

    fn ids(&self) -> Vec<&str> {
        self.events.iter().map(|(_, event)| event.event_id.as_str()).collect()
    }

    fn reasons(&self) -> Vec<(u64, &str)> {
        self.rejects.iter().map(|(line, reason, _)| (*line, reason.as_str())).collect()
    }

    fn property(&self, at: usize, name: &str) -> Option<&Kind> {
        self.events[at].1.properties.get(name).and_then(|value| value.kind.as_ref())
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str, content: &[u8]) -> Outcome {
        self.read_with(name, content, |_| ())
    }

    fn read_with(&self, name: &str, content: &[u8], change: impl Fn(&mut ImportArgs)) -> Outcome {
        let mut args = ImportArgs::new(vec![self.file(name, content)]);
        change(&mut args);
        Outcome::of(&args)
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn rows(count: usize) -> String {
    let mut text = "event_id,visitor_id,occurred_at,name,page\n".to_owned();
    (0..count).for_each(|n| {
        text.push_str(&format!(
            "e{n},v{},2024-05-01T10:00:{:02}.{:03}Z,view,/p{n}\n",
            n % 7,
            n / 1_000 % 60,
            n % 1_000
        ));
    });
    text
}

fn string(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

const T: &str = "2024-05-01T10:00:00.123Z";
const T_MS: i64 = 1_714_557_600_123;

#[test]
fn csv_is_read_as_it_is_written() {
    let text = format!(
        "\u{feff}event_id,visitor_id,occurred_at,name,sequence,title,price\r\n\
         a,0187,{T},view,7,\"Fun, \"\"games\"\"\r\nand more\",007\r\n\
         \r\n\
         b,0187,2024-05-01T12:00:00.1239+02:00,view,,,\"\"\r\n\
         c,ä,1714557600123,view,-1,plain,1.50"
    );
    let outcome = Folder::new().read("events.csv", text.as_bytes());
    assert!(outcome.faults.is_empty() && outcome.rejects.is_empty(), "{:?}", outcome.rejects);
    assert_eq!(outcome.ids(), ["a", "b", "c"]);
    assert_eq!(outcome.events.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5, 6]);
    assert!(outcome.events.iter().all(|(_, event)| event.time_ms == Some(T_MS) && event.name == "view"));
    let visitors: Vec<_> = outcome.events.iter().map(|(_, event)| event.visitor_id.as_str()).collect();
    assert_eq!(visitors, ["0187", "0187", "ä"]);
    let sequences: Vec<_> = outcome.events.iter().map(|(_, event)| event.sequence).collect();
    assert_eq!(sequences, [Some(7), None, Some(-1)]);
    assert_eq!(outcome.property(0, "title"), Some(&string("Fun, \"games\"\r\nand more")));
    assert_eq!(outcome.property(0, "price"), Some(&string("007")));
    assert!(outcome.events[1].1.properties.is_empty(), "an empty cell is absent");
    let typed = |args: &mut ImportArgs| args.property_types = vec!["price=double".parse().unwrap()];
    let outcome = Folder::new().read_with("events.csv", text.as_bytes(), typed);
    assert_eq!(outcome.property(2, "price"), Some(&Kind::DoubleValue(1.5)));
}

#[test]
fn bad_rows_cost_only_themselves() {
    let long = "x".repeat(9_000);
    let mut text = b"event_id,visitor_id,occurred_at,name,page\n".to_vec();
    for row in [
        format!("ok1,v,{T},view,p"),
        format!("ragged,v,{T},view"),
        "time,v,yesterday,view,p".to_owned(),
        "no-time,v,,view,p".to_owned(),
        format!("no-visitor,,{T},view,p"),
        format!("no-name,v,{T},,p"),
        format!("ok2,v,{T},view,p"),
        format!("nul,v,{T},view,a\0b"),
        format!("long,v,{T},view,{long}"),
        format!("long-id,{},{T},view,p", "v".repeat(257)),
        "year,v,-99999999999999,view,p".to_owned(),
        format!("ok3,v,{T},view,p"),
    ] {
        text.extend_from_slice(row.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"utf8,v,2024-05-01T10:00:00.123Z,view,\xff\n");
    text.extend_from_slice(
        format!("stray,v,{T},view,\"open\nok4,v,{T},view,p\nok5,v,{T},view,p\n").as_bytes(),
    );
    let outcome = Folder::new().read("events.csv", &text);
    assert!(outcome.faults.is_empty());
    assert_eq!(outcome.ids(), ["ok1", "ok2", "ok3", "ok4", "ok5"]);
    assert_eq!(
        outcome.reasons(),
        [
            (3, "ROW_RAGGED"),
            (4, "TIME_MALFORMED"),
            (5, "FIELD_MISSING"),
            (6, "FIELD_MISSING"),
            (7, "FIELD_MISSING"),
            (9, "TEXT_HAS_NUL"),
            (10, "TEXT_TOO_LONG"),
            (11, "TEXT_TOO_LONG"),
            (12, "EVENT_TIME_OUT_OF_RANGE"),
            (14, "TEXT_NOT_UTF8"),
            (15, "QUOTE_UNCLOSED"),
        ]
    );
    assert_eq!(outcome.rejects[0].2, format!("ragged,v,{T},view"));
    assert_eq!(outcome.rejects[10].2, format!("stray,v,{T},view,\"open"));
}

#[test]
fn a_stray_quote_takes_no_other_row_with_it() {
    let text = format!(
        "event_id,visitor_id,occurred_at,name,page\na,v,{T},view,\"open\nb,v,{T},view,p\nc,v,{T},view,\"whole\"\nd,v,{T},view,p\n"
    );
    let outcome = Folder::new().read("events.csv", text.as_bytes());
    assert_eq!(outcome.ids(), ["b", "c", "d"]);
    assert_eq!(outcome.reasons(), [(2, "QUOTE_UNCLOSED")]);
    let text = format!(
        "event_id,visitor_id,occurred_at,name,page\na,v,{T},\"view,p\nb,v,{T},\"view\",p\nc,v,{T},view,p\n"
    );
    let outcome = Folder::new().read("events.csv", text.as_bytes());
    assert_eq!(outcome.ids(), ["b", "c"]);
}

#[test]
fn rows_without_end_are_bounded() {
    let folder = Folder::new();
    let mut text = rows(3).into_bytes();
    text.extend_from_slice(b"endless,");
    text.resize(text.len() + 9_000_000, b'x');
    text.extend_from_slice(format!("\nafter,v,{T},view,p\n").as_bytes());
    let outcome = folder.read("events.csv", &text);
    assert_eq!(outcome.ids(), ["e0", "e1", "e2", "after"]);
    assert_eq!(outcome.reasons(), [(5, "ROW_TOO_LONG")]);
    assert!(outcome.rejects[0].2.len() < 2_000);
    let mut text = rows(2).into_bytes();
    text.extend_from_slice(format!("open,v,{T},view,\"never closed\n").as_bytes());
    (0..60_000)
        .for_each(|n| text.extend_from_slice(format!("f{n},v,{T},view,{}\n", "p".repeat(80)).as_bytes()));
    let outcome = folder.read("events.csv", &text);
    assert_eq!((outcome.events.len(), outcome.reasons()), (60_002, vec![(4, "QUOTE_UNCLOSED")]));
}

#[test]
fn wrong_headers_stop_the_file() {
    let folder = Folder::new();
    let outcome = folder.read("events.csv", b"id,user,ts,name\n1,v,0,view\n");
    let text = outcome.faults[0].to_string();
    for part in [
        "events.csv, line 1",
        "\"visitor_id\"",
        "--visitor",
        "\"occurred_at\"",
        "columns found: id, user, ts, name",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(outcome.events.is_empty());
    let mapped = |args: &mut ImportArgs| {
        args.visitor = Some("user".into());
        args.time = Some("ts".into());
        args.event_id = Some("id".into());
    };
    assert_eq!(folder.read_with("events.csv", b"id,user,ts,name\n1,v,0,view\n", mapped).ids(), ["1"]);
    let cause = |name: &str, content: &[u8]| format!("{:?}", folder.read(name, content).faults[0].cause);
    assert_eq!(cause("a.csv", b""), "Empty");
    assert_eq!(cause("a.ndjson", b"\n\n"), "Empty");
    assert_eq!(cause("a.csv", b"\xff\xfee\0v\0"), "Utf16");
    assert_eq!(cause("a.ndjson", b"[{\"a\":1}]"), "JsonArray");
    assert_eq!(cause("a.csv", b"PAR1abc"), "IsParquet");
    assert!(cause("a.csv", b"event_id,\xff\n").starts_with("Header"));
    assert!(cause("a.parquet", b"event_id,visitor_id").starts_with("NotParquet"));
    let missing = Outcome::of(&ImportArgs::new(vec![folder.0.path().join("no-such-file.csv")]));
    assert!(matches!(missing.faults[0].cause, FaultCause::Open(_)));
}

#[test]
fn gzip_is_known_by_its_content() {
    let folder = Folder::new();
    let text = rows(5_000);
    let outcome = folder.read("events.csv", &gzip(text.as_bytes()));
    assert_eq!(outcome.events.len(), 5_000);
    // Several members make one file, wherever they are cut.
    let (first, second) = text.as_bytes().split_at(text.len() / 3);
    let joined = [gzip(first), gzip(b""), gzip(second)].concat();
    let outcome = folder.read("events.csv.gz", &joined);
    assert_eq!((outcome.events.len(), outcome.faults.len()), (5_000, 0));
    let ndjson =
        format!("{{\"event_id\":\"a\",\"visitor_id\":\"v\",\"occurred_at\":\"{T}\",\"name\":\"n\"}}\n");
    assert_eq!(folder.read("events.gz", &gzip(ndjson.as_bytes())).ids(), ["a"]);
}

#[test]
fn a_truncated_gzip_gives_what_it_has_and_a_fault() {
    let folder = Folder::new();
    let whole = gzip(rows(20_000).as_bytes());
    for cut in [whole.len() / 2, whole.len() - 9, whole.len() - 4, whole.len() - 1] {
        let outcome = folder.read("events.csv.gz", &whole[..cut]);
        let [fault] = outcome.faults.as_slice() else { panic!("{:?}", outcome.faults) };
        assert!(matches!(fault.cause, FaultCause::TruncatedGzip), "{fault}");
        let events = outcome.events.len() as u64;
        assert_eq!(fault.line, Some(events + 2), "the fault names the line after the last that was read");
        assert!(outcome.rejects.is_empty(), "half a row is no row: {:?}", outcome.rejects);
        assert!(cut < whole.len() - 10 || events == 20_000, "{events}");
        assert!(fault.to_string().contains("truncated"), "{fault}");
    }
    let mut damaged = whole.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 0xff;
    let outcome = folder.read("events.csv.gz", &damaged);
    assert!(matches!(outcome.faults[0].cause, FaultCause::DamagedGzip(_)), "{}", outcome.faults[0]);
    // The next file is read all the same.
    let args = ImportArgs::new(vec![
        folder.file("cut.csv.gz", &whole[..100]),
        folder.file("b.csv", rows(3).as_bytes()),
    ]);
    let outcome = Outcome::of(&args);
    assert_eq!((outcome.faults.len(), outcome.ids()), (1, vec!["e0", "e1", "e2"]));
}

#[test]
fn ndjson_keeps_types() {
    let lines = [
        format!(
            r#"{{"event_id":"a","visitor_id":7,"occurred_at":"{T}","name":"view","i":5,"d":5.0,"e":1e2,"s":"\u00e4\"x","b":true,"n":null,"-":-0,"big":18446744073709551616}}"#
        ),
        format!(
            r#"{{"event_id":"b","visitor_id":"v","occurred_at":{T_MS},"name":"view","sequence":3,"properties":{{"name":"inner","k":1}}}}"#
        ),
        String::new(),
        format!(
            r#"{{"event_id":"c","visitor_id":"v","occurred_at":"{T}","name":"view","nested":{{"a":[1,2]}}}}"#
        ),
        format!(r#"{{"event_id":"d","visitor_id":"v","occurred_at":"{T}","name":"view""#),
        r#"{"event_id":"e","visitor_id":"v","name":"view"}"#.to_owned(),
        format!(r#"{{"event_id":"f","visitor_id":1.5,"occurred_at":"{T}","name":"view"}}"#),
        format!(r#"{{"event_id":"g","visitor_id":"v","occurred_at":"{T}","name":"view","x":1e999}}"#),
        format!(r#"{{"event_id":"h","visitor_id":"v\u0000","occurred_at":"{T}","name":"view"}}"#),
        format!(r#"{{"event_id":"i","visitor_id":"v","occurred_at":"{T}","name":"view","ä":"ö"}}"#),
    ];
    let mut bytes = lines.join("\n").into_bytes();
    bytes.extend_from_slice(b"\n{\"bad\":\"\xff\"}\n");
    let outcome = Folder::new().read("events.jsonl", &bytes);
    assert_eq!(outcome.ids(), ["a", "b", "i"]);
    assert_eq!(
        outcome.reasons(),
        [
            (4, "VALUE_NESTED"),
            (5, "JSON_MALFORMED"),
            (6, "FIELD_MISSING"),
            (7, "VALUE_TYPE"),
            (8, "NUMBER_NOT_FINITE"),
            (9, "TEXT_HAS_NUL"),
            (11, "TEXT_NOT_UTF8"),
        ]
    );
    assert_eq!(outcome.events[0].1.visitor_id, "7");
    for (name, kind) in [
        ("i", Kind::IntValue(5)),
        ("d", Kind::DoubleValue(5.0)),
        ("e", Kind::DoubleValue(100.0)),
        ("s", string("ä\"x")),
        ("b", Kind::BoolValue(true)),
        ("-", Kind::IntValue(0)),
        ("big", Kind::DoubleValue(18_446_744_073_709_551_616.0)),
    ] {
        assert_eq!(outcome.property(0, name), Some(&kind), "{name}");
    }
    assert_eq!(outcome.events[0].1.properties.len(), 7);
    let second = &outcome.events[1].1;
    assert_eq!((second.name.as_str(), second.sequence, second.time_ms), ("view", Some(3), Some(T_MS)));
    assert_eq!(outcome.property(1, "name"), Some(&string("inner")));
    let ignoring = |args: &mut ImportArgs| {
        args.ignore = vec!["nested".into()];
        args.property_types =
            vec!["i=string".parse().unwrap(), "d=string".parse().unwrap(), "k=double".parse().unwrap()];
    };
    let outcome = Folder::new().read_with("events.jsonl", &bytes, ignoring);
    assert_eq!(outcome.ids(), ["a", "b", "c", "i"]);
    assert_eq!(outcome.property(0, "d"), Some(&string("5.0")));
    assert_eq!(outcome.property(1, "k"), Some(&Kind::DoubleValue(1.0)));
}

/// Sorted, so that order does not matter; all of the content does.
fn content(outcome: &Outcome) -> Vec<String> {
    let key = |event: &Event| {
        let properties: BTreeMap<_, _> = event.properties.iter().collect();
        format!("{:?} {:?}", Event { properties: Default::default(), ..event.clone() }, properties)
    };
    let mut keys: Vec<String> = outcome.events.iter().map(|(_, event)| key(event)).collect();
    keys.sort();
    keys
}

#[test]
fn content_depends_neither_on_order_nor_on_batching() {
    let folder = Folder::new();
    let mut lines: Vec<String> = rows(3_000).lines().map(str::to_owned).collect();
    // Values that look like numbers in some rows must not become numbers there.
    lines[10].push('1');
    lines[20] = format!("num,v,{T},view,12345");
    let header = lines.remove(0);
    let text = |lines: &[String]| format!("{header}\n{}\n", lines.join("\n"));
    let plain = folder.read("events.csv", text(&lines).as_bytes());
    assert_eq!(plain.requests.len(), 1);
    let mut shuffled = lines.clone();
    (0..shuffled.len()).for_each(|at| shuffled.swap(at, at * 7_919 % lines.len()));
    let small = |args: &mut ImportArgs| args.batch = 7;
    let other = folder.read_with("events.csv", text(&shuffled).as_bytes(), small);
    assert_eq!(content(&plain), content(&other));
    assert_eq!(other.requests.len(), 429);
    let again = folder.read("copy.csv", text(&lines).as_bytes());
    assert_eq!(plain.requests, again.requests, "the same batch has the same id");
    let mut ids: Vec<_> = other.requests.iter().map(|(id, ..)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 429);
}

#[test]
fn requests_stay_below_the_limits() {
    let folder = Folder::new();
    let mut text = "event_id,visitor_id,occurred_at,name,a,b,c\n".to_owned();
    (0..1_000).for_each(|n| {
        let value = "x".repeat(8_000);
        text.push_str(&format!("e{n},v,{T},view,{value},{value},{value}\n"));
    });
    let outcome = folder.read_with("events.csv", text.as_bytes(), |args| args.batch = 10_000);
    assert_eq!(outcome.events.len(), 1_000);
    assert!(outcome.requests.iter().all(|(_, _, bytes)| *bytes < 3_670_016), "3.5 MiB");
    assert_eq!(outcome.requests.len(), 7);
    let mut header = "event_id,visitor_id,occurred_at,name".to_owned();
    (0..65).for_each(|n| header.push_str(&format!(",p{n}")));
    let wide = format!("{header}\na,v,{T},n{}\nb,v,{T},n{}\n", ",x".repeat(65), ",x".repeat(64) + ",");
    let outcome = folder.read("events.csv", wide.as_bytes());
    assert_eq!((outcome.ids(), outcome.reasons()), (vec!["b"], vec![(2, "PROPERTIES_TOO_MANY")]));
}

/// The folder with real event logs, when this machine has it.
fn shared_data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: there is no ../shared/data beside the project");
    None
}

#[test]
fn real_event_logs_are_read_to_the_last_row() {
    let Some(data) = shared_data() else { return };
    for (name, events, visitors) in
        [("gmerch-ga360", 13_233, 2_293), ("bpi2012-loan", 262_200, 13_087), ("otto-mini", 862, 20)]
    {
        let path = data.join(name).join("events.csv.gz");
        let outcome = Outcome::of(&ImportArgs::new(vec![path.clone()]));
        assert!(
            outcome.faults.is_empty() && outcome.rejects.is_empty(),
            "{name}: {:?}",
            outcome.rejects.first()
        );
        assert_eq!(outcome.events.len(), events, "{name}");
        let mut ids: Vec<_> = outcome.events.iter().map(|(_, event)| event.visitor_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), visitors, "{name}");
        // Every cell is what the csv crate reads.
        let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap());
        let mut reader = csv::Reader::from_reader(file);
        let header = reader.headers().unwrap().clone();
        for (record, (_, event)) in reader.records().zip(&outcome.events) {
            let record = record.unwrap();
            let cells: BTreeMap<&str, &str> =
                header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty()).collect();
            assert_eq!(cells["event_id"], event.event_id);
            assert_eq!(cells["visitor_id"], event.visitor_id);
            assert_eq!(cells["name"], event.name);
            let time: jiff::Timestamp = cells["occurred_at"].parse().unwrap();
            assert_eq!(Some(time.as_millisecond()), event.time_ms);
            assert_eq!(cells.len(), 4 + event.properties.len());
            for (name, value) in &event.properties {
                assert_eq!(value.kind, Some(string(cells[name.as_str()])));
            }
        }
    }
}

#[test]
fn formats_are_told_by_name_or_content() {
    let folder = Folder::new();
    let csv = rows(2);
    let ndjson =
        format!("{{\"event_id\":\"a\",\"visitor_id\":\"v\",\"occurred_at\":\"{T}\",\"name\":\"n\"}}\n");
    assert_eq!(folder.read("data", csv.as_bytes()).ids(), ["e0", "e1"]);
    assert_eq!(folder.read("data", ndjson.as_bytes()).ids(), ["a"]);
    let forced = folder.read_with("data.csv", ndjson.as_bytes(), |args| args.format = Some(Format::Ndjson));
    assert_eq!(forced.ids(), ["a"]);
}
