//! What is watched adds up to what is asked, in every place, through restarts of every process, and soon.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runnel_client::{
    Client, Watch,
    proto::{
        admin::v1::KeyKind,
        event::v1::{Event, Money},
        funnel::v1::{
            DefineFunnelRequest, FunnelDefinition, QueryFunnelRequest, Step, UnitState, query_funnel_request,
        },
        identity::v1::{Identification, IdentifyRequest},
        query::v1::{EventMatch, Revision},
        segmentation::v1::{
            Absent, ChangeCause, Condition, CountSegmentRequest, DefineSegmentRequest, FunnelChangeKind,
            Occurrence, SegmentDefinition, SegmentRef, StreamMembersRequest, WatchFunnelRequest,
            WatchSegmentRequest, WatchedFunnel, condition::Node, occurrence::What, segment_ref,
            watched_funnel,
        },
        subject::v1::EraseRequest,
    },
};
use runnel_harness::Deployment;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::places::everywhere;

everywhere!(watched);

const STEPS: [&str; 3] = ["look", "cart", "pay"];
/// How long a cart has to stand to be left.
const LEFT_MS: i64 = 1_500;
const WINDOW_MS: i64 = 4_000;

fn event_match(name: &str) -> EventMatch {
    EventMatch { event: name.to_owned(), ..EventMatch::default() }
}

fn definition() -> FunnelDefinition {
    let steps = STEPS.map(|name| Step { any_of: vec![event_match(name)], ..Step::default() });
    FunnelDefinition { steps: steps.into(), window_ms: Some(WINDOW_MS), ..FunnelDefinition::default() }
}

fn named() -> Option<SegmentRef> {
    Some(SegmentRef { segment: Some(segment_ref::Segment::Name("left".to_owned())) })
}

fn in_the_cart() -> Money {
    Money { micros: 59_900_000, currency: "EUR".to_owned() }
}

fn now_ms() -> i64 {
    runnel_chassis::Clock::default().now_ms()
}

/// Who watches, and what it was told.
struct Watcher {
    reader: Client<Channel>,
    segment: Watch<Channel, WatchSegmentRequest>,
    funnel: Watch<Channel, WatchFunnelRequest>,
    members: BTreeSet<String>,
    units: BTreeMap<String, (u32, i32)>,
    causes: BTreeMap<(String, bool), ChangeCause>,
    kinds: BTreeMap<String, Vec<FunnelChangeKind>>,
    /// What is at stake, as it was told last.
    stakes: BTreeMap<String, Money>,
    resets: usize,
    /// As of when, and how many there were.
    visitors: (i64, u64),
    seen: (i64, Revision, i64, Revision),
}

impl Watcher {
    fn new(reader: Client<Channel>) -> Watcher {
        let segment = WatchSegmentRequest {
            segment: named(),
            members: true,
            totals_every_ms: Some(1_000),
            ..WatchSegmentRequest::default()
        };
        let funnel = WatchFunnelRequest {
            funnel: Some(WatchedFunnel { funnel: Some(watched_funnel::Funnel::Name("shop".to_owned())) }),
            units: true,
            values: true,
            totals_every_ms: Some(1_000),
            ..WatchFunnelRequest::default()
        };
        Watcher {
            segment: reader.watch_segment(segment),
            funnel: reader.watch_funnel(funnel),
            reader,
            members: BTreeSet::new(),
            units: BTreeMap::new(),
            causes: BTreeMap::new(),
            kinds: BTreeMap::new(),
            stakes: BTreeMap::new(),
            resets: 0,
            visitors: (0, 0),
            seen: (0, Revision::default(), 0, Revision::default()),
        }
    }

    /// Takes in the next message of either stream.
    async fn next(&mut self) {
        tokio::select! {
            told = self.segment.next() => {
                let told = told.unwrap();
                if told.reset {
                    self.members.clear();
                    self.resets += 1;
                }
                for change in told.changes {
                    self.causes.insert((change.visitor_id.clone(), change.member), change.cause());
                    match change.member {
                        true => assert!(self.members.insert(change.visitor_id.clone()), "{change:?}"),
                        false => assert!(self.members.remove(&change.visitor_id), "{change:?}"),
                    }
                }
                if let Some(totals) = told.totals {
                    self.visitors = (told.as_of_ms, totals.visitors);
                    if !told.cursor.is_empty() {
                        assert_eq!(totals.members, self.members.len() as u64);
                    }
                }
                (self.seen.0, self.seen.1) = (told.as_of_ms, told.revision.unwrap());
            }
            told = self.funnel.next() => {
                let told = told.unwrap();
                if told.reset {
                    self.units.clear();
                    self.resets += 1;
                }
                for change in told.changes {
                    let stake = change.after.as_ref().and_then(|unit| unit.value.clone());
                    match stake {
                        Some(stake) => drop(self.stakes.insert(change.visitor_id.clone(), stake)),
                        None => drop(self.stakes.remove(&change.visitor_id)),
                    }
                    self.kinds.entry(change.visitor_id.clone()).or_default().push(change.kind());
                    let place = |unit: &runnel_client::proto::segmentation::v1::VisitorUnit| (unit.step, unit.state);
                    let before = match &change.after {
                        Some(after) => self.units.insert(change.visitor_id.clone(), place(after)),
                        None => self.units.remove(&change.visitor_id),
                    };
                    assert_eq!(before, change.before.as_ref().map(place), "{change:?}");
                }
                (self.seen.2, self.seen.3) = (told.as_of_ms, told.revision.unwrap());
            }
        }
    }

    /// Waits until something is so by what was told.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Watcher) -> bool) {
        let waited = timeout(Duration::from_secs(60), async {
            while !is_so(self) {
                self.next().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what} within a minute"));
    }

    /// Takes in everything that is known by now, and compares it with the batch answers of the same instant.
    async fn compare(&mut self, what: &str) {
        let begun_ms = now_ms();
        let is_told = |watcher: &Watcher| {
            watcher.seen.0 > begun_ms && watcher.seen.2 > begun_ms && watcher.visitors.0 > begun_ms
        };
        self.until(what, is_told).await;
        let request = CountSegmentRequest { segment: named(), as_of_ms: Some(self.visitors.0) };
        let counted = self.reader.segmentation().count_segment(request).await.unwrap().into_inner();
        assert_eq!(counted.visitors, self.visitors.1, "{what}");
        let request = StreamMembersRequest { segment: named(), as_of_ms: Some(self.seen.0) };
        let mut parts = self.reader.segmentation().stream_members(request).await.unwrap().into_inner();
        let mut members = BTreeSet::new();
        let mut known = None;
        while let Some(part) = parts.message().await.unwrap() {
            members.extend(part.visitor_ids);
            known = known.or(part.provenance.and_then(|provenance| provenance.revision));
        }
        assert_eq!(known, Some(self.seen.1), "nothing came in between, {what}");
        assert_eq!(self.members, members, "{what}");
        let query = QueryFunnelRequest {
            funnel: Some(query_funnel_request::Funnel::Name("shop".to_owned())),
            as_of_ms: Some(self.seen.2),
            ..QueryFunnelRequest::default()
        };
        let answer = self.reader.funnel().query_funnel(query).await.unwrap().into_inner();
        for (at, step) in answer.steps.iter().enumerate() {
            let reached = self.units.values().filter(|(step, _)| *step > at as u32).count() as u64;
            assert_eq!(step.reached, reached, "{} {what}", step.label);
        }
        let totals = answer.totals.unwrap();
        let of = |state: UnitState| self.units.values().filter(|(_, is)| *is == state as i32).count() as u64;
        assert_eq!(
            (totals.converted, totals.dropped, totals.open),
            (of(UnitState::Converted), of(UnitState::Dropped), of(UnitState::Open)),
            "{what}"
        );
    }
}

async fn watched(mut server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let reader = Client::connect(&server.endpoint, &read).await.unwrap();
    let eraser = server.key("shop", KeyKind::Erase).await.unwrap();
    let eraser = Client::connect(&server.endpoint, &eraser).await.unwrap();
    let absent = Absent {
        after: vec![Occurrence { what: Some(What::Event(event_match("cart"))) }],
        without: vec![Occurrence { what: Some(What::Event(event_match("pay"))) }],
        for_ms: LEFT_MS,
        within_ms: None,
    };
    let segment = SegmentDefinition {
        condition: Some(Condition { node: Some(Node::Absent(absent)) }),
        ..SegmentDefinition::default()
    };
    let request =
        DefineSegmentRequest { name: "left".to_owned(), definition: Some(segment), expected_version: None };
    reader.segmentation().define_segment(request).await.unwrap();
    let request = DefineFunnelRequest {
        name: "shop".to_owned(),
        definition: Some(definition()),
        expected_version: None,
    };
    reader.funnel().define_funnel(request).await.unwrap();
    let send = async |visitor: &str, name: &str, ago_ms: i64| {
        let event = Event {
            visitor_id: visitor.to_owned(),
            name: name.to_owned(),
            time_ms: Some(now_ms() - ago_ms),
            value: (name == "cart").then(in_the_cart),
            ..Event::default()
        };
        writer.append(vec![event], None).await.unwrap();
    };
    send("early", "look", 60_000).await;
    let mut watcher = Watcher::new(reader.clone());
    watcher
        .until("the first answer", |watcher| watcher.units.contains_key("early") && watcher.seen.0 > 0)
        .await;

    // Somebody pays, somebody does not.
    for name in STEPS {
        send("buyer", name, 0).await;
    }
    send("leaver", "look", 0).await;
    send("leaver", "cart", 0).await;
    let carted_ms = now_ms();
    let converted = |watcher: &Watcher| watcher.units.get("buyer") == Some(&(3, UnitState::Converted as i32));
    watcher.until("the buyer converts", converted).await;
    watcher.until("the leaver leaves", |watcher| watcher.members.contains("leaver")).await;
    let after_ms = now_ms() - carted_ms;
    assert!(after_ms > LEFT_MS - 100, "{after_ms} ms after the cart");
    assert_eq!(watcher.causes[&("leaver".to_owned(), true)], ChangeCause::Time);
    let dropped = |watcher: &Watcher| watcher.units.get("leaver") == Some(&(2, UnitState::Dropped as i32));
    watcher.until("the window of the leaver ends", dropped).await;
    assert!(!watcher.members.contains("buyer"));
    assert_eq!(watcher.stakes.get("leaver"), Some(&in_the_cart()));
    assert_eq!(watcher.stakes.get("early"), None, "who only looked has nothing in the cart");
    watcher.compare("after two visitors").await;

    // A payment that comes late makes good again.
    send("late", "look", WINDOW_MS + 3_000).await;
    send("late", "cart", WINDOW_MS + 2_000).await;
    watcher.until("an old cart", |watcher| watcher.members.contains("late")).await;
    send("late", "pay", WINDOW_MS + 2_500 - 1_000).await;
    watcher.until("a late payment", |watcher| !watcher.members.contains("late")).await;
    watcher.compare("after a late event").await;

    // Who did the steps turns out to be one person.
    send("cookie", "look", 3_000).await;
    send("cookie", "cart", 2_900).await;
    send("customer", "pay", 2_800).await;
    watcher.until("a cart of nobody who pays", |watcher| watcher.members.contains("cookie")).await;
    let identification = Identification {
        anonymous_id: "cookie".to_owned(),
        known_id: "customer".to_owned(),
        time_ms: Some(now_ms()),
    };
    let request = IdentifyRequest { identifications: vec![identification] };
    writer.identity().identify(request).await.unwrap();
    let is_one = |watcher: &Watcher| {
        !watcher.members.contains("cookie")
            && watcher.units.get("customer") == Some(&(3, UnitState::Converted as i32))
    };
    watcher.until("one person", is_one).await;
    assert_eq!(watcher.causes[&("cookie".to_owned(), false)], ChangeCause::Identity);
    watcher.compare("after an identification").await;

    // Every process is killed and starts again; what happened meanwhile is told.
    let resets = watcher.resets;
    send("through", "look", 0).await;
    send("through", "cart", 0).await;
    watcher.until("a cart before the restart", |watcher| watcher.units.contains_key("through")).await;
    for process in server.processes.values_mut() {
        process.kill().unwrap();
        process.restart().unwrap();
    }
    let left = |watcher: &Watcher| watcher.members.contains("through");
    watcher.until("the cart is left after the restart", left).await;
    send("after", "look", 0).await;
    watcher.until("somebody comes after the restart", |watcher| watcher.units.contains_key("after")).await;
    watcher.compare("after a restart").await;
    assert_eq!(watcher.resets, resets, "a cursor is good in another process");

    // Hot state is forgotten, which nobody notices.
    if let Some(redis) = &server.stores().redis {
        redis.flush_all().unwrap();
    }
    send("forgotten", "look", 0).await;
    watcher.until("somebody comes then", |watcher| watcher.units.contains_key("forgotten")).await;
    watcher.compare("after hot state was lost").await;

    let request = EraseRequest { visitor_id: "leaver".to_owned() };
    eraser.subject().erase(request).await.unwrap();
    let gone =
        |watcher: &Watcher| !watcher.members.contains("leaver") && !watcher.units.contains_key("leaver");
    watcher.until("the erased are gone", gone).await;
    watcher.compare("after an erasure").await;
    use FunnelChangeKind::{Advanced, Dropped, Entered, Restated};
    assert_eq!(watcher.kinds["leaver"].last(), Some(&Restated));
    assert!(watcher.kinds["leaver"].contains(&Dropped));
    assert!(watcher.kinds.values().flatten().any(|kind| *kind == Entered || *kind == Advanced));
}
