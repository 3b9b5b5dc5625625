//! Rows of every product, as their edges have them.

use prost::Message;
use runnel_client::proto::{
    event::v1::{Event, Money, value::Kind},
    identity::v1::Identification,
    ingest::v1::AppendRequest,
};

use super::check_options;
use crate::import::{Format, ImportArgs, read_files};

/// What one file came to.
#[derive(Default)]
struct Outcome {
    events: Vec<Event>,
    identifications: Vec<Identification>,
    silent: u64,
    rejects: Vec<(String, String)>,
}

impl Outcome {
    fn of(format: Format, lines: &[&str], change: impl Fn(&mut ImportArgs)) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.json");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut args = ImportArgs { format: Some(format), ..ImportArgs::new(vec![path]) };
        change(&mut args);
        check_options(&args).unwrap();
        let mut outcome = Outcome::default();
        let faults = read_files(&args, &mut |portion| {
            outcome.silent += portion.silent;
            outcome.identifications.extend(portion.identifications);
            outcome.rejects.extend(portion.rejects.into_iter().map(|reject| (reject.reason, reject.message)));
            if let Some(request) = portion.request {
                outcome.events.extend(AppendRequest::decode(request.bytes).unwrap().events);
            }
            true
        });
        assert!(faults.is_empty(), "{faults:?}");
        outcome
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.identifications.iter().map(|one| (one.anonymous_id.as_str(), one.known_id.as_str())).collect()
    }

    fn reasons(&self) -> Vec<&str> {
        self.rejects.iter().map(|(reason, _)| reason.as_str()).collect()
    }
}

fn read(format: Format, lines: &[&str]) -> Outcome {
    Outcome::of(format, lines, |_| ())
}

fn property<'e>(event: &'e Event, name: &str) -> Option<&'e Kind> {
    event.properties.get(name).and_then(|value| value.kind.as_ref())
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

#[test]
fn microseconds_are_cut_and_kept_as_the_order() {
    let row = |time: &str| format!(r#"{{"event_timestamp":{time},"event_name":"x","user_pseudo_id":"v"}}"#);
    let rows = [row("\"1714557600123999\""), row("-1"), row("1.5"), row("\"\""), row("9223372036854775807")];
    let outcome = read(Format::Ga4, &rows.each_ref().map(String::as_str));
    let times: Vec<_> = outcome.events.iter().map(|event| (event.time_ms, event.sequence)).collect();
    assert_eq!(times, [(Some(1_714_557_600_123), Some(999)), (Some(-1), Some(999))]);
    assert_eq!(outcome.reasons(), ["TIME_MALFORMED", "FIELD_MISSING", "EVENT_TIME_OUT_OF_RANGE"]);
    assert!(outcome.rejects[0].1.contains("microseconds since 1970"), "{}", outcome.rejects[0].1);
}

#[test]
fn seconds_are_exact_and_may_be_of_a_zone() {
    let row = |time: &str| format!(r#"{{"event":"x","properties":{{"time":{time},"distinct_id":"v"}}}}"#);
    let rows = [row("1714557600"), row("1714557600.123"), row("1714557600123"), row("\"1714557600\"")];
    let rows = rows.each_ref().map(String::as_str);
    let times =
        |outcome: Outcome| outcome.events.iter().map(|event| event.time_ms.unwrap()).collect::<Vec<_>>();
    let utc = [1_714_557_600_000, 1_714_557_600_123, 1_714_557_600_123, 1_714_557_600_000];
    assert_eq!(times(read(Format::Mixpanel, &rows)), utc);
    let pacific = |args: &mut ImportArgs| args.project_time_zone = Some("US/Pacific".to_owned());
    // In May clocks there are seven hours behind UTC: what they showed happened seven hours later.
    let expected = utc.map(|ms| ms + 7 * 3_600_000);
    assert_eq!(times(Outcome::of(Format::Mixpanel, &rows, pacific)), expected);
}

#[test]
fn the_known_id_is_the_visitor_and_pairs_go_once_with_their_earliest_time() {
    let row = |second: u8, user: &str, anonymous: &str| {
        format!(
            r#"{{"type":"track","event":"x","timestamp":"2024-05-01T10:00:0{second}Z","userId":{user},"anonymousId":{anonymous}}}"#
        )
    };
    let rows = [
        row(5, "\"u\"", "\"a\""),
        row(3, "\"u\"", "\"a\""),
        row(7, "7", "null"),
        row(1, "\"\"", "\"a\""),
        row(1, "null", "null"),
        row(2, "\"same\"", "\"same\""),
    ];
    let outcome = read(Format::Segment, &rows.each_ref().map(String::as_str));
    let visitors: Vec<_> = outcome.events.iter().map(|event| event.visitor_id.as_str()).collect();
    assert_eq!(visitors, ["u", "u", "7", "a", "same"]);
    assert_eq!(outcome.pairs(), [("a", "u")]);
    assert_eq!(outcome.identifications[0].time_ms, Some(1_714_557_603_000));
    assert_eq!(outcome.reasons(), ["FIELD_MISSING"]);
    assert!(outcome.rejects[0].1.contains("userId, nor in anonymousId"), "{}", outcome.rejects[0].1);
}

#[test]
fn rows_about_ids_are_no_events() {
    let mixpanel = read(
        Format::Mixpanel,
        &[
            r#"{"event":"$identify","properties":{"time":1,"distinct_id":"u","$identified_id":"u","$anon_id":"$device:a"}}"#,
            r#"{"event":"$create_alias","properties":{"time":1,"distinct_id":"b","alias":"u2"}}"#,
            r#"{"event":"$merge","properties":{"time":1,"$distinct_ids":["c","u"]}}"#,
            r#"{"event":"$merge","properties":{"time":1,"$distinct_ids":["c"]}}"#,
            r#"{"event":"x","properties":{"time":1,"distinct_id":"$device:d","$user_id":"u","$device_id":"d","alias":"kept"}}"#,
        ],
    );
    assert_eq!(mixpanel.pairs(), [("a", "u"), ("b", "u2"), ("c", "u"), ("d", "u")]);
    assert_eq!((mixpanel.silent, mixpanel.events.len(), mixpanel.reasons()), (3, 1, vec!["FIELD_MISSING"]));
    assert_eq!(property(&mixpanel.events[0], "alias"), Some(&text("kept")));
    let kissmetrics = read(
        Format::Kissmetrics,
        &[
            r#"{"_p":"b+dfRQ2ggFV3QOUkaZeYL4AEL2A=","_p2":"ada","_t":1}"#,
            r#"{"_p":"ada","_p2":"ada@work","_t":1}"#,
            r#"{"_p":"ada","_t":1,"plan":"gold"}"#,
            r#"{"_t":1,"plan":"gold"}"#,
        ],
    );
    assert_eq!(kissmetrics.pairs(), [("ada@work", "ada"), ("b+dfRQ2ggFV3QOUkaZeYL4AEL2A=", "ada")]);
    assert_eq!((kissmetrics.silent, kissmetrics.reasons()), (3, vec!["FIELD_MISSING"]));
}

#[test]
fn money_needs_a_currency() {
    let row = |properties: &str| {
        format!(
            r#"{{"event":"x","distinct_id":"v","timestamp":"2024-05-01T10:00:00Z","properties":{{{properties}}}}}"#
        )
    };
    let rows = [
        row(r#""revenue":19.99,"total":21,"currency":"eur""#),
        row(r#""value":"-0.5","currency":"USD""#),
        row(r#""revenue":19.99"#),
        row(r#""revenue":"$5","total":4,"currency":"USD""#),
        row(r#""revenue":5,"currency":"coins""#),
    ];
    let outcome = read(Format::Posthog, &rows.each_ref().map(String::as_str));
    let money = |micros, currency: &str| Some(Money { micros, currency: currency.to_owned() });
    let values: Vec<_> = outcome.events.iter().map(|event| event.value.clone()).collect();
    assert_eq!(
        values,
        [money(19_990_000, "EUR"), money(-500_000, "USD"), None, money(4_000_000, "USD"), None]
    );
    assert_eq!(property(&outcome.events[0], "total"), Some(&Kind::IntValue(21)));
    assert_eq!(
        (property(&outcome.events[0], "revenue"), property(&outcome.events[0], "currency")),
        (None, None)
    );
    assert_eq!(property(&outcome.events[2], "revenue"), Some(&Kind::DoubleValue(19.99)));
    assert_eq!(property(&outcome.events[3], "revenue"), Some(&text("$5")));
    assert_eq!(property(&outcome.events[4], "currency"), Some(&text("coins")));
}

#[test]
fn too_many_properties_cost_the_products_own_first() {
    let own: Vec<String> = (0..70).map(|n| format!("\"$internal{n:02}\":{n}")).collect();
    let line = format!(
        r#"{{"event":"x","distinct_id":"v","timestamp":"2024-05-01T10:00:00Z","properties":{{{},"$pathname":"/","zone":"z","page":"mine","list":[],"long":"{}","":1}}}}"#,
        own.join(","),
        "x".repeat(9_000)
    );
    let outcome = read(Format::Posthog, &[&line]);
    let event = &outcome.events[0];
    assert_eq!(event.properties.len(), 64);
    assert_eq!((property(event, "page"), property(event, "zone")), (Some(&text("/")), Some(&text("z"))));
    assert!(property(event, "$internal61").is_some() && property(event, "$internal62").is_none());
    assert!(property(event, "list").is_none() && property(event, "long").is_none());
}

#[test]
fn long_click_identifiers_leave_their_kind() {
    let line = format!(
        r#"{{"event":"x","distinct_id":"v","timestamp":"2024-05-01T10:00:00Z","properties":{{"$gclid":"{}","utm_source":"{}"}}}}"#,
        "c".repeat(300),
        "s".repeat(300)
    );
    let outcome = read(Format::Posthog, &[&line]);
    let campaign = outcome.events[0].campaign.clone().unwrap();
    assert_eq!((campaign.click_id.as_str(), campaign.source.as_str()), ("gclid", ""));
    assert!(property(&outcome.events[0], "utm_source").is_some(), "what is no campaign stays a property");
}

#[test]
fn properties_may_be_ignored_and_typed() {
    let lines = [
        r#"{"type":"track","event":"x","userId":"u","timestamp":"2024-05-01T10:00:00Z","properties":{"price":5,"secret":"s"}}"#,
        r#"{"type":"track","event":"x","userId":"u","timestamp":"2024-05-01T10:00:00Z","properties":{"price":"much"}}"#,
    ];
    let outcome = Outcome::of(Format::Segment, &lines, |args| {
        args.property_types = vec!["price=double".parse().unwrap()];
        args.ignore = vec!["secret".to_owned()];
    });
    assert_eq!(property(&outcome.events[0], "price"), Some(&Kind::DoubleValue(5.0)));
    assert_eq!((property(&outcome.events[0], "secret"), outcome.reasons()), (None, vec!["VALUE_TYPE"]));
}

#[test]
fn options_that_name_columns_are_refused() {
    let refused = |format: Option<Format>, change: &dyn Fn(&mut ImportArgs)| {
        let mut args = ImportArgs { format, ..ImportArgs::new(Vec::new()) };
        change(&mut args);
        check_options(&args).err().map(|refused| refused.to_string())
    };
    let visitor = |args: &mut ImportArgs| args.visitor = Some("user".to_owned());
    let told = refused(Some(Format::Ga4), &visitor).unwrap();
    assert!(told.starts_with("--visitor does not go with an export of GA4"), "{told}");
    assert_eq!(refused(Some(Format::Ndjson), &visitor), None);
    assert_eq!(refused(None, &visitor), None);
    let zone =
        |name: &'static str| move |args: &mut ImportArgs| args.project_time_zone = Some(name.to_owned());
    assert_eq!(refused(Some(Format::Mixpanel), &zone("Europe/Berlin")), None);
    assert!(refused(Some(Format::Mixpanel), &zone("Berlin")).unwrap().contains("IANA"));
    assert!(refused(Some(Format::Segment), &zone("Europe/Berlin")).unwrap().contains("mixpanel only"));
}
