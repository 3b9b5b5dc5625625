//! Exports of other products, imported into a data folder: what is counted, who is who, and what a dry run tells.
#![cfg(test)]

use std::path::PathBuf;

use prost::Message;
use runnel::{
    import::{Format, ImportArgs, Summary, read_files, run},
    target::{Target, TargetArgs},
};
use runnel_client::proto::{
    event::v1::{Campaign, Event, Money, value::Kind},
    funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
    identity::v1::GetIdentityRequest,
    ingest::v1::AppendRequest,
    query::v1::{EventMatch, TimeRange},
};

/// 2024-05-01T00:00:00Z.
const START: i64 = 1_714_521_600_000;
const DAY: i64 = 24 * 3_600_000;

/// What an export is known to come to.
struct Expected {
    format: Format,
    name: &'static str,
    rows: u64,
    accepted: u64,
    silent: u64,
    rejected: &'static [(&'static str, u64)],
    identifications: u64,
    left_out: u64,
    /// An anonymous id and the visitor that it counts as.
    identity: (&'static str, &'static str),
    /// What one visitor did under an anonymous id, and then under a known one.
    funnel: [&'static str; 2],
    /// Lines of the mapping.
    mapping: &'static [(&'static str, &'static str, u64)],
}

const EXPECTED: [Expected; 5] = [
    Expected {
        format: Format::Ga4,
        name: "ga4",
        rows: 11,
        accepted: 9,
        silent: 0,
        rejected: &[("FIELD_MISSING", 1), ("TIME_MALFORMED", 1)],
        identifications: 2,
        left_out: 0,
        identity: ("2002.1714644000", "customer-1"),
        funnel: ["view_item", "purchase"],
        mapping: &[
            ("user_id", "visitor_id, known", 3),
            ("user_pseudo_id", "visitor_id, anonymous", 9),
            ("ecommerce.purchase_revenue", "value.micros", 1),
            ("ecommerce.purchase_revenue_in_usd", "value.micros, in USD", 1),
            ("device.category", "property device", 9),
            ("event_params.page_title", "property page_title", 1),
            ("event_date", "left out: not of the event", 9),
        ],
    },
    Expected {
        format: Format::Mixpanel,
        name: "mixpanel",
        rows: 13,
        accepted: 9,
        silent: 3,
        rejected: &[("FIELD_MISSING", 1)],
        identifications: 4,
        left_out: 2,
        identity: ("d-1", "user-1"),
        funnel: ["Sign Up Started", "Invoice Paid"],
        mapping: &[
            ("properties.$insert_id", "event_id", 12),
            ("properties.$anon_id", "identification", 1),
            ("properties.utm_campaign", "campaign.name", 1),
            ("properties.gclid", "campaign.click_id", 1),
            ("properties.revenue", "value.micros", 1),
            ("properties.revenue", "property revenue", 1),
            ("properties.address", "left out: an object or a list", 1),
        ],
    },
    Expected {
        format: Format::Kissmetrics,
        name: "kissmetrics",
        rows: 12,
        accepted: 7,
        silent: 3,
        rejected: &[("FIELD_MISSING", 1), ("TIME_MALFORMED", 1)],
        identifications: 2,
        left_out: 1,
        identity: ("b+dfRQ2ggFV3QOUkaZeYL4AEL2A=", "ada@example.com"),
        funnel: ["Viewed Product", "Purchased"],
        mapping: &[
            ("_n", "name", 7),
            ("_p2", "visitor_id, anonymous", 2),
            ("campaign source", "campaign.source", 1),
            ("lines", "left out: an object or a list", 1),
        ],
    },
    Expected {
        format: Format::Posthog,
        name: "posthog",
        rows: 13,
        accepted: 7,
        silent: 4,
        rejected: &[("TIME_MALFORMED", 1), ("VALUE_TYPE", 1)],
        identifications: 3,
        left_out: 2,
        identity: ("anon-1", "user-1"),
        funnel: ["signup started", "paid"],
        mapping: &[
            ("uuid", "event_id", 11),
            ("properties.alias", "identification", 2),
            ("properties.$device_type", "property device", 1),
            ("properties.currency", "property currency", 1),
            ("person_id", "left out: not of the event", 1),
        ],
    },
    Expected {
        format: Format::Segment,
        name: "segment",
        rows: 12,
        accepted: 7,
        silent: 3,
        rejected: &[("FIELD_MISSING", 1), ("JSON_MALFORMED", 1)],
        identifications: 2,
        left_out: 1,
        identity: ("anon-1", "user-1"),
        funnel: ["Signup Started", "Order Completed"],
        mapping: &[
            ("type", "what sort of row it is", 10),
            ("previousId", "identification", 1),
            ("context.campaign.term", "campaign.term", 1),
            ("properties.path", "property page", 1),
            ("context.page.path", "property page", 1),
            ("properties.total", "property total", 1),
        ],
    },
];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/tests/fixtures/imports/{name}.ndjson", env!("CARGO_MANIFEST_DIR")))
}

/// An import of a copy of the fixture, because rejected rows are written beside it.
fn import_args(folder: &tempfile::TempDir, format: Format, name: &str) -> ImportArgs {
    let path = folder.path().join(format!("{name}.json"));
    std::fs::copy(fixture(name), &path).unwrap();
    ImportArgs { format: Some(format), ..ImportArgs::new(vec![path]) }
}

async fn open(folder: &tempfile::TempDir) -> Target {
    let data_dir = Some(folder.path().join("data"));
    let target = TargetArgs { endpoint: None, key: None, data_dir, tenant: Some("shop".to_owned()) };
    target.open(true).await.unwrap()
}

fn counts(summary: &Summary) -> (u64, u64, u64, Vec<(&str, u64)>, u64, u64) {
    let rejected = summary.rejected.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let Summary { rows, accepted, stored_before, rows_without_event, identifications, .. } = summary;
    (
        *rows,
        accepted + stored_before,
        *rows_without_event,
        rejected,
        *identifications,
        summary.properties_left_out,
    )
}

/// How many visitors did the first, and then the second.
async fn reached(target: &Target, steps: [&str; 2]) -> Vec<u64> {
    let step = |event: &str| Step {
        any_of: vec![EventMatch { event: event.to_owned(), ..EventMatch::default() }],
        ..Step::default()
    };
    let funnel = FunnelDefinition {
        steps: steps.into_iter().map(step).collect(),
        window_ms: Some(7 * DAY),
        ..FunnelDefinition::default()
    };
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(funnel)),
        range: Some(TimeRange { from_ms: Some(START), until_ms: Some(START + 3 * DAY) }),
        ..QueryFunnelRequest::default()
    };
    let answer = target.client.funnel().query_funnel(request).await.unwrap().into_inner();
    answer.steps.iter().map(|step| step.reached).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_export_is_imported_once_and_its_visitors_are_whole() {
    for expected in &EXPECTED {
        let folder = tempfile::tempdir().unwrap();
        let mut args = import_args(&folder, expected.format, expected.name);
        let target = open(&folder).await;
        args.dry_run = true;
        let dry = run(&args, &target.client, false).await.unwrap();
        let all = (
            expected.rows,
            expected.accepted,
            expected.silent,
            expected.rejected.to_vec(),
            expected.identifications,
            expected.left_out,
        );
        assert_eq!(counts(&dry), all, "{}: {dry}", expected.name);
        let mapping: Vec<_> = dry
            .mapping
            .iter()
            .map(|mapped| (mapped.from.as_str(), mapped.to.as_str(), mapped.rows))
            .collect();
        for line in expected.mapping {
            assert!(mapping.contains(line), "{}: {line:?} is not in {mapping:#?}", expected.name);
        }
        let shown = dry.to_string();
        assert!(shown.contains("becomes") && shown.contains("identifications to be sent"), "{shown}");
        let json = serde_json::to_value(&dry).unwrap();
        assert_eq!(json["identifications"], expected.identifications);
        assert_eq!(json["mapping"].as_array().unwrap().len(), mapping.len());

        args.dry_run = false;
        let first = run(&args, &target.client, false).await.unwrap();
        assert_eq!(counts(&first), all, "{}: {first}", expected.name);
        assert_eq!((first.stored_before, first.mapping.len()), (0, 0), "a dry run stores nothing");
        assert_eq!(first.identified.get("linked"), Some(&expected.identifications), "{first}");
        assert!(first.to_string().contains("identifications sent"));

        let (anonymous, visitor) = expected.identity;
        let request = GetIdentityRequest { id: anonymous.to_owned() };
        let identity = target.client.identity().get_identity(request).await.unwrap().into_inner();
        assert_eq!(identity.visitor_id, visitor);
        assert_eq!(reached(&target, expected.funnel).await, [1, 1], "{}", expected.name);

        let again = run(&args, &target.client, false).await.unwrap();
        assert_eq!(
            (again.accepted, again.stored_before),
            (0, expected.accepted),
            "{}: {again}",
            expected.name
        );
        assert_eq!(again.identified.get("already_linked"), Some(&expected.identifications), "{again}");
        assert_eq!(reached(&target, expected.funnel).await, [1, 1], "{}", expected.name);
        target.close().await;
    }
}

/// The events of a fixture as they are sent.
fn events(format: Format, name: &str) -> Vec<Event> {
    let args = ImportArgs { format: Some(format), ..ImportArgs::new(vec![fixture(name)]) };
    let mut events = Vec::new();
    let faults = read_files(&args, &mut |portion| {
        let request = portion.request.map(|request| AppendRequest::decode(request.bytes).unwrap());
        events.extend(request.into_iter().flat_map(|request| request.events));
        true
    });
    assert!(faults.is_empty(), "{faults:?}");
    events
}

fn text<'e>(event: &'e Event, name: &str) -> &'e str {
    match event.properties.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        other => panic!("{name} is {other:?} in {event:?}"),
    }
}

#[test]
fn campaigns_money_and_devices_are_where_they_belong() {
    for (format, name, campaign, page, device, money) in [
        (Format::Ga4, "ga4", 0, "https://shop.example/", Some("mobile"), (5, 59_980_000, "EUR")),
        (Format::Mixpanel, "mixpanel", 0, "/pricing", Some("iPhone"), (3, 49_900_000, "EUR")),
        (Format::Kissmetrics, "kissmetrics", 1, "https://shop.example/", None, (3, 59_980_000, "EUR")),
        (Format::Posthog, "posthog", 0, "/pricing", Some("Mobile"), (3, 49_900_000, "EUR")),
        (Format::Segment, "segment", 0, "/pricing", None, (3, 25_000_000, "USD")),
    ] {
        let events = events(format, name);
        let Campaign { source, medium, name: title, content, click_id, .. } =
            events[campaign].campaign.clone().unwrap();
        assert_eq!((source.as_str(), medium.as_str(), title.as_str()), ("google", "cpc", "spring"), "{name}");
        assert_eq!(content, "blue", "{name}");
        let clicks = ["ga4", "mixpanel", "posthog"].contains(&name);
        assert_eq!(click_id, if clicks { "gclid=Cj0KCQ" } else { "" }, "{name}");
        assert_eq!(text(&events[0], "page"), page, "{name}");
        if let Some(device) = device {
            assert_eq!(text(&events[0], "device"), device, "{name}");
        }
        let (at, micros, currency) = money;
        assert_eq!(events[at].value, Some(Money { micros, currency: currency.to_owned() }), "{name}");
    }
    let ga4 = events(Format::Ga4, "ga4");
    assert_eq!((ga4[0].time_ms, ga4[0].sequence), (Some(1_714_557_600_123), Some(456)));
    assert_eq!(ga4[0].campaign.as_ref().map(|campaign| campaign.id.as_str()), Some("c7"));
    assert_eq!(
        text(&ga4[0], "first_source"),
        "(direct)",
        "the first visit's source is no campaign of this event"
    );
    assert_eq!(text(&ga4[5], "transaction_id"), "order-1");
    let segment = events(Format::Segment, "segment");
    assert_eq!((segment[0].name.as_str(), segment[0].event_id.as_str()), ("page", "ajs-01"));
    assert_eq!((segment[5].name.as_str(), text(&segment[5], "page_name")), ("screen_view", "Cart"));
    assert_eq!(text(&segment[5], "device"), "ios");
}

#[tokio::test]
async fn packed_exports_are_read_and_options_about_columns_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = import_args(&folder, Format::Segment, "segment");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &std::fs::read(&args.files[0]).unwrap()).unwrap();
    std::fs::write(&args.files[0], encoder.finish().unwrap()).unwrap();
    let target = open(&folder).await;
    assert_eq!(run(&args, &target.client, false).await.unwrap().accepted, 7);
    args.visitor = Some("userId".to_owned());
    let refused = run(&args, &target.client, false).await.unwrap_err().to_string();
    assert!(refused.contains("--visitor does not go with an export of Segment"), "{refused}");
    target.close().await;
}
