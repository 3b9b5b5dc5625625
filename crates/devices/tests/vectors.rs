//! The rules against `tests/vectors.txt`, and what holds for any header.

use std::collections::BTreeSet;

use proptest::prelude::*;
use runnel_devices::{Device, Kind, Rules, limits};

/// The file's rows: kind, system, browser, header. A header may hold the mark between columns.
fn rows() -> Vec<[&'static str; 4]> {
    let lines = include_str!("vectors.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.splitn(4, '|').collect::<Vec<_>>().try_into().expect(line)).collect()
}

#[test]
fn every_vector_gets_its_device() {
    let rules = Rules::standard().unwrap();
    let (mut kinds, mut wrong) = (BTreeSet::new(), Vec::new());
    let rows = rows();
    for &[kind, os, browser, header] in &rows {
        let device = rules.classify(header);
        kinds.insert(device.kind.as_str());
        if (device.kind.as_str(), device.os, device.browser) != (kind, os, browser) {
            wrong.push(format!("{device:?}, not {kind}|{os}|{browser}: {header}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 120, "only {} vectors", rows.len());
    assert_eq!(kinds, Kind::ALL.map(Kind::as_str).into(), "every kind is some vector's");
}

#[test]
fn no_vector_is_there_twice() {
    let rows = rows();
    let headers: BTreeSet<&str> = rows.iter().map(|row| row[3]).collect();
    assert_eq!(headers.len(), rows.len());
}

#[test]
fn an_absent_header_is_no_bot() {
    assert_eq!(Rules::standard().unwrap().classify(""), Device::default());
    assert_eq!(Device::default(), Device { kind: Kind::Unknown, os: "", browser: "" });
}

#[test]
fn values_that_are_stored_never_change() {
    let texts = Kind::ALL.map(Kind::as_str);
    assert_eq!(texts, ["desktop", "mobile", "tablet", "tv", "console", "wearable", "bot", ""]);
}

#[test]
fn a_name_counts_up_to_the_limit() {
    let rules = Rules::standard().unwrap();
    let behind = |bytes: usize| rules.classify(&format!("{}Windows", " ".repeat(bytes))).os;
    assert_eq!(behind(limits::USER_AGENT_BYTES - 7), "Windows");
    assert_eq!(behind(limits::USER_AGENT_BYTES - 6), "");
}

/// Any text; often a vector, whole or with something put in; often longer than what is looked at.
fn header() -> impl Strategy<Value = String> {
    let vector = || prop::sample::select(rows()).prop_map(|row| row[3]);
    let any = || proptest::collection::vec(any::<u8>(), 0..60);
    let text = move || any().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    prop_oneof![
        text(),
        vector().prop_map(str::to_owned),
        (vector(), text(), vector()).prop_map(|(before, text, behind)| format!("{before}{text}{behind}")),
        (text(), 0_usize..60).prop_map(|(text, times)| text.repeat(times)),
    ]
}

proptest! {
    #[test]
    fn any_header_has_one_device(header in header()) {
        let rules = Rules::standard().unwrap();
        let device = rules.classify(&header);
        prop_assert_eq!(device, rules.clone().classify(&header));
        if device.kind == Kind::Bot {
            prop_assert_eq!(device, Device { kind: Kind::Bot, ..Device::default() });
        }
    }

    #[test]
    fn the_case_of_letters_does_not_matter(header in header()) {
        let rules = Rules::standard().unwrap();
        let device = rules.classify(&header);
        prop_assert_eq!(device, rules.classify(&header.to_ascii_lowercase()));
        prop_assert_eq!(device, rules.classify(&header.to_ascii_uppercase()));
    }

    #[test]
    fn what_stands_behind_the_limit_does_not_matter(start in header(), one in header(), two in header()) {
        let rules = Rules::standard().unwrap();
        // Filled up to the limit, or just over it: the last character may be cut in two.
        let mut start = start;
        for filler in ["ü", "x"].into_iter().cycle() {
            if start.len() >= limits::USER_AGENT_BYTES {
                break;
            }
            start.push_str(filler);
        }
        let device = rules.classify(&start);
        prop_assert_eq!(device, rules.classify(&format!("{start}{one}")));
        prop_assert_eq!(device, rules.classify(&format!("{start}{two}")));
    }
}
