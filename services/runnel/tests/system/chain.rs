//! From an ad to a shipped order: one funnel over what others counted by day, e-mails, the site and the warehouse, each step with a ratio that has a name.

use runnel_client::{
    Client, Refusal,
    proto::{
        catalog::v1::{
            ApplyCatalogRequest, CatalogDocument, DailyCount, ListDailyCountsRequest, PutDailyCountsRequest,
            PutDailyCountsResponse, Settings,
        },
        event::v1::{Event, Money, OffSite},
        funnel::v1::{
            CountedStep, DefineFunnelRequest, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse,
            Step, query_funnel_request::Funnel,
        },
        query::v1::{EventMatch, TimeRange},
    },
};
use runnel_harness::Deployment;
use tonic::{Status, transport::Channel};

use crate::places::everywhere;

everywhere!(from_ad_to_shipment);

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// 2026-03-01T00:00:00+01:00, when a day begins in Berlin.
const START: i64 = 1_772_319_600_000;

/// The steps behind the ad: how many of 100 visitors come so far, where it happens, and what the share is called.
const STEPS: [(&str, OffSite, i64, &str); 7] = [
    ("opt_in", OffSite::Unspecified, 100, "visit rate"),
    ("email_opened", OffSite::EmailOpened, 60, "open rate"),
    ("email_clicked", OffSite::EmailClicked, 30, "click-to-open rate"),
    ("add_to_cart", OffSite::Unspecified, 20, "cart rate"),
    ("order_form", OffSite::Unspecified, 15, "checkout rate"),
    ("payment", OffSite::Payment, 12, "payment rate"),
    ("shipped", OffSite::Shipment, 11, "fulfilment rate"),
];

fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for visitor in 0..100 {
        for (at, (name, off_site, reached, _)) in (0..).zip(STEPS) {
            if visitor < reached {
                events.push(Event {
                    event_id: format!("{name}-{visitor}"),
                    visitor_id: format!("v{visitor}"),
                    time_ms: Some(START + visitor * 20 * MINUTE + at * 3 * 60 * MINUTE),
                    name: name.to_owned(),
                    off_site: off_site as i32,
                    ..Event::default()
                });
            }
        }
    }
    events
}

fn counted(what: OffSite, metric: &str) -> CountedStep {
    let campaign = "spring".to_owned();
    CountedStep { what: what as i32, campaign, metric: metric.to_owned(), ..CountedStep::default() }
}

fn chain() -> FunnelDefinition {
    let step = |name: &str, metric: &str| Step {
        any_of: vec![EventMatch { event: name.to_owned(), ..EventMatch::default() }],
        metric: metric.to_owned(),
        ..Step::default()
    };
    FunnelDefinition {
        counted: vec![counted(OffSite::AdImpression, ""), counted(OffSite::AdClick, "click-through rate")],
        steps: STEPS.iter().map(|(name, .., metric)| step(name, metric)).collect(),
        ..FunnelDefinition::default()
    }
}

fn count(date: &str, what: OffSite, campaign: &str, count: u64, cost: Option<(i64, &str)>) -> DailyCount {
    let cost = cost.map(|(micros, currency)| Money { micros, currency: currency.to_owned() });
    DailyCount {
        date: date.to_owned(),
        what: what as i32,
        source: "google".to_owned(),
        medium: "cpc".to_owned(),
        campaign: campaign.to_owned(),
        count,
        cost,
    }
}

async fn put(client: &Client<Channel>, counts: Vec<DailyCount>) -> Result<PutDailyCountsResponse, Status> {
    Ok(client.catalog().put_daily_counts(PutDailyCountsRequest { counts }).await?.into_inner())
}

async fn ask(client: &Client<Channel>, range: (Option<i64>, Option<i64>)) -> QueryFunnelResponse {
    let request = QueryFunnelRequest {
        funnel: Some(Funnel::Name("ad to shipment".to_owned())),
        range: Some(TimeRange { from_ms: range.0, until_ms: range.1 }),
        ..QueryFunnelRequest::default()
    };
    client.funnel().query_funnel(request).await.unwrap().into_inner()
}

/// Counts and ratios of the counted steps, and the ratio of the first step to them.
fn leading(answer: &QueryFunnelResponse) -> (Vec<(u64, Option<f64>)>, Option<f64>) {
    let counted = answer.counted.iter().map(|step| (step.count, step.of_previous)).collect();
    (counted, answer.steps[0].of_counted)
}

async fn from_ad_to_shipment(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    writer.append(events(), None).await.unwrap();
    let settings = Some(Settings { time_zone: "Europe/Berlin".to_owned(), ..Settings::default() });
    let document = CatalogDocument { settings, ..CatalogDocument::default() };
    let request = ApplyCatalogRequest { document: Some(document), ..ApplyCatalogRequest::default() };
    client.catalog().apply_catalog(request).await.unwrap();
    let request = DefineFunnelRequest {
        name: "ad to shipment".to_owned(),
        definition: Some(chain()),
        ..DefineFunnelRequest::default()
    };
    client.funnel().define_funnel(request).await.unwrap();
    let answer = ask(&client, (None, None)).await;
    assert_eq!(leading(&answer), (vec![(0, None), (0, None)], None));
    let notes = answer.provenance.unwrap().notes.join(" ");
    assert!(notes.contains("There are no daily counts"), "{notes}");

    // Two days of the campaign, a day before, another campaign, and two currencies.
    let (impression, click) = (OffSite::AdImpression, OffSite::AdClick);
    let euro = |micros| Some((micros, "EUR"));
    let counts = vec![
        count("2026-02-28", click, "spring", 1_000, euro(90_000_000)),
        count("2026-03-01", impression, "spring", 6_000, None),
        count("2026-03-01", click, "spring", 150, euro(60_000_000)),
        count("2026-03-01", click, "summer", 77, euro(1_000_000)),
        count("2026-03-02", impression, "spring", 4_000, None),
        count("2026-03-02", click, "spring", 90, Some((5_000_000, "CHF"))),
    ];
    assert_eq!(put(&client, counts.clone()).await.unwrap().changed_days, 3);
    assert_eq!(put(&client, counts.clone()).await.unwrap().changed_days, 0, "again changes nothing");
    let march = (Some(START), Some(START + 31 * DAY));
    let answer = ask(&client, march).await;
    assert_eq!(leading(&answer), (vec![(10_000, None), (240, Some(0.024))], Some(100.0 / 240.0)));
    let reached: Vec<u64> = answer.steps.iter().map(|step| step.reached).collect();
    assert_eq!(reached, [100, 60, 30, 20, 15, 12, 11]);
    let names: Vec<&str> = answer.counted.iter().map(|step| &*step.metric).collect();
    assert_eq!(names, ["", "click-through rate"]);
    let names: Vec<&str> = answer.steps.iter().map(|step| &*step.metric).collect();
    assert_eq!(names, STEPS.map(|(.., metric)| metric));
    let each = |step: usize| -> Vec<(i64, &str)> {
        answer.steps[step].cost_each.iter().map(|cost| (cost.micros, &*cost.currency)).collect()
    };
    assert_eq!(each(0), [(50_000, "CHF"), (600_000, "EUR")]);
    assert_eq!(each(6), [(5_000_000 / 11, "CHF"), (60_000_000 / 11, "EUR")]);
    assert_eq!(answer.counted[1].cost_each[1].micros, 60_000_000 / 240);
    let labels: Vec<&str> = answer.counted.iter().map(|step| &*step.label).collect();
    assert_eq!(labels, ["ad_impression", "ad_click"]);
    let notes = answer.provenance.clone().unwrap().notes.join(" ");
    assert!(notes.contains("whole days, from 2026-03-01 to 2026-03-02"), "{notes}");
    // Days belong to a range in which they begin, in the tenant's time zone.
    let second = ask(&client, (Some(START + 1), Some(START + DAY + 1))).await;
    assert_eq!(leading(&second).0, [(4_000, None), (90, Some(90.0 / 4_000.0))]);
    assert_eq!(leading(&ask(&client, (Some(START - 5 * DAY), None)).await).0[1].0, 1_240);
    // Without a beginning, clicks count from the first day that has events, as visitors do.
    assert_eq!(leading(&ask(&client, (None, None)).await).0[1].0, 240);

    // Networks correct what they said; a count of nothing takes it back.
    let corrected = vec![
        count("2026-03-01", click, "spring", 140, euro(55_000_000)),
        count("2026-03-01", click, "summer", 0, None),
    ];
    let kept = put(&client, corrected).await.unwrap();
    assert_eq!(kept.changed_days, 1);
    let answer = ask(&client, march).await;
    assert_eq!(answer.counted[1].count, 230);
    assert_eq!(answer.provenance.unwrap().revision.unwrap().definition, kept.version);
    pages(&client).await;
    refusals(&client).await;
}

/// Lists by date, page by page.
async fn pages(client: &Client<Channel>) {
    let (mut dates, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListDailyCountsRequest { page_size: 2, page_token, ..ListDailyCountsRequest::default() };
        let page = client.catalog().list_daily_counts(request).await.unwrap().into_inner();
        dates.extend(page.counts.into_iter().map(|one| one.date));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(dates, ["2026-02-28", "2026-03-01", "2026-03-01", "2026-03-02", "2026-03-02"]);
    let request = ListDailyCountsRequest {
        from_date: "2026-03-01".to_owned(),
        until_date: "2026-03-02".to_owned(),
        ..ListDailyCountsRequest::default()
    };
    let page = client.catalog().list_daily_counts(request).await.unwrap().into_inner();
    assert_eq!((page.counts.len(), page.counts[1].count, &*page.next_page_token), (2, 140, ""));
}

/// What is wrong is named, and nothing of the request is kept.
async fn refusals(client: &Client<Channel>) {
    let good = count("2026-03-05", OffSite::AdClick, "spring", 1, None);
    let bad = DailyCount { date: "5 March".to_owned(), ..good.clone() };
    let refusal = Refusal::from(put(client, vec![good, bad]).await.unwrap_err());
    assert_eq!((&*refusal.reason, &*refusal.violations[0].field), ("DAILY_COUNT_INVALID", "counts[1].date"));
    let request = ListDailyCountsRequest { from_date: "2026-03-05".to_owned(), ..Default::default() };
    assert!(client.catalog().list_daily_counts(request).await.unwrap().into_inner().counts.is_empty());
    for (definition, field) in [
        (FunnelDefinition { counted: vec![CountedStep::default()], ..chain() }, "definition.counted[0].what"),
        (FunnelDefinition { counted: vec![counted(OffSite::Call, ""); 5], ..chain() }, "definition.counted"),
        (
            FunnelDefinition { counted: vec![counted(OffSite::Call, &"x".repeat(129))], ..chain() },
            "definition.counted[0].metric",
        ),
    ] {
        let request =
            QueryFunnelRequest { funnel: Some(Funnel::Inline(definition)), ..QueryFunnelRequest::default() };
        let refusal = Refusal::from(client.funnel().query_funnel(request).await.unwrap_err());
        assert_eq!(refusal.violations[0].field, field);
    }
}
