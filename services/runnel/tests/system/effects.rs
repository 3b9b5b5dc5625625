//! What a batch changes, told in its own reply: folded, effects are what is asked afterwards, wherever things are.

use std::collections::BTreeMap;

use runnel_client::{
    Client, Refusal, Transport,
    proto::{
        catalog::v1::{Conversion, Counting, DefineConversionRequest, EventRule, Role, Stage, rule},
        effect::v1::{AppendRequest, AppendResponse, Effect},
        event::v1::Event,
        funnel::v1::{DefineFunnelRequest, FunnelDefinition, Step, UnitState},
        ingest::v1::{self as ingest, GetIngestReportRequest},
        query::v1::EventMatch,
        segmentation::v1::{
            Condition, DefineSegmentRequest, GetVisitorRequest, GetVisitorResponse, InStage,
            SegmentDefinition, VisitorUnit, condition::Node,
        },
    },
};
use runnel_harness::{Deployment, Random};
use tonic::transport::Channel;

use crate::{places::everywhere, server::conversion};

everywhere!(effects);

const MINUTE: i64 = 60_000;
const SEGMENTS: [&str; 2] = ["hot", "cold"];

fn on(event: &str) -> EventMatch {
    EventMatch { event: event.to_owned(), ..EventMatch::default() }
}

fn event(visitor: &str, time_ms: i64, name: &str) -> Event {
    Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(time_ms),
        name: name.to_owned(),
        ..Event::default()
    }
}

/// A back end that may write and read.
struct Shop {
    writer: Client<Channel>,
    client: Client<Channel>,
    read: String,
}

impl Shop {
    async fn request(&self, request: AppendRequest) -> Result<AppendResponse, Refusal> {
        let answer = self.writer.effect(&self.read).unwrap().append(request).await;
        answer.map(tonic::Response::into_inner).map_err(Refusal::from)
    }

    async fn append(&self, events: Vec<Event>) -> AppendResponse {
        let batch = ingest::AppendRequest { events, ..Default::default() };
        self.request(asking(batch)).await.unwrap()
    }

    async fn visitor(&self, id: &str) -> GetVisitorResponse {
        let request = GetVisitorRequest {
            visitor_id: id.to_owned(),
            segments: SEGMENTS.map(str::to_owned).to_vec(),
            funnels: vec!["way".to_owned()],
            ..GetVisitorRequest::default()
        };
        self.client.segmentation().get_visitor(request).await.unwrap().into_inner()
    }
}

/// A batch with everything asked of its visitors.
fn asking(batch: ingest::AppendRequest) -> AppendRequest {
    AppendRequest {
        batch: Some(batch),
        segments: SEGMENTS.map(str::to_owned).to_vec(),
        funnels: vec!["way".to_owned()],
        values: false,
    }
}

/// Conversions look, cart and pay, a funnel of them, and two segments.
async fn definitions<S: Transport>(client: &Client<S>) {
    for (name, role, stage) in [
        ("look", Role::Micro, Stage::Interest),
        ("cart", Role::Micro, Stage::Willingness),
        ("pay", Role::Macro, Stage::Unspecified),
    ] {
        let rule = rule::Rule::Event(EventRule { any_of: vec![on(name)] });
        let one = conversion(name, rule, Counting::EveryTime);
        let one = if role == Role::Macro { Conversion { part: 0, family: 0, ..one } } else { one };
        let one = Conversion { role: role as i32, stage: stage as i32, ..one };
        let request = DefineConversionRequest { conversion: Some(one), expected_version: None };
        client.catalog().define_conversion(request).await.unwrap();
    }
    let steps = ["look", "cart", "pay"].map(|name| Step { any_of: vec![on(name)], ..Step::default() });
    let definition = FunnelDefinition { steps: steps.to_vec(), ..FunnelDefinition::default() };
    let request =
        DefineFunnelRequest { name: "way".to_owned(), definition: Some(definition), expected_version: None };
    client.funnel().define_funnel(request).await.unwrap();
    let hot = InStage { stage: Stage::Willingness as i32, within_ms: None };
    let hot = Condition { node: Some(Node::InStage(hot)) };
    let cold = Condition { node: Some(Node::Not(Box::new(hot.clone()))) };
    for (name, condition) in SEGMENTS.into_iter().zip([hot, cold]) {
        let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
        let request = DefineSegmentRequest {
            name: name.to_owned(),
            definition: Some(definition),
            expected_version: None,
        };
        client.segmentation().define_segment(request).await.unwrap();
    }
}

/// What is known of a visitor, by effects alone.
#[derive(Debug, Default, PartialEq)]
struct Folded {
    known: bool,
    stage: i32,
    conversions: BTreeMap<String, u64>,
    segments: Vec<String>,
    units: Vec<(u32, i32, i64, i64)>,
}

fn stand(unit: &VisitorUnit) -> (u32, i32, i64, i64) {
    (unit.step, unit.state, unit.entered_ms, unit.step_ms)
}

impl Folded {
    fn apply(&mut self, effect: &Effect) {
        assert_eq!((self.stage, effect.first), (effect.stage_before, !self.known), "{effect:?}");
        self.known = true;
        self.stage = effect.stage;
        for one in &effect.conversions {
            let times = self.conversions.insert(one.name.clone(), one.times).unwrap_or_default();
            assert_eq!(times, one.times_before, "{effect:?}");
        }
        for name in &effect.left {
            let at = self.segments.iter().position(|segment| segment == name).unwrap();
            self.segments.remove(at);
        }
        for name in &effect.entered {
            assert!(!self.segments.contains(name), "{effect:?}");
            self.segments.push(name.clone());
        }
        self.segments.sort_unstable();
        for funnel in &effect.funnels {
            for unit in &funnel.before {
                let at = self.units.iter().position(|known| *known == stand(unit)).unwrap();
                self.units.remove(at);
            }
            self.units.extend(funnel.now.iter().map(stand));
        }
        self.units.sort_unstable();
    }

    /// The same, by what is asked.
    fn asked(visitor: &GetVisitorResponse) -> Folded {
        let members = visitor.segments.iter().filter(|segment| segment.member);
        let mut segments: Vec<String> = members.map(|segment| segment.name.clone()).collect();
        segments.sort_unstable();
        let mut units: Vec<_> = visitor.funnels[0].units.iter().map(stand).collect();
        units.sort_unstable();
        Folded {
            known: visitor.events > 0,
            stage: visitor.stage,
            conversions: visitor.conversions.iter().map(|one| (one.name.clone(), one.times)).collect(),
            segments,
            units,
        }
    }
}

async fn effects(mut server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    definitions(&client).await;
    let shop = Shop { writer, client, read };
    let began = runnel_chassis::Clock::default().now_ms() - 600 * MINUTE;

    // A visitor looks, puts something into the cart, and pays.
    let told = shop.append(vec![event("a", began, "look")]).await;
    assert_eq!((told.outcome.unwrap().accepted, &*told.untold, told.effects.len()), (1, "", 1));
    let look = &told.effects[0];
    assert_eq!((&*look.visitor_id, &*look.counts_as, look.first), ("a", "a", true));
    assert_eq!((look.stage_before(), look.stage()), (Stage::Unspecified, Stage::Interest));
    assert_eq!((&look.entered[..], look.left.len()), (&["cold".to_owned()][..], 0));
    let cart = &shop.append(vec![event("a", began + MINUTE, "cart")]).await.effects[0];
    assert_eq!((cart.first, cart.stage_before(), cart.stage()), (false, Stage::Interest, Stage::Willingness));
    assert_eq!((&cart.entered[..], &cart.left[..]), (&["hot".to_owned()][..], &["cold".to_owned()][..]));
    let one = &cart.conversions[0];
    assert_eq!((cart.conversions.len(), &*one.name, one.times_before, one.times), (1, "cart", 0, 1));
    let way = &cart.funnels[0];
    assert_eq!((&*way.name, way.version, way.before.len(), way.now.len()), ("way", 1, 1, 1));
    assert_eq!((way.before[0].step, way.now[0].step, &*way.now[0].label), (1, 2, "cart"));
    let both = vec![event("a", began + 2 * MINUTE, "pay"), event("b", began, "look")];
    let batch = ingest::AppendRequest { request_id: "both".to_owned(), events: both, ..Default::default() };
    let told = shop.request(asking(batch.clone())).await.unwrap();
    assert_eq!(told.effects.iter().map(|one| &*one.visitor_id).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told.effects[0].funnels[0].now[0].state(), UnitState::Converted);
    assert!(told.effects[1].first);

    // Sent again it stores nothing, and so changes nothing.
    let again = shop.request(asking(batch)).await.unwrap();
    assert!(again.outcome.unwrap().repeated);
    let nothing = |effect: &Effect| {
        effect.stage == effect.stage_before
            && effect.conversions.is_empty()
            && effect.entered.is_empty()
            && effect.left.is_empty()
            && effect.funnels.is_empty()
    };
    assert!(again.effects.len() == 2 && again.effects.iter().all(nothing), "{:?}", again.effects);

    // What only looks stores nothing, and so does what asks wrongly.
    let counted = shop.writer.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap();
    let counted = counted.into_inner().counted;
    let batch = |visitors: usize| ingest::AppendRequest {
        events: (0..visitors).map(|at| event(&format!("new-{at}"), began, "look")).collect(),
        ..Default::default()
    };
    let dry = ingest::AppendRequest { validate_only: true, ..batch(1) };
    let dry = shop.request(asking(dry)).await.unwrap();
    assert_eq!((dry.outcome.unwrap().accepted, dry.effects.len(), &*dry.untold), (1, 0, ""));
    let unknown = AppendRequest { segments: vec!["hott".to_owned()], ..asking(batch(1)) };
    let unknown = shop.request(unknown).await.unwrap_err();
    assert_eq!((&*unknown.reason, &*unknown.violations[0].field), ("NOT_FOUND", "segments[0]"));
    let many = shop.request(asking(batch(11))).await.unwrap_err();
    assert_eq!((&*many.reason, &*many.violations[0].field), ("BATCH_TOO_LONG", "batch.events"));
    let empty = shop.request(AppendRequest::default()).await.unwrap_err();
    assert_eq!((&*empty.reason, &*empty.violations[0].field), ("FIELD_MISSING", "batch"));
    let now = shop.writer.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap();
    assert_eq!(now.into_inner().counted, counted);

    folded(&shop, began).await;

    // Who cannot be looked at is stored all the same.
    if let Some(segmentation) = server.processes.get_mut("segmentation") {
        segmentation.kill().unwrap();
        let told = shop.append(vec![event("c", began, "look")]).await;
        assert_eq!((told.outcome.unwrap().accepted, told.effects.len()), (1, 0));
        assert!(told.untold.starts_with("The effects are not known: "), "{}", told.untold);
    }
}

/// Random batches, with repeats and events out of order.
async fn folded(shop: &Shop, began: i64) {
    let mut random = Random(7);
    let mut known: BTreeMap<String, Folded> = BTreeMap::new();
    let mut sent: Vec<Event> = Vec::new();
    let mut changes = 0;
    for _ in 0..60 {
        let mut events = Vec::new();
        for _ in 0..=random.below(6) {
            if !sent.is_empty() && random.below(5) == 0 {
                events.push(sent[random.below(sent.len() as u64) as usize].clone());
                continue;
            }
            let visitor = format!("random-{}", random.below(12));
            let name = ["look", "cart", "pay", "other"][random.below(4) as usize];
            events.push(event(&visitor, began + random.below(500) as i64 * MINUTE, name));
        }
        sent.extend(events.iter().cloned());
        let told = shop.append(events).await;
        assert_eq!(told.untold, "");
        for effect in &told.effects {
            changes += effect.funnels.len();
            known.entry(effect.visitor_id.clone()).or_default().apply(effect);
        }
    }
    assert!(known.len() == 12 && changes > 30, "{} visitors, {changes} changes", known.len());
    for (id, folded) in &known {
        assert_eq!(folded, &Folded::asked(&shop.visitor(id).await), "{id}");
    }
}
