//! Parquet files: types, absent values, damage, other schemas.
#![cfg(test)]

use std::{path::PathBuf, sync::Arc};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
        Int32Type, Int64Type,
    },
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use prost::Message;
use runnel::import::{FaultCause, FileFault, ImportArgs, Reject, read_files};
use runnel_client::proto::{
    event::v1::{Event, value::Kind},
    ingest::v1::AppendRequest,
};

const T_MS: i64 = 1_714_557_600_123;

enum Data {
    Text(Vec<&'static str>),
    Raw(Vec<Vec<u8>>),
    Long(Vec<i64>),
    Int(Vec<i32>),
    Double(Vec<f64>),
    Float(Vec<f32>),
    Bool(Vec<bool>),
    Fixed(Vec<Vec<u8>>),
}

/// Writes row groups of columns; each with definition levels where values are absent.
fn write(schema: &str, groups: Vec<Vec<(Data, Option<Vec<i16>>)>>) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(zstd).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    for group in groups {
        let mut row_group = writer.next_row_group().unwrap();
        for (data, levels) in group {
            let mut column = row_group.next_column().unwrap().unwrap();
            let levels = levels.as_deref();
            let written: usize = match data {
                Data::Text(values) => {
                    let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap()
                }
                Data::Raw(values) => {
                    let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap()
                }
                Data::Long(values) => column.typed::<Int64Type>().write_batch(&values, levels, None).unwrap(),
                Data::Int(values) => column.typed::<Int32Type>().write_batch(&values, levels, None).unwrap(),
                Data::Double(values) => {
                    column.typed::<DoubleType>().write_batch(&values, levels, None).unwrap()
                }
                Data::Float(values) => {
                    column.typed::<FloatType>().write_batch(&values, levels, None).unwrap()
                }
                Data::Bool(values) => column.typed::<BoolType>().write_batch(&values, levels, None).unwrap(),
                Data::Fixed(values) => {
                    let values =
                        values.into_iter().map(|bytes| FixedLenByteArray::from(ByteArray::from(bytes)));
                    let values: Vec<_> = values.collect();
                    column.typed::<FixedLenByteArrayType>().write_batch(&values, levels, None).unwrap()
                }
            };
            assert!(written <= 10_000);
            column.close().unwrap();
        }
        row_group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

fn read(content: &[u8], change: impl Fn(&mut ImportArgs)) -> (Vec<Event>, Vec<Reject>, Vec<FileFault>) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("events.parquet");
    std::fs::write(&path, content).unwrap();
    let mut args = ImportArgs::new(vec![path]);
    change(&mut args);
    let (mut events, mut rejects) = (Vec::new(), Vec::new());
    let faults = read_files(&args, &mut |mut portion| {
        rejects.append(&mut portion.rejects);
        if let Some(request) = &portion.request {
            events.extend(AppendRequest::decode(request.bytes.clone()).unwrap().events);
        }
        true
    });
    (events, rejects, faults)
}

const SCHEMA: &str = "message events {
    required fixed_len_byte_array(16) event_id (UUID);
    required binary visitor_id (UTF8);
    required int64 occurred_at (TIMESTAMP(MICROS,true));
    required binary name (ENUM);
    optional int64 sequence;
    optional binary title (STRING);
    optional int32 count;
    optional int32 unsigned (INTEGER(32,false));
    optional int64 large (INTEGER(64,false));
    optional double price;
    optional float ratio;
    optional boolean paid;
    optional int64 shipped (TIMESTAMP(NANOS,true));
    optional int32 day (DATE);
    optional int32 total (DECIMAL(9,2));
}";

fn all_types(rows: usize) -> Vec<(Data, Option<Vec<i16>>)> {
    // The last row lacks every optional value.
    let some = rows - 1;
    let levels = || Some((0..rows).map(|row| i16::from(row < some)).collect::<Vec<_>>());
    vec![
        (Data::Fixed((0..rows).map(|row| (row as u128).to_be_bytes().to_vec()).collect()), None),
        (Data::Text(vec!["0187"; rows]), None),
        (Data::Long(vec![T_MS * 1_000 + 999; rows]), None),
        (Data::Text(vec!["view"; rows]), None),
        (Data::Long(vec![-4; some]), levels()),
        (Data::Text(vec!["ä"; some]), levels()),
        (Data::Int(vec![-5; some]), levels()),
        (Data::Int(vec![-1; some]), levels()),
        (Data::Long(vec![-1; some]), levels()),
        (Data::Double(vec![12.5; some]), levels()),
        (Data::Float(vec![0.25; some]), levels()),
        (Data::Bool(vec![true; some]), levels()),
        (Data::Long(vec![1_501_570_840_000_000_001; some]), levels()),
        (Data::Int(vec![17_379; some]), levels()),
        (Data::Int(vec![1_999; some]), levels()),
    ]
}

#[test]
fn every_type_has_its_meaning() {
    let (events, rejects, faults) = read(&write(SCHEMA, vec![all_types(5_000), all_types(3)]), |_| ());
    assert!(rejects.is_empty() && faults.is_empty(), "{rejects:?} {faults:?}");
    assert_eq!(events.len(), 5_003);
    let first = &events[7];
    assert_eq!(first.event_id, "00000000-0000-0000-0000-000000000007");
    assert_eq!((first.visitor_id.as_str(), first.name.as_str()), ("0187", "view"));
    assert_eq!((first.time_ms, first.sequence), (Some(T_MS), Some(-4)));
    let expected = [
        ("title", Kind::StringValue("ä".into())),
        ("count", Kind::IntValue(-5)),
        ("unsigned", Kind::IntValue(4_294_967_295)),
        ("large", Kind::DoubleValue(18_446_744_073_709_551_615.0)),
        ("price", Kind::DoubleValue(12.5)),
        ("ratio", Kind::DoubleValue(0.25)),
        ("paid", Kind::BoolValue(true)),
        ("shipped", Kind::StringValue("2017-08-01T07:00:40.000000001Z".into())),
        ("day", Kind::StringValue("2017-08-01".into())),
        ("total", Kind::DoubleValue(19.99)),
    ];
    assert_eq!(first.properties.len(), expected.len());
    for (name, kind) in expected {
        assert_eq!(first.properties[name].kind, Some(kind), "{name}");
    }
    for last in [&events[4_999], &events[5_002]] {
        assert!(last.properties.is_empty() && last.sequence.is_none());
    }
}

#[test]
fn declared_types_convert() {
    let declare = |args: &mut ImportArgs| {
        let typed = ["count=string", "price=string", "total=string", "count=double"];
        args.property_types = typed.iter().map(|text| text.parse().unwrap()).collect();
    };
    let (events, rejects, _) = read(&write(SCHEMA, vec![all_types(2)]), declare);
    assert!(rejects.is_empty());
    assert_eq!(events[0].properties["count"].kind, Some(Kind::DoubleValue(-5.0)), "the last word counts");
    assert_eq!(events[0].properties["price"].kind, Some(Kind::StringValue("12.5".into())));
    let wrong = |args: &mut ImportArgs| args.property_types = vec!["count=bool".parse().unwrap()];
    let (events, rejects, _) = read(&write(SCHEMA, vec![all_types(2)]), wrong);
    assert_eq!((events.len(), rejects[0].reason.as_str(), rejects[0].line), (1, "VALUE_TYPE", 1));
    let shown: serde_json::Value = serde_json::from_slice(&rejects[0].original).unwrap();
    assert_eq!((&shown["visitor_id"], &shown["count"]), (&"0187".into(), &(-5).into()));
}

const PLAIN: &str = "message events {
    required binary visitor_id (UTF8);
    required int64 occurred_at;
    required binary name (UTF8);
    optional double price;
}";

#[test]
fn bad_rows_cost_only_themselves() {
    let columns = vec![
        (Data::Raw(vec![b"a".to_vec(), b"\xff".to_vec(), Vec::new(), b"d".to_vec(), b"e".to_vec()]), None),
        (Data::Long(vec![T_MS, T_MS, T_MS, i64::MAX, T_MS]), None),
        (Data::Text(vec!["view"; 5]), None),
        (Data::Double(vec![1.0, 2.0, 3.0, 4.0, f64::NAN]), Some(vec![1; 5])),
    ];
    let (events, rejects, faults) = read(&write(PLAIN, vec![columns]), |_| ());
    assert!(faults.is_empty());
    assert_eq!((events.len(), events[0].time_ms), (1, Some(T_MS)));
    let reasons: Vec<_> = rejects.iter().map(|reject| (reject.line, reject.reason.as_str())).collect();
    let expected = [
        (2, "TEXT_NOT_UTF8"),
        (3, "FIELD_MISSING"),
        (4, "EVENT_TIME_OUT_OF_RANGE"),
        (5, "NUMBER_NOT_FINITE"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn other_schemas_are_refused_as_a_whole() {
    let missing =
        write("message m { required binary user (UTF8); }", vec![vec![(Data::Text(vec!["a"]), None)]]);
    let (_, _, faults) = read(&missing, |_| ());
    let text = faults[0].to_string();
    assert!(text.contains("\"visitor_id\"") && text.contains("found: user"), "{text}");

    let nested = "message m {
        required binary visitor_id (UTF8); required int64 occurred_at; required binary name (UTF8);
        required group address { required binary city (UTF8); required binary zip (UTF8); }
    }";
    let columns = || {
        let text = |text| (Data::Text(vec![text]), None);
        vec![text("v"), (Data::Long(vec![T_MS]), None), text("view"), text("Ulm"), text("89073")]
    };
    let file = write(nested, vec![columns()]);
    let (_, _, faults) = read(&file, |_| ());
    assert!(
        matches!(&faults[0].cause, FaultCause::ColumnType { name, .. } if name == "address"),
        "{}",
        faults[0]
    );
    assert!(faults[0].to_string().contains("--ignore address"));
    let (events, _, faults) = read(&file, |args| args.ignore = vec!["address".into()]);
    assert_eq!((events.len(), faults.len()), (1, 0));

    let wrong = "message m { required binary visitor_id (UTF8); required boolean occurred_at; required binary name (UTF8); }";
    let text = |text| (Data::Text(vec![text]), None);
    let file = write(wrong, vec![vec![text("v"), (Data::Bool(vec![true]), None), text("view")]]);
    let (_, _, faults) = read(&file, |_| ());
    assert!(faults[0].to_string().contains("boolean, which a time cannot have"), "{}", faults[0]);
}

#[test]
fn damaged_files_are_a_fault_and_gzip_is_unpacked() {
    let whole = write(SCHEMA, vec![all_types(5_000), all_types(5_000)]);
    for cut in [4, 100, whole.len() / 2, whole.len() - 1] {
        let (events, _, faults) = read(&whole[..cut], |_| ());
        assert!(events.is_empty() && matches!(faults[0].cause, FaultCause::NotParquet(_)), "{cut}");
    }
    // Damage inside: an error or other values, never a crash, and never a row too many.
    let small = write(SCHEMA, vec![all_types(300), all_types(300)]);
    for at in (4..small.len() - 8).step_by(small.len() / 500 + 1) {
        let mut damaged = small.clone();
        damaged[at] ^= 0x55;
        let (events, rejects, faults) = read(&damaged, |_| ());
        assert!(events.len() + rejects.len() <= 600, "at {at}");
        assert!(!faults.is_empty() || events.len() + rejects.len() == 600, "at {at}");
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &whole).unwrap();
    let (events, _, faults) = read(&encoder.finish().unwrap(), |_| ());
    assert_eq!((events.len(), faults.len()), (10_000, 0));
    let (_, _, faults) = read(&write(PLAIN, Vec::new()), |_| ());
    assert!(matches!(faults[0].cause, FaultCause::Empty));
}
