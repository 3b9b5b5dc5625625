//! What ad networks may be told: nobody who has not agreed, identifiers as they are published, every conversion once, wherever things are.

use std::collections::BTreeMap;

use runnel_client::{
    Client, Refusal,
    proto::{
        audience::v1::{
            ExportAudienceRequest, ExportConversionsRequest, ExportedConversion, Goal, HashedIdentifiers,
            Identifiers, Withheld,
        },
        catalog::v1::{
            Conversion, ConversionValue, Counting, DefineConversionRequest, EventRule, Part, Role,
            conversion_value, rule,
        },
        event::v1::{Campaign, Consent, ConsentState, Event, Money, Value, value::Kind},
        identity::v1::{Identification, IdentifyRequest},
        query::v1::{EventMatch, TimeRange},
        segmentation::v1::{
            Condition, DefineSegmentRequest, Happened, Occurrence, SegmentDefinition, SegmentRef,
            condition::Node, occurrence::What, segment_ref,
        },
    },
};
use runnel_harness::{Deployment, Random};
use tonic::{Code, Status, transport::Channel};

use crate::{command::runnel, places::everywhere, server::conversion};

everywhere!(audiences);

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;
/// Spellings, each with its SHA-256; what has none is no address, or no number with a country code.
const EMAILS: [(&str, Option<&str>); 4] = [
    ("Alexz@Example.com ", Some("509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a")),
    ("t.est+shop@gmail.com", Some("87924606b4131a8aceeeae8868531fbb9712aaa07a5d3a756b26ce0f5d6ca674")),
    ("test@gmail.com", Some("87924606b4131a8aceeeae8868531fbb9712aaa07a5d3a756b26ce0f5d6ca674")),
    ("quinn", None),
];
const PHONES: [(&str, Option<&str>); 3] = [
    ("+1 (800) 555-0100", Some("fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30")),
    ("0044 113 496 0987", Some("0fac52d27ec377f8ad2f9de75d1f9bace693237e31868ae6f4616b8bbd0e94fb")),
    ("030 1234567", None),
];
const NAMES: [&str; 3] = ["look", "cart", "pay"];

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// Events of 24 people, of whom some have two ids, no two at one instant. Who denies ads does not deny analytics.
fn events(random: &mut Random) -> Vec<Event> {
    let mut events = Vec::new();
    for minute in 0..600 {
        let person = random.below(24);
        let anonymous = person < 6 && random.below(2) == 0;
        let mut event = Event {
            visitor_id: format!("{}-{person}", if anonymous { "anonymous" } else { "user" }),
            time_ms: Some(START + minute * MINUTE),
            name: NAMES[random.below(3) as usize].to_owned(),
            ..Event::default()
        };
        if random.below(6) == 0 {
            let ads = [ConsentState::Granted, ConsentState::Granted, ConsentState::Denied];
            let ads = ads[random.below(3) as usize] as i32;
            let personalization = [ConsentState::Unspecified, ConsentState::Granted, ConsentState::Denied];
            let personalization = personalization[random.below(3) as usize] as i32;
            event.consent = Some(Consent { ads, personalization, ..Consent::default() });
        }
        if random.below(8) == 0 {
            let (email, _) = EMAILS[random.below(4) as usize];
            event.properties.insert("email".to_owned(), text(email));
        }
        if random.below(8) == 0 {
            let (phone, _) = PHONES[random.below(3) as usize];
            event.properties.insert("phone".to_owned(), text(phone));
        }
        if random.below(5) == 0 {
            let kinds = ["", "gclid=", "wbraid:", "fbclid="];
            let click_id = format!("{}click-{minute}", kinds[random.below(4) as usize]);
            event.campaign = Some(Campaign { click_id, ..Campaign::default() });
        }
        if event.name == "pay" && random.below(4) > 0 {
            event.value = Some(Money { micros: 1_000_000 * (minute + 1), currency: "EUR".to_owned() });
        }
        events.push(event);
    }
    events
}

/// What is known of a person at an instant, by looking at every event.
struct Slow<'a> {
    /// Those of before the instant.
    events: Vec<&'a Event>,
    /// All that were sent.
    all: Vec<&'a Event>,
}

impl Slow<'_> {
    /// The latest word on a purpose, whatever the instant.
    fn word(&self, purpose: fn(&Consent) -> ConsentState) -> ConsentState {
        let said = self.all.iter().rev().filter_map(|event| event.consent.as_ref());
        said.map(purpose).find(|word| *word != ConsentState::Unspecified).unwrap_or_default()
    }

    /// The hash of the latest value of a property, and how many values are of no use.
    fn hashed(&self, property: &str, table: &[(&str, Option<&str>)]) -> (Vec<String>, u64) {
        let latest = self.events.iter().rev().find_map(|event| event.properties.get(property));
        let Some(Kind::StringValue(latest)) = latest.and_then(|value| value.kind.clone()) else {
            return (Vec::new(), 0);
        };
        match table.iter().find(|(spelling, _)| *spelling == latest).unwrap().1 {
            Some(hash) => (vec![hash.to_owned()], 0),
            None => (Vec::new(), 1),
        }
    }

    fn identifiers(&self) -> Option<HashedIdentifiers> {
        let (email_sha256, _) = self.hashed("email", &EMAILS);
        let (phone_sha256, _) = self.hashed("phone", &PHONES);
        let told = !email_sha256.is_empty() || !phone_sha256.is_empty();
        told.then_some(HashedIdentifiers { email_sha256, phone_sha256 })
    }

    /// Kind and id of the latest click of this network.
    fn click(&self, until_ms: i64, within_ms: i64) -> (String, String) {
        let clicks = self.events.iter().rev().filter(|event| {
            let time_ms = event.time_ms.unwrap();
            time_ms <= until_ms && time_ms >= until_ms - within_ms
        });
        clicks
            .filter_map(|event| event.campaign.as_ref())
            .find_map(|campaign| match campaign.click_id.split_once(['=', ':']) {
                Some(("fbclid", _)) => None,
                Some((kind, id)) => Some((kind.to_owned(), id.to_owned())),
                None => Some(("gclid".to_owned(), campaign.click_id.clone())),
            })
            .unwrap_or_default()
    }
}

/// Everybody's events before an instant, in order.
fn people(events: &[Event], as_of_ms: i64) -> Vec<Slow<'_>> {
    let mut people: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in events {
        people.entry(event.visitor_id.replace("anonymous", "user")).or_default().push(event);
    }
    let before = |event: &&Event| event.time_ms.unwrap() < as_of_ms;
    people
        .into_values()
        .map(|all| Slow { events: all.iter().copied().filter(before).collect(), all })
        .collect()
}

fn withhold(withheld: &mut Withheld, word: ConsentState) {
    match word {
        ConsentState::Granted => withheld.without_identifier += 1,
        ConsentState::Denied => withheld.denied += 1,
        ConsentState::Unspecified => withheld.unknown += 1,
    }
}

fn did(name: &str) -> Option<SegmentRef> {
    let event = EventMatch { event: name.to_owned(), ..EventMatch::default() };
    let any_of = vec![Occurrence { what: Some(What::Event(event)) }];
    let condition = Condition { node: Some(Node::Happened(Happened { any_of, ..Happened::default() })) };
    let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
    Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) })
}

async fn define(client: &Client<Channel>) {
    for name in NAMES {
        let event = EventMatch { event: name.to_owned(), ..EventMatch::default() };
        let rule = rule::Rule::Event(EventRule { any_of: vec![event] });
        let one = conversion(name, rule, Counting::EveryTime);
        let two_euros = Money { micros: 2_000_000, currency: "EUR".to_owned() };
        let value = ConversionValue { value: Some(conversion_value::Value::Fixed(two_euros)) };
        let one = match name {
            "pay" => Conversion { role: Role::Macro as i32, part: 0, family: 0, stage: 0, ..one },
            "cart" => Conversion { part: Part::Step as i32, value: Some(value), ..one },
            _ => one,
        };
        let request = DefineConversionRequest { conversion: Some(one), expected_version: None };
        client.catalog().define_conversion(request).await.unwrap();
    }
}

/// Compares what is exported with what looking at every event says.
async fn compare(client: &Client<Channel>, events: &[Event], as_of_ms: i64, random: &mut Random) {
    let people = people(events, as_of_ms);
    let request = ExportAudienceRequest { segment: did("cart"), as_of_ms: Some(as_of_ms), identifiers: None };
    let mut parts = client.audience().export_audience(request).await.unwrap().into_inner();
    let (mut found, mut totals) = (Vec::new(), None);
    while let Some(part) = parts.message().await.unwrap() {
        assert!(totals.is_none(), "totals come at the end");
        found.extend(part.members);
        totals = part.totals;
    }
    let (totals, mut expected, mut withheld) = (totals.unwrap(), Vec::new(), Withheld::default());
    let (mut members, mut bad_emails, mut bad_phones) = (0, 0, 0);
    for person in people.iter().filter(|one| one.events.iter().any(|event| event.name == "cart")) {
        members += 1;
        let word = match (person.word(Consent::ads), person.word(Consent::personalization)) {
            (ConsentState::Granted, ConsentState::Denied) => ConsentState::Denied,
            (word, _) => word,
        };
        if word == ConsentState::Granted {
            bad_emails += person.hashed("email", &EMAILS).1;
            bad_phones += person.hashed("phone", &PHONES).1;
        }
        match person.identifiers() {
            Some(identifiers) if word == ConsentState::Granted => expected.push(identifiers),
            _ => withhold(&mut withheld, word),
        }
    }
    let key = |one: &HashedIdentifiers| format!("{one:?}");
    found.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(found, expected, "as of {as_of_ms}");
    assert_eq!(
        (totals.members, totals.exported, totals.withheld),
        (members, expected.len() as u64, Some(withheld))
    );
    assert_eq!((totals.unusable_emails, totals.unusable_phones), (bad_emails, bad_phones));

    let from_ms = START + random.below(300) as i64 * MINUTE;
    let within_ms = random.below(90) as i64 * MINUTE;
    let range = TimeRange { from_ms: Some(from_ms), until_ms: None };
    let names = if random.below(2) == 0 { Vec::new() } else { vec!["pay".to_owned(), "cart".to_owned()] };
    let request = ExportConversionsRequest {
        conversions: names.clone(),
        range: Some(range),
        as_of_ms: Some(as_of_ms.max(from_ms)),
        click_within_ms: Some(within_ms),
        identifiers: None,
    };
    let as_of_ms = as_of_ms.max(from_ms);
    let people = self::people(events, as_of_ms);
    let mut parts = client.audience().export_conversions(request).await.unwrap().into_inner();
    let (mut found, mut totals) = (Vec::new(), Vec::new());
    while let Some(part) = parts.message().await.unwrap() {
        found.extend(part.conversions);
        totals.extend(part.totals);
    }
    let mut expected = Vec::new();
    for one in &totals {
        let (mut happened, mut exported, mut withheld) = (0, 0, Withheld::default());
        for person in &people {
            let which = person.events.iter().filter(|event| event.name == one.conversion);
            for event in which.filter(|event| event.time_ms.unwrap() >= from_ms) {
                happened += 1;
                let time_ms = event.time_ms.unwrap();
                let ((click_kind, click_id), identifiers) =
                    (person.click(time_ms, within_ms), person.identifiers());
                let known = !click_id.is_empty() || identifiers.is_some();
                let word = person.word(Consent::ads);
                if word != ConsentState::Granted || !known {
                    withhold(&mut withheld, word);
                    continue;
                }
                exported += 1;
                let goal = if one.conversion == "pay" { Goal::Primary } else { Goal::Secondary } as i32;
                let value = match &*one.conversion {
                    "cart" => Some(Money { micros: 2_000_000, currency: "EUR".to_owned() }),
                    _ => event.value.clone(),
                };
                let conversion = one.conversion.clone();
                let personalization = person.word(Consent::personalization) as i32;
                expected.push(ExportedConversion {
                    conversion,
                    goal,
                    time_ms,
                    click_id,
                    value,
                    identifiers,
                    click_kind,
                    personalization,
                });
            }
        }
        assert_eq!((one.happened, one.exported, one.withheld), (happened, exported, Some(withheld)));
    }
    let named: Vec<&str> = totals.iter().map(|one| one.conversion.as_str()).collect();
    assert_eq!(named, if names.is_empty() { vec!["cart", "look", "pay"] } else { vec!["cart", "pay"] });
    let key = |one: &ExportedConversion| (one.time_ms, one.conversion.clone());
    found.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(found, expected, "as of {as_of_ms} from {from_ms}");
}

/// The reason and the field of a refusal.
fn refused(status: Status) -> (String, String) {
    let refusal = Refusal::from(status);
    (refusal.reason, refusal.violations.into_iter().map(|one| one.field).collect())
}

async fn audiences(server: Deployment) {
    let mut random = Random(7);
    for round in 0..3 {
        let (write, read) = server.tenant(&format!("shop-{round}")).await.unwrap();
        let writer = Client::connect(&server.endpoint, &write).await.unwrap();
        let client = Client::connect(&server.endpoint, &read).await.unwrap();
        let events = events(&mut random);
        define(&client).await;
        let identifications = (0..6).map(|person| Identification {
            anonymous_id: format!("anonymous-{person}"),
            known_id: format!("user-{person}"),
            time_ms: Some(START),
        });
        let request = IdentifyRequest { identifications: identifications.collect() };
        writer.identity().identify(request).await.unwrap();
        // In two parts, so that some journeys have newer events than what is loaded already.
        for part in [0, 1] {
            let half = events.iter().enumerate().filter(|(at, _)| at % 2 == part);
            let half: Vec<Event> = half.map(|(_, event)| event.clone()).collect();
            writer.append(half, None).await.unwrap();
            let sent: Vec<Event> = match part {
                0 => events.iter().step_by(2).cloned().collect(),
                _ => events.clone(),
            };
            for _ in 0..6 {
                let as_of_ms = START + random.below(601) as i64 * MINUTE + random.below(2) as i64;
                compare(&client, &sent, as_of_ms, &mut random).await;
            }
        }
    }
    files(&server).await;
    wrong(&server).await;
}

/// What the command line writes of it.
async fn files(server: &Deployment) {
    let (write, read) = server.tenant("files").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    define(&client).await;
    let request = DefineSegmentRequest {
        name: "carts".to_owned(),
        definition: did("cart").and_then(|segment| match segment.segment {
            Some(segment_ref::Segment::Inline(inline)) => Some(inline),
            _ => None,
        }),
        expected_version: None,
    };
    client.segmentation().define_segment(request).await.unwrap();
    let consent = |ads: ConsentState| {
        let personalization = ConsentState::Denied as i32;
        Some(Consent { ads: ads as i32, personalization, ..Consent::default() })
    };
    let event = |visitor: &str, minute: i64, name: &str| Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(START + minute * MINUTE),
        name: name.to_owned(),
        ..Event::default()
    };
    let granted = Some(Consent { ads: ConsentState::Granted as i32, ..Consent::default() });
    let email = |address: &str| [("email".to_owned(), text(address))].into();
    let events = vec![
        Event { properties: email(" AlexZ@example.com"), consent: granted, ..event("a", 0, "cart") },
        Event {
            value: Some(Money { micros: 59_900_000, currency: "EUR".to_owned() }),
            ..event("a", 1, "pay")
        },
        Event { consent: consent(ConsentState::Denied), ..event("b", 0, "cart") },
        event("c", 0, "cart"),
        Event {
            consent: consent(ConsentState::Granted),
            campaign: Some(Campaign { click_id: "gbraid=x1".to_owned(), ..Campaign::default() }),
            ..event("d", 0, "pay")
        },
    ];
    writer.append(events, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("ads.csv");
    let run = |what: &[&str]| {
        let place = ["--endpoint", &server.endpoint, "--key", &read];
        let said = runnel(&[&["export", "--to", to.to_str().unwrap()], what, &place].concat());
        assert!(said.success, "{}", said.err);
        said.out
    };
    let told = run(&["--audience", "carts"]);
    assert!(told.contains("said nothing of ads"), "{told}");
    let hash = EMAILS[0].1.unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), format!("Email,Phone\n{hash},\n"));
    run(&["--conversions"]);
    let of = |goal: &str| std::fs::read_to_string(folder.path().join(format!("ads-{goal}.csv"))).unwrap();
    let (primary, secondary) = (of("primary"), of("secondary"));
    let lines: Vec<&str> = primary.lines().collect();
    assert_eq!(lines.len(), 3, "{primary}");
    assert!(
        lines.contains(&&*format!(",,,{hash},,pay,2026-01-01 00:01:00+0000,59.9,EUR,Granted,")),
        "{primary}"
    );
    assert!(lines.contains(&",x1,,,,pay,2026-01-01 00:00:00+0000,,,Granted,Denied"), "{primary}");
    assert_eq!(secondary.lines().count(), 2, "{secondary}");
    assert!(secondary.contains(",cart,2026-01-01 00:00:00+0000,2,EUR,Granted,"), "{secondary}");
}

/// What is wrong is refused by name.
async fn wrong(server: &Deployment) {
    let (_, read) = server.tenant("wrong").await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    let audience = async |request: ExportAudienceRequest| {
        let parts = client.audience().export_audience(request).await;
        let mut parts = match parts {
            Ok(parts) => parts.into_inner(),
            Err(status) => return refused(status),
        };
        refused(parts.message().await.unwrap_err())
    };
    let conversions = async |request: ExportConversionsRequest| {
        let mut parts = match client.audience().export_conversions(request).await {
            Ok(parts) => parts.into_inner(),
            Err(status) => return refused(status),
        };
        refused(parts.message().await.unwrap_err())
    };
    let told = |reason: &str, field: &str| (reason.to_owned(), field.to_owned());
    assert_eq!(audience(ExportAudienceRequest::default()).await, told("FIELD_MISSING", "segment"));
    let of =
        |emails: Vec<String>| Some(Identifiers { email_properties: emails, phone_properties: Vec::new() });
    let request = ExportAudienceRequest {
        segment: did("cart"),
        identifiers: of(vec![String::new()]),
        ..ExportAudienceRequest::default()
    };
    assert_eq!(audience(request).await, told("FIELD_MISSING", "identifiers.email_properties[0]"));
    let request = ExportConversionsRequest {
        identifiers: of(vec!["mail".to_owned(); 5]),
        ..ExportConversionsRequest::default()
    };
    assert_eq!(conversions(request).await, told("NUMBER_OUT_OF_RANGE", "identifiers.email_properties"));
    let request =
        ExportConversionsRequest { click_within_ms: Some(-1), ..ExportConversionsRequest::default() };
    assert_eq!(conversions(request).await, told("NUMBER_OUT_OF_RANGE", "click_within_ms"));
    let request = ExportConversionsRequest {
        conversions: vec!["no".to_owned()],
        ..ExportConversionsRequest::default()
    };
    assert_eq!(conversions(request).await, told("CONVERSION_UNKNOWN", "conversions[0]"));
    let request = ExportConversionsRequest {
        conversions: vec!["no".to_owned(); 33],
        ..ExportConversionsRequest::default()
    };
    assert_eq!(conversions(request).await, told("NUMBER_OUT_OF_RANGE", "conversions"));
    // Nobody has ever come, and nothing is defined: an empty answer that says why.
    let request = ExportAudienceRequest { segment: did("cart"), ..ExportAudienceRequest::default() };
    let mut parts = client.audience().export_audience(request).await.unwrap().into_inner();
    let only = parts.message().await.unwrap().unwrap();
    assert_eq!((only.members.len(), only.totals.unwrap().members), (0, 0));
    let notes = only.provenance.unwrap().notes.join("\n");
    assert!(notes.contains("\"email\"") && notes.contains("\"phone\""), "{notes}");
    let stranger = Client::connect(&server.endpoint, "rk_read_0123456789ab_00").await;
    assert!(
        stranger.is_err() || {
            let request = ExportConversionsRequest::default();
            let status = stranger.unwrap().audience().export_conversions(request).await.unwrap_err();
            status.code() == Code::Unauthenticated
        }
    );
}
