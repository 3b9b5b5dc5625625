//! What a server tells those who run it: plain HTTP, and Prometheus text read as strictly as its format is written.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
};

/// Status and body of `GET path`.
pub(crate) fn get(ops: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(ops).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {ops}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The numbers of `/metrics`, by `name{labels}`.
pub(crate) fn numbers(ops: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(ops, "/metrics");
    assert_eq!(status, 200);
    parse(&text)
}

/// What a line's number is counted as, without what histograms put behind the name.
fn family<'a>(name: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"].iter();
    let mut stripped = parts.filter_map(|part| name.strip_suffix(part));
    stripped.find(|base| kinds.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// Reads Prometheus text, version 0.0.4. Panics where it is not as the format says.
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(is_name(help.split_once(' ').unwrap().0), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (series, ""),
            };
            assert!(is_name(name) && kinds.contains_key(family(name, &kinds)), "no type before {line}");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(is_name(label) && !value.trim_end_matches('"').contains('"'), "{line}");
            }
            let number: f64 = value.replace("+Inf", "inf").parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(numbers.insert(series.to_owned(), number).is_none(), "twice: {line}");
        }
    }
    for (name, kind) in kinds {
        assert!((kind == "counter") == name.ends_with("_total"), "{name} is a {kind}");
    }
    numbers
}
